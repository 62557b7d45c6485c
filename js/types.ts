/** The shapes that an app meets. Names are camelCase here and snake_case in the engine; `client.ts` translates, nothing else does. */
import type { Json, SyncError, SyncErrorCode } from './errors.js';

// ---- options -------------------------------------------------------------------------------------------------------

export interface OpenOptions {
  /** The app, as part of the database's name. */
  readonly name: string;
  /** The signed-in user, as the token's `sub` names them. A database belongs to one user. */
  readonly user: string;
  /** Where push, pull, status and live are found, for example `/v1/sync`. Left out where there is a `transport`. */
  readonly url?: string;
  readonly auth: TokenAuth | 'cookie';
  readonly collections: Readonly<Record<string, CollectionOptions>>;
  /** A name for this device that a person would recognise. */
  readonly device?: string;
  /** The version of the app's records, sent with every push. Default 1. */
  readonly schemaVersion?: number;
  /** How records of older versions look to this one. By the version that brought the change, 2 for example. */
  readonly migrations?: Readonly<Record<number, Readonly<Record<string, Migration>>>>;
  /** `strict` (default): a resolved write has reached the disk. `relaxed`: it has reached the operating system. */
  readonly durability?: 'strict' | 'relaxed';
  readonly retry?: {
    /** Answers that can be a change's own fault before it is `failed` and waits for a person. Default 10. */
    readonly attempts?: number;
  };
  /** Carries pushes and pulls instead of requests to a `url`; there is no live channel then. A worker gets its own by `attach(self, { transport })`. */
  readonly transport?: Transport;
  /** Request bodies of this size and above are compressed, where the browser can. Default 1,024. */
  readonly gzipAboveBytes?: number;
  /** Memory for stored records and index pages, bytes. Default 32 MB; data may be any size. */
  readonly memoryBytes?: number;
  /** `true` (default): whichever worker controls the page flushes when the page is gone. The app registers that worker. */
  readonly serviceWorker?: boolean | ServiceWorkerRegistration;
  /** `auto` (default): ask the browser to keep the data at the first write. */
  readonly persist?: 'auto' | 'manual';
  /** Where `landfall_bg.wasm` is, when not beside the script. */
  readonly wasmUrl?: string | URL;
}

export interface TokenAuth {
  /** Gives an access token, or null when nobody is signed in. Called when the last one has ended or was refused. */
  readonly token?: () => Promise<string | null> | string | null;
  /** Where the worker gets a new token by an HttpOnly cookie when no page is open. */
  readonly refresh?: { readonly url: string };
}

export interface CollectionOptions {
  /** Which scope a record is in: `{user}` or the name of a field in braces. Default `user:{user}`. */
  readonly scope?: string;
  /** Higher goes first. Default 0. */
  readonly priority?: number;
  /** Most mutations in one push. */
  readonly batch?: number;
  /** Send at once instead of 250 ms after the last write. */
  readonly immediate?: boolean;
  /** Fields that queries filter or order by: a name, or a list of names for a compound index. May change at any time. */
  readonly indexes?: readonly (string | readonly string[])[];
  /** Records that agree in these fields are stored together: `['supplier_id', 'date']` makes reading one supplier's fast. */
  readonly cluster?: readonly string[];
  /**
   * `offline-first` (default): a write resolves when it is stored here. `online-first`: it is stored first all the same, sent
   * at once, and resolves with the server's outcome; with `stored` after 10 seconds, or when the server cannot be reached.
   */
  readonly mode?: 'offline-first' | 'online-first';
  /** Fields that hold the id of a record of another collection: `{ supplier_id: 'suppliers' }`. Parents are sent before their children. */
  readonly references?: Readonly<Record<string, string>>;
  /** Asked about every record before it is stored: what it refuses is an `invalid_record` with `details.fields`. Records are stored as they came. */
  readonly validate?: StandardSchema;
  /**
   * Asked, in a page, about a change that would wait for its author because somebody else was first: how it ends, as
   * `conflicts.resolve()` has it. Undefined: a person decides. For backends that only report conflicts, too.
   */
  readonly decide?: (conflict: Conflict) => Resolution | undefined | Promise<Resolution | undefined>;
}

