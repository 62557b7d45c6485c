// What can be measured: the engines, the tasks of the page, and the names of the figures.

/** In the order of the tables. `peer`: its code comes from the packages of bench/package.json. */
export const engines = {
  landfall: {},
  raw_idb: {},
  raw_idb_strict: {},
  one_log_row: {},
  one_log_row_strict: {},
  packed_rows: {},
  dexie: { peer: ['dexie'] },
  rxdb: { peer: ['rxdb'] },
  pouchdb: { peer: ['pouchdb-browser', 'pouchdb-find'] },
  wa_sqlite: { peer: ['@journeyapps/wa-sqlite'] },
  powersync: { peer: ['@powersync/web'] },
  replicache: { peer: ['replicache'] },
  watermelondb: { peer: ['@nozbe/watermelondb'] },
  tinybase: { peer: ['tinybase'] },
};

/**
 * The browser processes of one engine in one round, in their order. Each runs its tasks in one page; `profile` is the
 * browser profile they share. A session whose profile was not filled (`after`) is left out.
 */
export const sessions = [
  { name: 'write', profile: 'written', tasks: ['stored_write', 'concurrent', 'live', 'drain', 'drain_engine'] },
  { name: 'load', profile: 'loaded', tasks: ['load'] },
  { name: 'open unsent', profile: 'loaded', after: 'load', tasks: ['open_unsent'] },
  { name: 'ingest', profile: 'pulled', tasks: ['ingest'] },
  { name: 'get', profile: 'pulled', after: 'ingest', tasks: ['get'] },
  { name: 'query', profile: 'pulled', after: 'ingest', tasks: ['query'] },
  { name: 'memory', profile: 'pulled', after: 'ingest', tasks: ['memory'] },
  { name: 'ingest other', profile: 'other', tasks: ['ingest_other'] },
  { name: 'query other', profile: 'other', after: 'ingest other', tasks: ['query_other'] },
];

const tag = (count) => (count >= 1_000_000 ? `${count / 1_000_000}m` : count >= 1000 ? `${count / 1000}k` : String(count));
/** Figures that do not depend on how many records there are by name have the plain name at this size. */
export const usualSize = 100_000;
/** Never more than this many entries are drained. */
export const drainMax = 10_000;

const plain = (name) => (count) => (count === usualSize ? name : name.replace(/_ms$/, `_${tag(count)}_ms`));

/** The page's figure → its task and its name at a size, in the order of the tables. */
export const figures = {
  stored_write_p50_ms: { task: 'stored_write', name: () => 'stored_write_p50_ms' },
  concurrent_1000_writes_per_s: { task: 'concurrent', name: () => 'concurrent_1000_writes_per_s' },
  load_ms: { task: 'load', name: (count) => `load_${tag(count)}_ms` },
  ingest_ms: { task: 'ingest', name: (count) => `ingest_${tag(count)}_ms` },
  open_first_get_ms: { task: 'get', name: (count) => `open_${tag(count)}_first_get_ms` },
  open_first_query_ms: { task: 'query', name: (count) => `open_${tag(count)}_first_query_ms` },
  open_unsent_ms: { task: 'open_unsent', name: (count) => `open_${tag(count)}_unsent_ms` },
  browser_floor_ms: { name: () => 'browser_floor_ms' },
  engine_code_ms: { name: () => 'engine_code_ms' },
  get_warm_ms: { task: 'get', name: plain('get_warm_ms') },
  get_cold_ms: { task: 'get', name: plain('get_cold_ms') },
  query100_warm_ms: { task: 'query', name: plain('query100_warm_ms') },
  query100_cold_clustered_ms: { task: 'query', name: plain('query100_cold_clustered_ms') },
  query100_cold_other_ms: { task: 'query_other', name: plain('query100_cold_other_ms') },
  scan_ms: { task: 'query', name: (count) => `scan_${tag(count)}_ms` },
  drain_ms: { task: 'drain', name: (count) => `drain_${tag(Math.min(count, drainMax))}_ms` },
  drain_engine_ms: { task: 'drain_engine', name: (count) => `drain_${tag(Math.min(count, drainMax))}_engine_ms` },
  live_query_1000_ms: { task: 'live', name: () => 'live_query_1000_ms' },
  memory_mb: { task: 'memory', name: (count) => `memory_${tag(count)}_mb` },
  ingest_wasm_mb: { task: 'ingest', name: (count) => `memory_wasm_ingest_${tag(count)}_mb` },
  memory_wasm_mb: { task: 'memory', name: (count) => `memory_wasm_${tag(count)}_mb` },
};

/** With a million records only these, by names of their own. */
export const millionFigures = { ingest_ms: 'million_ingest_ms', open_first_get_ms: 'million_open_first_get_ms', get_cold_ms: 'million_get_cold_ms' };

/** With a million records these tasks are left out, by everybody. */
const small = 'of the outbox, which holds a million entries at most; no collection of a million is written on a device';
export const leftOutAtMillion = { load: small, open_unsent: small, query_other: 'two databases of a million records do not fit into the time of a run' };

const documents = 'only between its own databases and CouchDB: no server of its protocol here';
const noOutbox = 'it has no outbox';
const noLive = 'it has no live queries';
/** Why an engine has no figure, where that is known before it runs. Everything else that is missing has a failure beside it. */
export const absent = {
  packed_rows: { stored_write: 'a floor for many records: a single one is one_log_row', get: 'no index', query_other: 'no index', drain: noOutbox, live: noLive, open_unsent: 'no index', memory: 'no index' },
  one_log_row: floor(),
  one_log_row_strict: floor(),
  dexie: { drain: `${noOutbox} (that is Dexie Cloud)` },
  pouchdb: { drain: `it sends ${documents}` },
  wa_sqlite: { live: noLive, drain: `${noOutbox} of its own` },
  powersync: { memory: 'its WebAssembly is in a worker of its own that does not tell its size' },
  tinybase: { drain: noOutbox },
};

const ownShare = 'Landfall alone, whose backend can be in the page: the share of others is not apart from the network';
for (const name of Object.keys(engines)) if (name !== 'landfall') absent[name] = { ...absent[name], drain_engine: ownShare };

function floor() {
  return Object.fromEntries(['load', 'ingest', 'open_unsent', 'get', 'query', 'query_other', 'drain', 'live', 'memory'].map((task) => [task, 'a floor for single writes: nothing reads it']));
}
