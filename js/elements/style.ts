/** The look that all elements share. Every colour and size can be set from outside; the rest is reached by `::part()`. */
export const sharedStyle = `
:host {
  --_surface: var(--landfall-surface, light-dark(#ffffff, #162124));
  --_sunken: var(--landfall-sunken, light-dark(#e9eeed, #1f2d30));
  --_text: var(--landfall-text, light-dark(#14211f, #e9f0ef));
  --_soft: var(--landfall-soft, light-dark(#4c5d5b, #a9babb));
  --_line: var(--landfall-line, light-dark(#d3dcda, #2d3d40));
  --_line-strong: var(--landfall-line-strong, light-dark(#788a88, #7d9296));
  --_accent: var(--landfall-accent, light-dark(#0a5f69, #6fd0d6));
  --_on-accent: var(--landfall-on-accent, light-dark(#ffffff, #062c31));
  --_accent-wash: var(--landfall-accent-wash, light-dark(#dff0f0, #123a40));
  --_ok: var(--landfall-ok, light-dark(#1c6b3c, #86d9a4));
  --_ok-wash: var(--landfall-ok-wash, light-dark(#e0f2e6, #14351f));
  --_wait: var(--landfall-wait, light-dark(#71500a, #f0cd7a));
  --_wait-wash: var(--landfall-wait-wash, light-dark(#fbefcf, #3a2e0f));
  --_bad: var(--landfall-bad, light-dark(#a3242b, #ffaaa6));
  --_bad-wash: var(--landfall-bad-wash, light-dark(#fce6e5, #45191b));
  --_focus: var(--landfall-focus, light-dark(#0b57d0, #8ab4ff));
  --_radius: var(--landfall-radius, 0.75rem);
  --_touch: var(--landfall-touch, 2.75rem);
  display: block;
  color: var(--_text);
  font-family: inherit;
  line-height: 1.45;
}
:host([hidden]), [hidden] { display: none !important; }
*, *::before, *::after { box-sizing: border-box; }
h2, h3, p, ul, dl, dd { margin: 0; padding: 0; }
ul { list-style: none; }
h2 { font-size: 1.0625rem; line-height: 1.3; }
h3 { font-size: 1rem; line-height: 1.3; overflow-wrap: anywhere; }
.soft { color: var(--_soft); font-size: 0.875rem; }
.icon { flex: none; width: 1.25em; height: 1.25em; fill: none; stroke: currentcolor; stroke-width: 2; stroke-linecap: round; stroke-linejoin: round; }
.actions { display: flex; flex-wrap: wrap; gap: 0.5rem; }
button {
  display: inline-flex; align-items: center; justify-content: center; gap: 0.5rem;
  min-height: var(--_touch); padding: 0.375rem 0.875rem;
  border: 1px solid var(--_line-strong); border-radius: var(--_radius);
  background: var(--_surface); color: inherit; font: inherit; font-weight: 600; line-height: 1.2; cursor: pointer; touch-action: manipulation;
}
button:hover { background: var(--_sunken); }
button[disabled], button[aria-disabled="true"] { opacity: 0.65; cursor: default; }
button.primary { border-color: transparent; background: var(--_accent); color: var(--_on-accent); }
button.danger { border-color: var(--_bad); color: var(--_bad); }
button.danger:hover { background: var(--_bad-wash); }
:focus-visible { outline: 3px solid var(--_focus); outline-offset: 2px; }
.tag { display: inline-flex; align-items: center; gap: 0.3em; padding: 0.125rem 0.6rem; border-radius: 1rem; background: var(--_sunken); color: var(--_soft); font-size: 0.8125rem; font-weight: 600; white-space: nowrap; }
.tag.wait { background: var(--_wait-wash); color: var(--_wait); }
.tag.busy { background: var(--_accent-wash); color: var(--_accent); }
.tag.bad { background: var(--_bad-wash); color: var(--_bad); }
.error { color: var(--_bad); font-weight: 600; }
.list { display: grid; }
.list > * + * { border-top: 1px solid var(--_line); }
.item { display: grid; gap: 0.375rem; padding: 0.75rem 0; }
.item-head { display: flex; flex-wrap: wrap; align-items: baseline; justify-content: space-between; gap: 0.25rem 0.75rem; }
@media (prefers-reduced-motion: no-preference) { .turning { animation: turn 1.1s linear infinite; } }
@keyframes turn { to { transform: rotate(1turn); } }
@media (forced-colors: active) { .tag { border: 1px solid; } }
`;
