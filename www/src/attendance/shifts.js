// The attendance records: what they hold, how they are written, and how they read. No DOM in here.

import { dayKey, instant, moment } from '../shell/format.js';
import { deviceId, platform } from '../shell/session.js';

export const appVersion = '1.0.0';
const locationTimeoutMs = 10_000;
const locationAgeMs = 60_000;

export const fieldNames = {
  facility_id: 'Facility',
  clock_in: 'Clock in',
  clock_out: 'Clock out',
  latitude: 'Latitude',
  longitude: 'Longitude',
  device_id: 'Device',
  client_timestamp: 'Recorded at',
  note: 'Note',
  metadata: 'App',
  conflict_resolution_strategy: 'If someone else changes it too',
};

/** By record, as the document has it; the server applies it, whoever sends. */
export const strategies = { server_wins: 'What reached the server first stands', client_wins: 'My change stands', manual: 'An administrator decides' };

/** The record as the author of an entry or of a conflict wanted it. */
export const wanted = (entry) => ({ ...entry.server, ...entry.base, ...entry.local, ...entry.fields, id: entry.record });

/** What an entry or a conflict is about. */
export function titleOf(entry, facilities) {
  const record = wanted(entry);
  const at = instant(record.clock_in);
  const what = { create: 'New record', update: 'Change to a record', delete: 'Deleted record' }[entry.op];
  const place = facilities.find(({ code }) => code === record.facility_id)?.name;
  return [what, at !== null && moment(at), place].filter(Boolean).join(' · ');
}

/** A field's value as it reads; empty where there is none. */
export function shownValue(field, value, facilities) {
  if (value === null || value === undefined || value === '') return '';
  const at = field === 'clock_in' || field === 'clock_out' || field === 'client_timestamp' ? instant(value) : null;
  if (at !== null) return moment(at);
  if (field === 'facility_id') return facilities.find(({ code }) => code === value)?.name ?? String(value);
  if (field === 'conflict_resolution_strategy') return strategies[value] ?? String(value);
  return typeof value === 'object' ? JSON.stringify(value) : String(value);
}

/** Starts a shift; resolves when it is stored on this device. */
export function clockIn(db, { facilityId, note }) {
  const now = new Date().toISOString();
  return db.collection('attendance').put({
    facility_id: facilityId,
    clock_in: now,
    clock_out: null,
    latitude: null,
    longitude: null,
    device_id: deviceId(),
    client_timestamp: now,
    note,
    conflict_resolution_strategy: 'server_wins',
    metadata: { app_version: appVersion, platform: platform() },
  });
}

export const clockOut = (db, record, { note }) =>
  db.collection('attendance').update(record.id, { clock_out: new Date().toISOString(), ...(note !== (record.note ?? '') && { note }) });

/**
 * Adds where the person is, when the device tells. Comes after the clock-in on purpose: a slow or refused fix never
 * keeps anybody from starting work. Resolves with 'added', 'denied' or 'unavailable'.
 */
export async function addLocation(db, id) {
  if (!('geolocation' in navigator)) return 'unavailable';
  const result = await new Promise((resolve) => {
    navigator.geolocation.getCurrentPosition(resolve, resolve, { enableHighAccuracy: true, timeout: locationTimeoutMs, maximumAge: locationAgeMs });
  });
  if (!('coords' in result)) return result.code === 1 ? 'denied' : 'unavailable';
  const { latitude, longitude } = result.coords;
  await db.collection('attendance').update(id, { latitude: round(latitude), longitude: round(longitude) });
  return 'added';
}

/** Six decimals are 11 cm. */
const round = (degrees) => Math.round(degrees * 1e6) / 1e6;

/** The shift that is running: the newest without an end. */
export function openShift(records) {
  return records.filter((record) => !record.clock_out && instant(record.clock_in) !== null).sort(newestFirst)[0] ?? null;
}

/** `[{day, at, records, worked}]`, newest day and newest record first. A record without a readable time is listed at its creation. */
export function byDay(records) {
  const days = new Map();
  for (const record of [...records].sort(newestFirst)) {
    const at = startOf(record);
    const key = dayKey(at);
    const day = days.get(key) ?? { day: key, at, records: [], worked: 0 };
    day.records.push(record);
    day.worked += worked(record);
    days.set(key, day);
  }
  return [...days.values()];
}

export const startOf = (record) => instant(record.clock_in) ?? instant(record.client_timestamp) ?? 0;

/** Milliseconds between in and out; 0 while the shift runs. */
export function worked(record) {
  const [from, to] = [instant(record.clock_in), instant(record.clock_out)];
  return from === null || to === null ? 0 : Math.max(0, to - from);
}

const newestFirst = (a, b) => startOf(b) - startOf(a) || (a.id < b.id ? 1 : -1);
