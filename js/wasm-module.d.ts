/**
 * The engine as this package uses it: the exports of `src/`, JSON text in and out.
 *
 * Written by hand so that the scripts can be checked before the module is built; `build.mjs` fails when the module that
 * was built lacks one of these names.
 */

export interface Hooks {
  /** May be called at any moment, also inside a call of the engine. Must not throw. True answers `untidy`: a worker was asked. */
  event(json: string): boolean | void;
  token?: () => Promise<{ token: string; expires_at: number | null } | null>;
  /** Instead of requests. Rejects where there is no answer; sees to its own limit of time. */
  transport?: (path: string, body: string | undefined, token: string | undefined) => Promise<{ status: number; body: string; retry_after_ms?: number | undefined }>;
}

export interface RawStatus {
  connectivity: 'online' | 'limited' | 'offline';
  phase: 'idle' | 'pushing' | 'pulling' | 'paused';
  pending: number;
  sending: number;
  parked: number;
  failed: number;
  conflicts: number;
  last_sync: number | null;
  last_error: { code: string; message: string } | null;
  auth: 'ok' | 'refreshing' | 'auth_required';
  storage: { state: 'ok' | 'storage_failed' | 'quota' | 'closed'; persisted: boolean | null; quarantined: number; message: string | null };
  cold: boolean;
  next_attempt_at: number | null;
  needs_foreground: boolean;
}

export class Replica {
  private constructor();
  static open(options_json: string, hooks: Hooks): Promise<Replica>;
  static open_stored(database: string, hooks: Hooks): Promise<Replica | undefined>;
  write(ops_json: string, atomic: boolean): Promise<string>;
  /** Like `query`: the answer itself when nothing had to be read for it. */
  get(collection: string, scope: string | undefined, id: string): string | undefined | Promise<string | undefined>;
  query(query_json: string): string | Promise<string>;
  count(query_json: string): Promise<number>;
  explain(query_json: string): Promise<string>;
  watch(query_json: string, callback: (json: string) => void): number;
  unwatch(watch: number): void;
  /** A {@link RawStatus}. */
  status(): string;
  sync_now(progress: ((json: string) => void) | undefined): Promise<string>;
  flush(budget_ms: number, last_chance: boolean): Promise<string>;
  outbox(): Promise<string>;
  /** The server's outcome of an entry, as JSON; undefined while there is none. */
  outcome(entry: number): string | undefined;
  outbox_retry(entry: number): Promise<void>;
  outbox_discard(entry: number): Promise<string>;
  outbox_edit(entry: number, fields_json: string): Promise<void>;
  conflicts(): Promise<string>;
  /** `how`: `local`, `server`, or fields as JSON. */
  conflict_resolve(entry: number, how: string): Promise<void>;
  set_token(token: string | undefined, expires_at_ms: number | undefined): Promise<void>;
  set_online(online: boolean): void;
  set_visible(visible: boolean): void;
  wake(reason: string): void;
  logout(mode: 'keep' | 'wipe'): Promise<void>;
  inspect(): Promise<string>;
  close(): Promise<void>;
  free(): void;
}

/** The one listener hears of each trap of the instance that is in use, in whatever call or callback; the instance has let go of its connections and locks. */
export function onTrap(listener: (error: Error) => void): void;

/** Gives the module a fresh instance; there when the glue is made with its reset function. */
export const __wbg_reset_state: (() => void) | undefined;

export default function init(options: { module_or_path: string | URL | Response }): Promise<unknown>;
