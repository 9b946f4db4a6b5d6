// Texts of times, and command lines. Nothing here touches the page.

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** The locks of `relukko hold --for 0` end with the year 9999. */
const FOREVER = 10 * 365 * DAY;

/** Returns a length of time in its two largest units: "45s", "12m", "2h 5m", "3d 4h". */
export function span(ms) {
  ms = Math.max(0, ms);
  const two = (large, small, l, s) => {
    const rest = Math.floor((ms % large) / small);
    return Math.floor(ms / large) + l + (rest ? ` ${rest}${s}` : "");
  };
  if (ms < MINUTE) return `${Math.floor(ms / SECOND)}s`;
  if (ms < 10 * MINUTE) return two(MINUTE, SECOND, "m", "s");
  if (ms < HOUR) return `${Math.floor(ms / MINUTE)}m`;
  if (ms < DAY) return two(HOUR, MINUTE, "h", "m");
  return two(DAY, HOUR, "d", "h");
}

/** Returns a number of seconds as span does, and those below 10 s with a fraction. */
export function seconds(s) {
  return s > 0 && s < 10 ? `${s.toFixed(1)}s` : span(s * SECOND);
}

const exactTime = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const shortTime = new Intl.DateTimeFormat(undefined, {
  month: "short", day: "numeric", hour: "2-digit", minute: "2-digit",
});

/** Returns a time in the browser's zone, with seconds and the zone. */
export const exact = (ms) => exactTime.format(ms);

/** Returns a time in the browser's zone, to the minute. */
export const brief = (ms) => shortTime.format(ms);

/** Reports whether a lock that ends then is held until somebody releases it. */
export const isForever = (end, now) => end - now > FOREVER;

/** Returns a time as <input type="datetime-local"> has it. */
export function toInput(ms) {
  const d = new Date(ms);
  return new Date(ms - d.getTimezoneOffset() * MINUTE).toISOString().slice(0, 16);
}

/** Returns the time in milliseconds of an <input type="datetime-local">; NaN where it is empty. */
export const fromInput = (text) => new Date(text).getTime();

/** Returns a length of time as the flags of the command line have it, rounded to minutes. */
export function flag(ms) {
  const minutes = Math.max(1, Math.round(ms / MINUTE));
  const parts = [[1440, "d"], [60, "h"], [1, "m"]].map(([of, unit], i, all) => {
    const n = Math.floor((i ? minutes % all[i - 1][0] : minutes) / of);
    return n ? n + unit : "";
  });
  return parts.join("");
}

const plain = /^[\w@%+=:,./][\w@%+=:,./-]*$/;
const hidden = /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/u;

/**
 * Returns a text as one word for bash, zsh and the like. Names and reasons come from strangers: a
 * character that a terminal acts on, or that hides others, is written out.
 */
export function quote(text) {
  if (plain.test(text)) return text;
  if (!hidden.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  const escaped = Array.from(text, (c) => {
    if (c === "'" || c === "\\") return `\\${c}`;
    if (!hidden.test(c)) return c;
    return Array.from(new TextEncoder().encode(c),
      (byte) => `\\x${byte.toString(16).padStart(2, "0")}`).join("");
  });
  return `$'${escaped.join("")}'`;
}
