// What the page asks the ledger, and what it makes of the answers.

import { DAY, HOUR } from "./format.js";
import { step as stepOf } from "./state.js";

const SERIES = 7;
const CHOICES = 500;
const LIST = 8;
const ROWS = 10_000;
export const SHARES = {
  inexact: (row) => !row.exact,
  aborted: (row) => row.outcome === "client_disconnect",
  failed: (row) => ["upstream_error", "upstream_timeout", "rejected"].includes(row.outcome),
};

/** Everything that one state shows. Throws what `ask` throws. */
export async function load(state, ask) {
  const time = { from: state.from, to: state.to || null };
  const filters = { ...time, namespace: state.namespace, model: state.model, user: state.user };
  const step = stepOf(state);
  const group = state.group_by;
  const top = (name, limit) => ask({ ...filters, group_by: name, limit });
  const [whole, series, users, found, nobody, models, namespaces, limits, allModels, allNamespaces] = await Promise.all([
    ask({ ...filters, group_by: [step, "outcome", "exact"], limit: ROWS }),
    split(filters, step, group, ask),
    top("user", 1),
    ask({ ...filters, group_by: "user", user_contains: state.user_contains || null, limit: state.top }),
    state.user === null ? ask({ ...filters, user: "" }) : null,
    top("model", CHOICES),
    top("namespace", CHOICES),
    ask({
      ...filters, channel: "gateway", group_by: ["hour", "user", "model", "namespace", "service"],
      at_least: state.at_least, sort: "-total_tokens", limit: 10,
    }),
    ask({ ...time, group_by: "model", limit: CHOICES }),
    ask({ ...time, group_by: "namespace", limit: CHOICES }),
  ]);
  const times = buckets(whole, step);
  return {
    total: whole.total,
    from: whole.from,
    to: whole.to,
    step: step === "day" ? DAY : HOUR,
    times,
    tokens: column(whole.rows, times, step, "total_tokens"),
    requests: column(whole.rows, times, step, "requests"),
    shares: Object.fromEntries(Object.entries(SHARES).map(([name, holds]) => [name, share(whole.rows, times, step, holds)])),
    series: group ? rest(series, whole, times, step, group) : kinds(whole, times, step),
    users: users.groups - nameless(nobody, state),
    nameless: nobody?.total.requests ?? 0,
    found: { rows: found.rows, users: found.groups - (state.user_contains ? 0 : nameless(nobody, state)), truncated: found.truncated },
    models: models.rows.slice(0, LIST),
    namespaces: namespaces.rows.slice(0, LIST),
    limits,
    outcomes: sums(whole.rows, "outcome"),
    choices: {
      model: allModels.rows.map((row) => row.model),
      namespace: allNamespaces.rows.map((row) => row.namespace),
    },
  };
}

/** 1 where requests without a user are a group of their own, which is no user. */
const nameless = (nobody, state) => (nobody?.total.requests || state.user === "" ? 1 : 0);

/** The groups with the most tokens, over time. */
async function split(filters, step, group, ask) {
  if (!group) return null;
  const biggest = await ask({ ...filters, group_by: group, limit: group in { model: 1, namespace: 1 } ? CHOICES : SERIES });
  const names = biggest.rows.slice(0, SERIES).map((row) => row[group]);
  if (!names.length) return { names, rows: [] };
  const answer = await ask({ ...filters, [group]: names, group_by: [step, group], limit: ROWS });
  return { names, rows: answer.rows };
}

/** Beginnings of the hours or days of an answer, in seconds since 1970. */
function buckets(answer, step) {
  const length = step === "day" ? DAY : HOUR;
  const end = Date.parse(answer.to) / 1000;
  const times = [];
  for (let at = Math.floor(Date.parse(answer.from) / 1000 / length) * length; at < end; at += length) times.push(at);
  return times;
}

/** A sum for each of the times. */
function column(rows, times, step, name, holds = () => true) {
  const place = new Map(times.map((at, index) => [at, index]));
  const values = new Array(times.length).fill(0);
  for (const row of rows) {
    const index = place.get(Date.parse(row[step]) / 1000);
    if (index !== undefined && holds(row)) values[index] += row[name];
  }
  return values;
}

/** What part of the requests it holds for: in all, with their tokens, and for each of the times. */
function share(rows, times, step, holds) {
  const those = rows.filter(holds);
  const sum = (name) => those.reduce((all, row) => all + row[name], 0);
  const part = column(those, times, step, "requests");
  const all = column(rows, times, step, "requests");
  return { requests: sum("requests"), tokens: sum("total_tokens"), values: part.map((value, i) => (all[i] ? value / all[i] : 0)) };
}

function rest({ names, rows }, whole, times, step, group) {
  const series = names.map((name) => ({
    name, values: column(rows, times, step, "total_tokens", (row) => row[group] === name),
  }));
  const all = column(whole.rows, times, step, "total_tokens");
  const others = all.map((value, i) => value - series.reduce((sum, one) => sum + one.values[i], 0));
  // An event that came between two answers is shown with the next ones.
  return others.some((value) => value > 0) ? [...series, { name: null, values: others.map((value) => Math.max(value, 0)) }] : series;
}

const kinds = (whole, times, step) =>
  ["input", "output"].map((name) => ({ name, values: column(whole.rows, times, step, `${name}_tokens`) }));

function sums(rows, group) {
  const found = new Map();
  for (const row of rows) {
    const sum = found.get(row[group]) ?? { [group]: row[group], requests: 0, total_tokens: 0 };
    sum.requests += row.requests;
    sum.total_tokens += row.total_tokens;
    found.set(row[group], sum);
  }
  return [...found.values()].sort((a, b) => b.requests - a.requests);
}
