// Compiled, never run: what an app may write, and what the compiler must refuse.
import { isSyncError, meta, open, SyncError, type Inspection, type OpenOptions, type OutboxEntry, type Query, type RecordState, type SyncErrorCode, type SyncStatus } from 'landfall';
import { attach, type AttachTarget } from 'landfall/service-worker';
import { jsonSchema } from 'landfall/validate';

/** True when the two types are one. `any` is equal to itself only. */
type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
const same = <_ extends true>(): void => undefined;

interface Payment {
  id: string;
  amount: number;
  supplier_id: string;
  note: string | null;
  paid?: boolean;
}

const db = await open({
  name: 'paytrack',
  user: 'ada',
  url: '/v1/sync',
  auth: { token: () => null, refresh: { url: '/auth/refresh' } },
  collections: {
    payments: { scope: 'store:{store_id}', batch: 50, immediate: true, mode: 'online-first', references: { supplier_id: 'rates' }, validate: jsonSchema({ type: 'object' }) },
    rates: {},
  },
  durability: 'relaxed',
  retry: { attempts: 3 },
});
// @ts-expect-error auth is not optional
void open({ name: 'a', user: 'b', url: '/', collections: {} });
// @ts-expect-error one of two words
void open({ name: 'a', user: 'b', url: '/', auth: 'cookie', collections: {}, durability: 'sometimes' });

const payments = db.collection<Payment>('payments');
const written = await payments.put({ amount: 12, supplier_id: 's', note: null });
same<Equal<typeof written.id, string>>();
same<Equal<typeof written.entry, number | null>>();
await payments.create({ id: 'x', amount: 1, supplier_id: 's', note: 'n' });
await payments.update('x', { amount: 2 }, { scope: 'store:1' });
// @ts-expect-error a field of another type
await payments.put({ amount: '12', supplier_id: 's', note: null });
// @ts-expect-error a field is missing
await payments.put({ amount: 12 });
// @ts-expect-error an id cannot be changed
await payments.update('x', { id: 'y' });
// @ts-expect-error an id is text
await payments.delete(7);

const one = await payments.get('x');
same<Equal<typeof one, (Payment & { readonly id: string }) | undefined>>();
if (one) {
  same<Equal<NonNullable<ReturnType<typeof meta>>['state'], RecordState>>();
  same<Equal<typeof one.amount, number>>();
}

const query: Query<Payment> = payments.query({ where: { supplier_id: 's', amount: { gte: 1, lt: 5 }, note: { in: ['a', null] } }, orderBy: [['amount', 'desc']], limit: 50 });
const off: () => void = query.subscribe((rows) => rows.map((row) => row.amount.toFixed()), (error) => same<Equal<typeof error.code, SyncErrorCode>>());
off();
// @ts-expect-error no such field
payments.query({ where: { nothing: 1 } });
// @ts-expect-error a value of another type
payments.query({ where: { amount: 'many' } });
// @ts-expect-error no such direction
payments.query({ orderBy: [['amount', 'down']] });

const results = await db.transaction(['payments', 'rates'], async (tx) => {
  tx.collection<Payment>('payments').put({ amount: 1, supplier_id: 's', note: null });
  tx.collection<{ rate: number }>('rates').update('r', { rate: 2 });
});
same<Equal<(typeof results)[number], typeof written>>();

same<Equal<typeof db.sync.status, SyncStatus>>();
db.sync.on('status', (status) => same<Equal<typeof status, SyncStatus>>());
db.sync.on('rejected', (entry) => same<Equal<typeof entry, OutboxEntry>>());
db.sync.on('restarted', ({ error }) => same<Equal<typeof error, SyncError>>());
// @ts-expect-error no such event
db.sync.on('everything', () => undefined);
const outcome = await db.sync.now({ onProgress: (progress) => void progress });
same<Equal<typeof outcome.error, string | null>>();

const [entry] = await db.outbox.list();
if (entry) await db.outbox.edit(entry.id, { amount: 3 });
same<Equal<Awaited<ReturnType<typeof db.outbox.discard>>, number>>();

try {
  await db.logout({ unsynced: 'ask' });
} catch (error) {
  if (isSyncError(error) && error.code === 'unsynced_writes') void error.details?.['count'];
  // @ts-expect-error no such code
  if (isSyncError(error) && error.code === 'unsynced') void error;
}
await db.token(null);
const seen: Inspection = await db.inspect();
same<Equal<typeof seen.base.pairs[number]['indexes'][number]['ready'], boolean>>();
// @ts-expect-error a migration names its fields
void ({ 2: { payments: { upgrade: (record) => record } } } satisfies OpenOptions['migrations']);
void ({ 2: { payments: { fields: ['amount'], upgrade: (record) => ({ ...record, amount: Number(record['amount']) }) } } } satisfies OpenOptions['migrations']);
const imported = await db.import(db.export(), { unsentOnly: true });
same<Equal<typeof imported.refused[number]['code'], SyncErrorCode>>();
await db.close();

// A worker's self under either of TypeScript's libraries.
declare const worker: AttachTarget & { skipWaiting(): Promise<void> };
attach(worker, { wasmUrl: new URL('https://app.example/engine.wasm'), budgetMs: 1 });
attach(self);
// @ts-expect-error no such option
attach(self, { retries: 3 });
