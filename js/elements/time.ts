/** Times as a person reads them, in the language of the page. */

const relativeFormat = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto', style: 'short' });
const exactFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const shortFormat = new Intl.DateTimeFormat(undefined, { month: 'short', day: 'numeric', hour: 'numeric', minute: '2-digit' });
const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

/** `2 min. ago`. What has not happened yet reads as if it just had: clocks differ. */
export function relative(atMs: number, nowMs: number): string {
  const age = Math.max(0, nowMs - atMs);
  if (age < 45_000) return 'just now';
  if (age < hourMs) return relativeFormat.format(-Math.max(1, Math.round(age / minuteMs)), 'minute');
  if (age < dayMs) return relativeFormat.format(-Math.round(age / hourMs), 'hour');
  return relativeFormat.format(-Math.round(age / dayMs), 'day');
}

export const exact = (atMs: number): string => exactFormat.format(atMs);
/** Without the year and the seconds, which nobody needs of what has just happened. */
export const short = (atMs: number): string => shortFormat.format(atMs);
