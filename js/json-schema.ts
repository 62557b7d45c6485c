/**
 * `landfall/validate`: a validator of a collection out of a JSON Schema, for example the one that the server has.
 *
 * By @cfworker/json-schema, which interprets the schema: nothing is compiled, so it works under a content security policy
 * without `unsafe-eval`.
 */
import { Validator, type OutputUnit, type Schema } from '@cfworker/json-schema';
import type { StandardIssue, StandardSchema } from './types.js';

export type JsonSchema = boolean | { readonly [keyword: string]: unknown };

/** A Standard Schema for `collections.{name}.validate`. Draft 2020-12; formats are checked. A record's `id` is only asked for where the schema names it. */
export function jsonSchema(schema: JsonSchema): StandardSchema {
  const validator = new Validator(schema as Schema | boolean, '2020-12', false);
  const namesId = typeof schema === 'object' && 'id' in ((schema['properties'] as object | undefined) ?? {});
  return {
    '~standard': {
      version: 1,
      vendor: 'landfall',
      validate: (value) => {
        const { valid, errors } = validator.validate(namesId ? value : withoutId(value));
        return valid ? {} : { issues: issuesOf(errors) };
      },
    },
  };
}

const withoutId = (value: unknown): unknown =>
  typeof value === 'object' && value !== null && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).filter(([name]) => name !== 'id')) : value;

/** What says only that something inside is wrong: the error of that something says it better. */
const outer: ReadonlySet<string> = new Set(['properties', 'additionalProperties', 'patternProperties', 'unevaluatedProperties', 'items', 'prefixItems', '$ref', '$dynamicRef', 'allOf', 'dependentSchemas']);

function issuesOf(errors: readonly OutputUnit[]): StandardIssue[] {
  const issues = new Map<string, StandardIssue>();
  for (const { keyword, instanceLocation, error } of errors) {
    if (outer.has(keyword)) continue;
    const path = pointer(instanceLocation);
    const missing = keyword === 'required' ? /"(.*)"/.exec(error)?.[1] : undefined;
    if (missing !== undefined) path.push(missing);
    const at = path.join('/');
    // Where a property is wrong, or something in it, the library calls it undeclared too.
    if (keyword === 'false' && [...issues.keys()].some((other) => `${other}/`.startsWith(`${at}/`))) continue;
    const message = missing !== undefined ? 'is required' : keyword === 'false' ? 'is not allowed' : error.replace(/\.$/, '');
    if (!issues.has(at)) issues.set(at, { message, path });
  }
  return issues.size > 0 ? [...issues.values()] : [{ message: 'does not fit the schema' }];
}

/** `#/a/0` → `['a', '0']`. */
const pointer = (location: string): string[] =>
  location.split('/').slice(1).map((step) => decodeURIComponent(step).replaceAll('~1', '/').replaceAll('~0', '~'));
