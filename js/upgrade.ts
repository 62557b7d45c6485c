/**
 * Records of an older version of the app in the shape of this one, made as they are read (docs/adr/0016).
 *
 * Nothing stored changes: what the server said, what is on its way and every checksum stay as they are, and nothing is sent for
 * it. A record does not say which version wrote it, and other devices go on writing the old shape, so an upgrade must know by
 * the record itself whether there is something to do. That it keeps to this is checked for each record that it changes.
 */
import { SyncError } from './errors.js';
import type { Migration, OpenOptions } from './types.js';

/** What reading a collection needs of its migrations. */
export interface Upgrade {
  /** The stored value of these is not what the app sees, so a query must not ask for it. */
  readonly fields: ReadonlySet<string>;
  /** Errors: `invalid_options` when a migration does something else than it may. */
  apply<T extends object>(record: T): T;
}

/** By collection. Errors: `invalid_options`, with `details.path`. */
export function upgradesOf({ collections, migrations = {}, schemaVersion = 1 }: OpenOptions): ReadonlyMap<string, Upgrade> {
  const steps = new Map<string, Step[]>();
  for (const [version, byCollection] of Object.entries(migrations).sort(([a], [b]) => Number(a) - Number(b))) {
    const at = `migrations.${version}`;
    check(Number.isSafeInteger(Number(version)) && Number(version) > 0 && Number(version) <= schemaVersion, at, 'is for no version up to schemaVersion');
    for (const [name, { fields, upgrade }] of Object.entries(byCollection)) {
      const path = `${at}.${name}`;
      check(Object.hasOwn(collections, name), path, 'is for a collection that open() was not told of');
      check(Array.isArray(fields) && fields.length > 0 && !fields.includes('id'), path, 'must name the fields that it changes, and the id is none of them');
      check(typeof upgrade === 'function', path, 'has no upgrade function');
      steps.set(name, [...(steps.get(name) ?? []), { path, fields: new Set(fields), upgrade }]);
    }
  }
  const upgrades = new Map<string, Upgrade>();
  for (const [name, all] of steps) {
    const fields = new Set(all.flatMap((step) => [...step.fields]));
    const declared = [...(collections[name]?.indexes ?? []), collections[name]?.cluster ?? []].flat();
    check(!declared.some((field) => fields.has(field)), `collections.${name}`, 'has an index or a cluster of a field that a migration changes');
    upgrades.set(name, { fields, apply: (record) => all.reduce(run, record) });
  }
  return upgrades;
}

interface Step {
  readonly path: string;
  readonly fields: ReadonlySet<string>;
  readonly upgrade: Migration['upgrade'];
}

function check(condition: boolean, path: string, what: string, cause?: unknown): asserts condition {
  if (!condition) throw new SyncError('invalid_options', `${path} ${what}.`, { details: { path }, ...(cause !== undefined && { cause }) });
}

/** An upgrade gets a copy of its own: what it changes in place is seen as well as what it returns. */
function run<T extends object>(record: T, step: Step): T {
  const text = JSON.stringify(record);
  const after = once(text, step);
  const changed = JSON.stringify(after);
  if (changed === text) return record;
  for (const key of new Set([...Object.keys(record), ...Object.keys(after)])) {
    const isSame = JSON.stringify(Reflect.get(record, key)) === JSON.stringify(Reflect.get(after, key));
    check(isSame || step.fields.has(key), step.path, `changed ${key}, which its fields do not name`);
  }
  check(JSON.stringify(once(changed, step)) === changed, step.path, 'changes again what it has changed');
  return after as T;
}

function once(text: string, { path, upgrade }: Step): object {
  let after: unknown;
  try {
    after = upgrade(JSON.parse(text) as Parameters<Migration['upgrade']>[0]);
  } catch (cause) {
    check(false, path, 'failed', cause);
  }
  check(typeof after === 'object' && after !== null && !Array.isArray(after), path, 'must give the record');
  return after;
}
