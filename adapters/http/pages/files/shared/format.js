// Numbers, times and sizes as people read them.

import { locale } from "./text.js";

// Making a format takes a hundred times as long as using it: thousands of rows use these.
/** @type {Intl.DateTimeFormat | undefined} */
let dateTimes;
/** @type {Intl.DateTimeFormat | undefined} */
let times;
/** @type {Map<string, Intl.NumberFormat>} */
const made = new Map();

/** @param {Intl.NumberFormatOptions} options */
function numbers(options) {
  const key = JSON.stringify(options);
  const found = made.get(key) ?? new Intl.NumberFormat(locale, options);
  made.set(key, found);
  return found;
}

/**
 * Writes a time as h:mm:ss, or mm:ss below an hour.
 *
 * @param {number} seconds
 * @param {{ tenths?: boolean }} [options]
 */
export function duration(seconds, { tenths = false } = {}) {
  const units = Math.max(
    0,
    tenths ? Math.floor(seconds * 10 + 1e-6) / 10 : Math.floor(seconds + 1e-6),
  );
  const whole = Math.floor(units);
  const two = (/** @type {number} */ number) => String(number).padStart(2, "0");
  const hours = Math.floor(whole / 3600);
  const text = `${two(Math.floor(whole / 60) % 60)}:${two(whole % 60)}`;
  const tail = tenths ? `.${Math.round((units - whole) * 10)}` : "";
  return (hours ? `${hours}:${text}` : text) + tail;
}

/**
 * Writes a point in time in the reader's own zone.
 *
 * @param {string | Date} at RFC 3339
 */
export function dateTime(at) {
  dateTimes ??= new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });
  return dateTimes.format(new Date(at));
}

/**
 * Writes the time of day.
 *
 * @param {string | Date} at RFC 3339
 */
export function timeOfDay(at) {
  times ??= new Intl.DateTimeFormat(locale, { timeStyle: "medium" });
  return times.format(new Date(at));
}

/** @param {number} bytes */
export function size(bytes) {
  const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
  let power = 0;
  while (bytes >= 1000 && power < units.length - 1) {
    bytes /= 1000;
    power += 1;
  }
  const digits = power > 1 && bytes < 100 ? 1 : 0;
  return numbers({
    style: "unit",
    unit: units[power],
    unitDisplay: "short",
    maximumFractionDigits: digits,
  }).format(bytes);
}

/**
 * Writes a share so that it never says 100 % of what is not all, nor 0 % of what is something.
 *
 * @param {number} share 0 to 1
 */
export function percent(share) {
  const digits = 2;
  const step = 10 ** -(digits + 2);
  let shown = Math.round(share / step) * step;
  if (shown >= 1 && share < 1) shown = 1 - step;
  if (shown <= 0 && share > 0) shown = step;
  return number(shown, { style: "percent", maximumFractionDigits: digits });
}

/**
 * Writes a level.
 *
 * @param {number | null | undefined} level in dBFS; null is digital silence
 */
export function dbfs(level) {
  if (level === null || level === undefined || !Number.isFinite(level)) return "−∞ dBFS";
  return `${number(level, { maximumFractionDigits: 1, minimumFractionDigits: 1 })} dBFS`;
}

/**
 * @param {number} value
 * @param {Intl.NumberFormatOptions} [options]
 */
export function number(value, options = {}) {
  return numbers(options).format(value).replace("-", "−");
}
