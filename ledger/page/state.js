// What is shown, as the page's address has it. The names are those of GET /api/v1/usage.

import { DAY, HOUR } from "./format.js";

export const RANGES = ["6h", "24h", "7d", "30d", "90d"];
const DEFAULTS = {
  from: "24h", to: "", group_by: "model", namespace: null, model: null, user: null,
  user_contains: "", at_least: "1000", top: "10", refresh: "on",
};
const UNITS = { m: 60, h: HOUR, d: DAY };
const HOURLY_DAYS = 8;

/** The state that an address's query says. A namespace, model or user is null for all, and "" for requests without. */
export function read(search) {
  const given = new URLSearchParams(search);
  return Object.fromEntries(Object.entries(DEFAULTS).map(([name, value]) => [name, given.get(name) ?? value]));
}

/** The query that says this state, without what goes without saying. */
export function write(state) {
  const changed = Object.entries(state).filter(([name, value]) => value !== DEFAULTS[name] && value !== null);
  const query = new URLSearchParams(changed).toString();
  return query ? `?${query}` : "";
}

/** Whether the time is one of the buttons' and not one of its own. */
export const isRange = (state) => !state.to && RANGES.includes(state.from);

/** Hours for some days, days for longer. */
export function step(state) {
  const now = Date.now() / 1000;
  const length = (moment(state.to, now) ?? now) - (moment(state.from, now) ?? now);
  return length > HOURLY_DAYS * DAY ? "day" : "hour";
}

/** Seconds since 1970 of a time as the ledger reads it; null where it is none. */
export function moment(text, now) {
  const relative = /^(\d{1,9})([mhd])$/.exec(text);
  if (relative) return now - relative[1] * UNITS[relative[2]];
  const parsed = Date.parse(/(Z|[+-]\d\d:\d\d)$/.test(text) || !text.includes("T") ? text : `${text}Z`);
  return Number.isNaN(parsed) ? null : parsed / 1000;
}