/** A validator by https://standardschema.dev, of any library; `landfall/validate` makes one of a JSON Schema. */
export interface StandardSchema {
  readonly '~standard': {
    readonly version: 1;
    readonly vendor: string;
    readonly validate: (value: unknown) => StandardResult | Promise<StandardResult>;
  };
}

/** What a validator says: a value, or what is wrong. */
export interface StandardResult {
  readonly issues?: readonly StandardIssue[] | undefined;
}

export interface StandardIssue {
  readonly message: string;
  readonly path?: readonly (PropertyKey | { readonly key: PropertyKey })[] | undefined;
}

/**
 * A backend of one's own. It gets and gives what docs/protocol.md says of `push` and `pull`, as objects; exactly once, order,
 * atomic groups and voids are then its own to keep. What it throws is no answer, and the same batch comes again, unless the
 * error has a `status` (a number, as of HTTP; with `code`, `message` and `retryAfterMs` if it likes). It has 40 seconds a call.
 */
export interface Transport {
  push(batch: TransportRequest, call: TransportCall): Promise<object>;
  pull(cursor: TransportRequest, call: TransportCall): Promise<object>;
  /** Is the backend well? Without it the answer is yes. */
  status?(call: TransportCall): Promise<unknown>;
}

/** The body of a request, as docs/protocol.md names its fields. */
export type TransportRequest = Readonly<Record<string, Json>>;

export interface TransportCall {
  /** The access token, if there is one. */
  readonly token: string | undefined;
}

/**
 * One collection's part of a migration. It is applied to every record as it is read, and what is stored stays as it is: a
 * write that follows sends the new shape, reading sends nothing. New collections and indexes need no migration.
 */
export interface Migration {
  /** The fields that it adds, changes or takes away. Queries, indexes and `cluster` cannot use them while it is there. */
  readonly fields: readonly string[];
  /**
   * Gives the record in the new shape. Records come in both shapes: other devices may be of any version. One that has the new
   * shape must be given back as it is. Reading fails with `invalid_options` when it changes its own result again, or other fields.
   */
  readonly upgrade: (record: { id: string; [field: string]: unknown }) => object;
}

// ---- records -------------------------------------------------------------------------------------------------------

/** A record as the database gives it. */
export type Stored<T extends object> = T & { readonly id: string };
/** A record to be written: the id may be left out, the engine then makes a UUIDv7. */
export type Draft<T extends object> = Omit<T, 'id'> & { readonly id?: string };
/** The fields to change. */
export type Changes<T extends object> = Partial<Omit<T, 'id'>>;

export interface ScopeOption {
  /** Needed only where one id exists in two scopes, or where the scope cannot be told from the record. */
  readonly scope?: string;
}

export interface WriteResult {
  /** `stored`: here, and on its way. The others are the server's word, of collections that are `online-first`. */
  readonly status: 'stored' | 'applied' | 'merged' | 'superseded' | 'rejected' | 'conflict';
  readonly id: string;
  readonly scope: string;
  /** The entry in the outbox; null when nothing changed. One that was refused waits there: `outbox.edit(entry, …)` goes on with it. */
  readonly entry: number | null;
  /** Why it was refused. */
  readonly code?: string;
  readonly message?: string;
  /** What is wrong, by field. */
  readonly fields?: Readonly<Record<string, Json>>;
}

/** `confirming`: of an online-first collection, while `put()` waits for the server's word. */
export type RecordState = 'synced' | 'pending' | 'sending' | 'settled' | 'rejected' | 'conflict' | 'failed' | 'confirming';

export interface RecordMeta {
  readonly state: RecordState;
  /** The server's version that this record stands on; 0 when the server does not have it yet. */
  readonly version: number;
  readonly scope: string;
}

// ---- queries -------------------------------------------------------------------------------------------------------

