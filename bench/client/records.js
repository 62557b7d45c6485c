// The records that everybody writes: 300 bytes of JSON each, the same for the same index, in the page and in the server.

const words = 'amber basin cedar delta ember fjord grove harbour islet jetty kelp lagoon marsh north ocean pier quay reef shoal tide'.split(' ');
const statuses = ['draft', 'open', 'paid', 'late'];
const recordBytes = 300;
const firstDayMs = Date.UTC(2020, 0, 1);
const suppliers = 1000;

/** A well-mixed number for an index (the finalizer of MurmurHash3). */
function mixed(index) {
  let h = (index + 0x9e3779b9) | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}

const hex = (number, digits) => (number >>> 0).toString(16).padStart(8, '0').slice(0, digits);

/** UUIDs in no order, as version 4 gives them: the harder case for whoever keeps keys sorted. */
export const idOf = (index) => `${hex(mixed(index), 8)}-${hex(mixed(index ^ 0x5bd1e995), 4)}-4${hex(index >>> 16, 3)}-8${hex(mixed(index + 7), 3)}-${hex(index, 8)}abcd`;

/** Every supplier has one record in a thousand. */
export const supplierOf = (index) => `supplier-${String(index % suppliers).padStart(4, '0')}`;

export function recordOf(index) {
  const h = mixed(index);
  const record = {
    id: idOf(index),
    supplier_id: supplierOf(index),
    date: new Date(firstDayMs + (h % 150_000_000) * 1000).toISOString(),
    status: statuses[(h >>> 10) % statuses.length],
    amount: (h % 1_000_000) / 100,
    title: `${words[h % 20]} ${words[(h >>> 5) % 20]} ${index}`,
    note: '',
  };
  record.note = 'n'.repeat(recordBytes - JSON.stringify(record).length);
  return record;
}

export const recordsOf = (from, count) => Array.from({ length: count }, (_, i) => recordOf(from + i));

/** The scan looks for amounts below this: about one record in a hundred; nobody has an index of amounts. */
export const scanBelow = 100;
