// What was found, and how much was looked at: a check that had nothing to look at proves nothing.

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