export interface Condition<V> {
  readonly eq?: V;
  readonly in?: readonly V[];
  readonly gt?: V;
  readonly gte?: V;
  readonly lt?: V;
  readonly lte?: V;
  readonly prefix?: string;
}

export type Where<T extends object> = { readonly [K in keyof Stored<T>]?: Stored<T>[K] | Condition<Stored<T>[K]> };
export type FieldName<T extends object> = keyof Stored<T> & string;

export interface QueryOptions<T extends object> extends ScopeOption {
  readonly where?: Where<T>;
  readonly orderBy?: FieldName<T> | readonly (readonly [FieldName<T>, 'asc' | 'desc'])[];
  readonly limit?: number;
  readonly offset?: number;
}

export interface PageOptions {
  /** Records of this page. */
  readonly limit: number;
  /** The `next` of an earlier page of the same query. */
  readonly after?: string | undefined;
}

export interface Page<T extends object> {
  readonly rows: Stored<T>[];
  /** Goes into `after` of the next page; an opaque text. Undefined when nothing is behind this page. */
  readonly next: string | undefined;
}

/** How a query is answered. */
export interface QueryPlan {
  /** By the ids that are asked, through an index, or by looking at every record. */
  readonly access: 'id' | 'index' | 'scan';
  /** With `id`: how many. */
  readonly ids?: number;
  /** With `index`: its name. */
  readonly index?: string;
  /** With `index`: the fields that it is read by. */
  readonly bounds?: Readonly<Record<string, 'eq' | 'in' | 'range'>>;
  /** What gives the order. */
  readonly order: 'index' | 'id' | 'sort' | 'none';
  /** The fields that each record found is still asked for. */
  readonly filter: readonly string[];
  /** Reading ends when `limit` records are found. */
  readonly earlyStop: boolean;
}

export type Unsubscribe = () => void;

// ---- sync ----------------------------------------------------------------------------------------------------------

export interface SyncStatus {
  readonly connectivity: 'online' | 'limited' | 'offline';
  readonly phase: 'idle' | 'pushing' | 'pulling' | 'paused';
  /** Entries without a final outcome, those under way included. */
  readonly pending: number;
  /** Those of them that are under way. */
  readonly sending: number;
  /** Entries and groups that wait for a person, failed ones included. */
  readonly parked: number;
  /** Those of them that were tried too often. */
  readonly failed: number;
  readonly conflicts: number;
  /** Milliseconds since 1970, or null before the first. */
  readonly lastSync: number | null;
  readonly lastError: { readonly code: string; readonly message: string } | null;
  readonly auth: 'ok' | 'refreshing' | 'auth_required';
  readonly storage: {
    readonly state: 'ok' | 'storage_failed' | 'quota' | 'closed';
    /** Whether the browser promised not to evict; null while nobody asked. */
    readonly persisted: boolean | null;
    readonly quarantined: number;
    readonly message: string | null;
    /** The browser threw this database away since it was last opened, and nobody has dismissed that yet (`sync.dismissLoss()`). */
    readonly lost: StorageLoss | null;
  };
  /** Something has not been downloaded for the first time yet. */
  readonly cold: boolean;
  readonly nextAttemptAt: number | null;
  /** The browser will not try again without an open page. */
  readonly needsForeground: boolean;
}

/** A database that was there and is not any more; what the server has is fetched again. */
export interface StorageLoss {
  /** Entries that had not been sent when that was last noted, about a second before: they are gone. */
  readonly count: number;
  /** When it was noticed; milliseconds since 1970. */
  readonly at: number;
}

export interface SyncResult {
  readonly pushed: number;
  readonly pulled: number;
  readonly rejected: number;
  readonly pending: number;
  /** Why it ended early, or null. */
  readonly error: string | null;
}

/** How far a run has come. */
export interface SyncProgress {
  readonly phase: string;
  readonly done: number;
  readonly total: number;
}

