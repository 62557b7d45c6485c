// What was found, and how much was looked at: a check that had nothing to look at proves nothing.

/** Kinds of comparisons. */
export const kinds = ['applied', 'at_rest', 'conflicts', 'effects_of_values', 'final_states', 'groups', 'groups_of_others', 'later_reads', 'moments', 'orders_of_writes', 'own_groups', 'own_outcomes', 'own_writes', 'positions', 'refusals', 'states', 'stood', 'stored', 'values', 'writes_after_reads'];

export class Violations {
  found = [];
  judged = {};

  add(code, at, what) {
    this.found.push({ code, at, what });
  }

  /** Counts one comparison that could have failed. */
  count(name) {
    this.judged[name] = (this.judged[name] ?? 0) + 1;
  }
}
