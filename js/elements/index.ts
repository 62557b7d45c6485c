/**
 * `landfall/elements`: the sync parts of a page as custom elements, for any framework or none.
 *
 * Importing defines them. Each takes its database as the property `db` and its words as the property `texts`; colours are
 * custom properties (`--landfall-accent` and its like), the rest is reached by `::part()`.
 */
import { LandfallConflicts } from './conflicts.js';
import { LandfallDiagnostics } from './diagnostics.js';
import { LandfallIndicator } from './indicator.js';
import { LandfallPending } from './pending.js';

export { LandfallConflicts } from './conflicts.js';
export type { ConflictTexts } from './conflicts.js';
export { LandfallDiagnostics } from './diagnostics.js';
export type { DiagnosticsTexts } from './diagnostics.js';
export { LandfallIndicator } from './indicator.js';
export type { IndicatorTexts } from './indicator.js';
export { LandfallPending } from './pending.js';
export type { PendingTexts } from './pending.js';
export type { Difference, Fields, OpenConflict } from './three-way.js';

const elements = {
  'landfall-indicator': LandfallIndicator,
  'landfall-pending': LandfallPending,
  'landfall-conflicts': LandfallConflicts,
  'landfall-diagnostics': LandfallDiagnostics,
} as const;

declare global {
  interface HTMLElementTagNameMap {
    'landfall-indicator': LandfallIndicator;
    'landfall-pending': LandfallPending;
    'landfall-conflicts': LandfallConflicts;
    'landfall-diagnostics': LandfallDiagnostics;
  }
}

// Two copies on one page, say of two bundles: the first one's stay.
if (typeof customElements !== 'undefined') {
  for (const [name, element] of Object.entries(elements)) if (!customElements.get(name)) customElements.define(name, element);
}