/** A push or a pull that has ended, in this or another tab or in the worker. */
export interface SyncStep {
  /** When it ended; milliseconds since 1970. */
  readonly at: number;
  readonly step: 'push' | 'pull';
  /** How it ended. `lost`: no answer. `busy`: asked to wait. `faulty`: the server failed. `refused`: a person must look. `storage`: this device failed. */
  readonly result: 'done' | 'lost' | 'unauthorized' | 'busy' | 'faulty' | 'refused' | 'storage';
  /** How long it took, milliseconds. */
  readonly ms: number;
  /** Entries that the server took, that it refused, and whose value lost. */
  readonly applied: number;
  readonly rejected: number;
  readonly conflicts: number;
  /** Records that were news to this device. */
  readonly pulled: number;
  /** Why it did not end well, as in `status.lastError`. */
  readonly code: string | null;
}

/** What the last 1,000 steps say together. Rates are between 0 and 1. */
export interface SyncMetrics {
  readonly steps: number;
  readonly successRate: number;
  readonly failureRate: number;
  readonly averageMs: number;
  /** Conflicts for each entry that was decided. */
  readonly conflictRate: number;
  /** Entries that wait to be sent, and entries that wait for a person. */
  readonly pending: number;
  readonly parked: number;
  /** When the last step ended well; milliseconds since 1970, or null. */
  readonly lastSuccess: number | null;
  readonly connectivity: SyncStatus['connectivity'];
}

export interface OutboxEntry {
  /** The entry's number, as `put()` resolved with it. */
  readonly id: number;
  readonly collection: string;
  readonly scope: string;
  /** The record's id. */
  readonly record: string;
  readonly op: 'create' | 'update' | 'delete';
  readonly state: 'pending' | 'sending' | 'parked' | 'failed';
  readonly fields: Readonly<Record<string, Json>>;
  /** Milliseconds since 1970. */
  readonly createdAt?: number;
  readonly attempts: number;
  /** Why it needs a person. */
  readonly reason?: { readonly code: string; readonly message: string; readonly fields?: Json };
  readonly base?: Readonly<Record<string, Json>>;
  readonly local?: Readonly<Record<string, Json>>;
  readonly server?: Readonly<Record<string, Json>>;
  readonly group?: string;
}

/** How a conflict ends: `local` is what this device wanted, `server` what stands, `merged` the fields that are to stand. */
export type Resolution = 'local' | 'server' | { readonly merged: Readonly<Record<string, Json>> };

/** A value of this device that lost, or waits for a decision, beside the one that stands. */
export interface Conflict {
  /** The entry's number. */
  readonly id: number;
  readonly collection: string;
  readonly scope: string;
  readonly record: string;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly status: string;
  readonly op: OutboxEntry['op'];
  readonly local: Readonly<Record<string, Json>>;
  readonly server: Readonly<Record<string, Json>> | null;
  /** The record as the change met it, where that is known. */
  readonly base?: Readonly<Record<string, Json>>;
  /** `author`: it waits for this person. `review`: somebody with the collection's role decides. */
  readonly to?: 'author' | 'review';
  /**
   * `overruled`: the server had taken it, and somebody who had not seen it has undone it. `reviewed`: who was asked decided
   * otherwise. Absent: it did not get so far.
   */
  readonly code?: 'overruled' | 'reviewed';
  readonly seq: number;
}

/** What `db.sync.on(name, …)` hands to its listener. */
export interface SyncEvents {
  status: SyncStatus;
  /** The server kept another value than this device's; the discarded one is in the conflict. */
  conflict: Conflict;
  /** An entry was refused and waits in the outbox for a person. */
  rejected: OutboxEntry;
  /** The server failed on a change again and again; it waits in the outbox. Once for each, until somebody retries. */
  failed: OutboxEntry;
  /** Numbers of the entries that the server took. */
  applied: readonly number[];
  /** The collections in which something may look different now. */
  change: readonly string[];
  progress: SyncProgress;
  auth_required: null;
  /** What the engine had to mend: `client_fork` (this profile was cloned or rolled back), `requeued` (the server was restored; `count` entries are sent again), `lost` (the browser threw the database away, with `count` entries that had not been sent). */
  storage: { readonly code: string; readonly count?: number };
  /** The engine broke and was started anew from the database. Calls under way were rejected with this error; none was repeated. */
  restarted: { readonly error: SyncError; readonly recovered: boolean };
}

