// Numbers and times as people read them. Times are UTC, as the ledger's hours are.

const whole = new Intl.NumberFormat("en");
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const date = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", day: "numeric", month: "short" });
const seconds = new Intl.DateTimeFormat("en-GB", { timeZone: "UTC", timeStyle: "medium" });

export const HOUR = 3600;
export const DAY = 24 * HOUR;

export const full = (value) => whole.format(value);
export const compact = (value) => short.format(value);

/** All digits as long as they can be read at a glance. */
export const glance = (value) => (value < 10_000_000 ? full(value) : compact(value));

/** Never 0% of something nor 100% of not all. */
export function percent(part, all) {
  if (!all) return "–";
  const value = (100 * part) / all;
  if (part > 0 && value < 0.1) return "<0.1%";
  if (part < all && value > 99.9) return ">99.9%";
  return `${value < 10 ? Number(value.toFixed(1)) : Math.round(value)}%`;
}

/** "1 request", "2 requests". */
export const count = (value, what) => `${full(value)} ${what}${value === 1 ? "" : "s"}`;

/** Seconds since 1970 as a tick of an axis: the date where a day begins. */
export const tick = (at, step) => (step < DAY && at % DAY ? clock.format(at * 1000) : date.format(at * 1000));

/** An hour or a day that begins then. */
export function span(at, step) {
  const day = date.format(at * 1000);
  return step >= DAY ? day : `${day}, ${clock.format(at * 1000)}–${clock.format((at + step) * 1000)}`;
}

/** The beginning of an hour. */
export const hour = (at) => `${date.format(at * 1000)}, ${clock.format(at * 1000)}`;

export const now = () => `${seconds.format(Date.now())} UTC`;
