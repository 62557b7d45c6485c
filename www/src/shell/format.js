// Times and words as a person reads them. Stored times are UTC ISO 8601; shown ones are in the local zone.

const timeFormat = new Intl.DateTimeFormat(undefined, { hour: 'numeric', minute: '2-digit' });
const dayFormat = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const dayYearFormat = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long', year: 'numeric' });
const weekdayFormat = new Intl.DateTimeFormat(undefined, { weekday: 'short' });
const momentFormat = new Intl.DateTimeFormat(undefined, { weekday: 'short', day: 'numeric', month: 'short', hour: 'numeric', minute: '2-digit' });
const exactFormat = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium' });
const relativeFormat = new Intl.RelativeTimeFormat(undefined, { numeric: 'auto', style: 'short' });

const minuteMs = 60_000;
const hourMs = 60 * minuteMs;
const dayMs = 24 * hourMs;

export const instant = (iso) => {
  const time = typeof iso === 'string' ? Date.parse(iso) : NaN;
  return Number.isNaN(time) ? null : time;
};

export const clockTime = (ms) => timeFormat.format(ms);
export const weekday = (ms) => weekdayFormat.format(ms);
/** Day and time, short. */
export const moment = (ms) => momentFormat.format(ms);
export const exactTime = (ms) => exactFormat.format(ms);

/** The local calendar day, as a key that sorts. */
export function dayKey(ms) {
  const date = new Date(ms);
  return `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
}

export function dayName(ms, now = Date.now()) {
  if (dayKey(ms) === dayKey(now)) return 'Today';
  if (dayKey(ms) === dayKey(now - dayMs)) return 'Yesterday';
  const sameYear = new Date(ms).getFullYear() === new Date(now).getFullYear();
  return (sameYear ? dayFormat : dayYearFormat).format(ms);
}

/** `1:04:09`, for the running clock. */
export function stopwatch(ms) {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  return `${Math.floor(seconds / 3600)}:${pad(Math.floor(seconds / 60) % 60)}:${pad(seconds % 60)}`;
}

/** `7 h 45 min`. */
export function duration(ms) {
  const minutes = Math.max(0, Math.round(ms / minuteMs));
  const hours = Math.floor(minutes / 60);
  if (hours === 0) return `${minutes} min`;
  return minutes % 60 === 0 ? `${hours} h` : `${hours} h ${minutes % 60} min`;
}

/** `2 minutes ago`. */
export function relative(ms, now = Date.now()) {
  const age = Math.max(0, now - ms);
  if (age < 45_000) return 'just now';
  if (age < hourMs) return relativeFormat.format(-Math.max(1, Math.round(age / minuteMs)), 'minute');
  if (age < dayMs) return relativeFormat.format(-Math.round(age / hourMs), 'hour');
  return relativeFormat.format(-Math.round(age / dayMs), 'day');
}

export const count = (number, one, many = `${one}s`) => `${number} ${number === 1 ? one : many}`;

/** The value of an `<input type="datetime-local">` for an instant, in minutes. */
export function toLocalInput(ms) {
  const date = new Date(ms);
  return `${dayKey(ms)}T${pad(date.getHours())}:${pad(date.getMinutes())}`;
}

/** The instant that a `datetime-local` value means in the local zone, or null. */
export const fromLocalInput = (value) => (value ? instant(new Date(value).toISOString()) : null);

const pad = (number) => String(number).padStart(2, '0');