// ---- inspection ----------------------------------------------------------------------------------------------------

/** `db.inspect()`: the database in numbers, for a support person. Nothing of what is in a record. docs/storage.md explains it. */
export interface Inspection {
  readonly database: string;
  readonly clientId: string;
  /** Commit groups that hold something undecided, and the writes in them. */
  readonly log: {
    readonly rows: number;
    readonly entries: number;
    /** When the oldest of them was written; milliseconds since 1970. */
    readonly oldestPending: number | null;
  };
  readonly outbox: {
    /** Grows with every transaction of the outbox. */
    readonly rev: number;
    /** The number that the next mutation gets; all outcomes up to `ackedThrough` are stored. */
    readonly nextSeq: number;
    readonly ackedThrough: number;
    /** Entries that were sent and have no answer yet, and the requests that they are in. */
    readonly inFlight: number;
    readonly batches: number;
    /** Outcomes that are kept: for the view, and for a server that is restored from a backup. */
    readonly settled: number;
    readonly parked: number;
    readonly conflicts: number;
  };
  readonly base: {
    /** Grows with every transaction of the base. */
    readonly rev: number;
    readonly pairs: readonly InspectedPair[];
    /** Steps of compaction that are due, about. */
    readonly compactionDebt: number;
    readonly memoryBytes: number;
    readonly memoryBudgetBytes: number;
  };
  /** Rows that cannot be used. They stay where they are. */
  readonly quarantined: readonly QuarantinedRow[];
  /** Keys under which `client` or `manifest` rows that were broken at open are kept. */
  readonly setAside: readonly string[];
  /** What the browser says of the whole origin, bytes; null where it says nothing. */
  readonly storage: { readonly usageBytes: number; readonly quotaBytes: number } | null;
}

/** What the server said of one collection in one scope, as it is stored. */
export interface InspectedPair {
  readonly scope: string;
  readonly collection: string;
  /** The server's position that it reaches; null while it is downloaded for the first time. */
  readonly covered: number | null;
  /** Records and tombstones. */
  readonly records: number;
  /** Places in segments whose record has changed or moved since; compaction frees them. */
  readonly dead: number;
  readonly runs: number;
  readonly segments: number;
  /** Segments of a download that is not visible yet. */
  readonly staged: number;
  readonly bytes: number;
  readonly indexes: readonly InspectedIndex[];
}

export interface InspectedIndex {
  /** Its fields, joined by commas. */
  readonly name: string;
  /** False while it is built in the background; queries do without it until then. */
  readonly ready: boolean;
  readonly runs: number;
  readonly pages: number;
  readonly entries: number;
  readonly bytes: number;
}

export interface QuarantinedRow {
  readonly store: 'log' | 'meta' | 'idx' | 'seg';
  readonly key: string;
  /** `newer`: a later version of Landfall wrote it. Otherwise it is damaged or missing. */
  readonly why: 'header' | 'checksum' | 'kind' | 'newer' | 'body';
}

// ---- export and import ---------------------------------------------------------------------------------------------

export interface ImportOptions {
  /** Takes only what the exporting device had not got to the server. For a database that syncs with the same server. */
  readonly unsentOnly?: boolean;
}

/** What `db.import()` did with the lines behind the header. */
export interface ImportResult {
  /** Lines that became writes; they are in the outbox. */
  readonly written: number;
  /** Lines that changed nothing here. */
  readonly skipped: number;
  /** Lines that could not be taken, counted from 1, the header. */
  readonly refused: readonly { readonly line: number; readonly code: SyncErrorCode }[];
  /** Lines of changes that waited for a person, and of values that had lost: shown, never imported. */
  readonly reported: readonly Json[];
}
