// The page's parts, from what data.js has made.

import { Bars, called, sparkline, swatch, tint } from "./chart.js";
import { by, make, name, number, replace } from "./dom.js";
import { compact, count, full, glance, hour, percent, span } from "./format.js";

const OUTCOMES = {
  completed: "Completed",
  client_disconnect: "Cut by the client",
  upstream_error: "Failed at the model server",
  upstream_timeout: "Timed out at the model server",
  rejected: "Refused by sidecar or model server",
  meter_restarted: "Open when a sidecar was killed",
};

export class View {
  /** `change` takes the members of the state that a click changes. */
  constructor(change) {
    this.change = change;
    this.bars = new Bars(by("chart"), {
      onread: (text) => (by("reading").textContent = text),
      onpick: (from, to) => change({ from: iso(from), to: iso(to) }),
    });
    by("numbers").addEventListener("toggle", () => this.table());
  }

  draw(data, state) {
    this.data = data;
    this.state = state;
    this.tiles();
    this.bars.draw(data);
    this.legend();
    this.table();
    this.lists();
    this.limits();
    this.outcomes();
  }

  /** In the colours of now. */
  recolour() {
    if (!this.data) return;
    this.bars.redraw();
    this.tiles();
  }

  tiles() {
    const { total, shares, tokens, requests, users, nameless } = this.data;
    const each = total.requests ? Math.round(total.total_tokens / total.requests) : 0;
    const share = (id, title, help) => {
      const { requests: some, tokens: theirs, values } = shares[id];
      const text = make("data", { value: some }, percent(some, total.requests));
      return tile(id, title, help, text, [`${count(some, "request")}, ${compact(theirs)} tokens`], values, "--warn");
    };
    by("tiles").replaceChildren(
      tile("total_tokens", "Tokens", "", number(total.total_tokens, glance(total.total_tokens)), [
        number(total.input_tokens, compact(total.input_tokens)), " in (", number(total.cached_input_tokens, compact(total.cached_input_tokens)),
        " cached), ", number(total.output_tokens, compact(total.output_tokens)), " out",
      ], tokens, "--accent"),
      tile("requests", "Requests", "", number(total.requests, glance(total.requests)), [`${full(each)} tokens each, on average`], requests, "--accent"),
      tile("users", "Users", "", number(users, glance(users)), [nameless ? `${count(nameless, "request")} without a user` : ""]),
      share("inexact", "Inexact counts", "Requests whose tokens are not the server's own count of all that it made."),
      share("aborted", "Cut by clients", "Requests whose client went before the answer's end. Their tokens are counted up to there."),
      share("failed", "Failed or refused", "Requests that the model server failed, or that it or the sidecar refused. A 429 of the gateway is none of them."),
    );
    for (const spark of by("tiles").querySelectorAll(".spark")) sparkline(spark, spark.values, spark.variable);
  }

  legend() {
    const { series } = this.data;
    const sum = (one) => one.values.reduce((all, value) => all + value, 0);
    const items = series.map((one, i) => make("li", {}, swatch(tint(series, i)), called(one), number(sum(one), compact(sum(one)))));
    by("legend").replaceChildren(...items);
  }

  /** The chart's numbers, made when somebody wants to read them. */
  table() {
    if (!by("numbers").open || !this.data) return;
    const { times, step, series, tokens } = this.data;
    const head = make("tr", {}, make("th", { scope: "col" }, step > 3600 ? "Day (UTC)" : "Hour (UTC)"), make("th", { scope: "col", class: "number" }, "Total"), ...series.map((one) => make("th", { scope: "col", class: "number" }, called(one))));
    const rows = times.map((at, t) => make("tr", {}, make("th", { scope: "row" }, span(at, step)), cell(tokens[t]), ...series.map((one) => cell(one.values[t])))).reverse();
    by("numbers").querySelector(".scroll").replaceChildren(make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)));
  }

  lists() {
    const { found, models, namespaces, total } = this.data;
    const whole = total.total_tokens;
    this.list("user", found.rows, whole);
    this.list("model", models, whole);
    this.list("namespace", namespaces, whole);
    const shown = found.rows.filter((row) => row.user).length;
    const some = found.truncated ? `${full(shown)} of ` : "";
    by("users-count").textContent = found.users || found.rows.length ? `${some}${count(found.users, "user")}` : "No such user.";
    by("more").hidden = !found.truncated || found.rows.length >= 1000;
  }

  /** Groups by their tokens; a click shows one only. */
  list(group, rows, whole) {
    const most = Math.max(1, ...rows.map((row) => row.total_tokens));
    const line = (row) => {
      const chosen = this.state[group] === row[group];
      const pick = make("button", {
        type: "button", class: "pick", "data-key": row[group], "aria-pressed": String(chosen),
        onclick: () => this.change({ [group]: chosen ? null : row[group] }),
      }, name(row[group], `no ${group}`));
      const bar = make("div", { class: "bar", "aria-hidden": "true" });
      bar.style.width = `${(100 * row.total_tokens) / most}%`;
      return make("tr", {}, make("td", { class: "named" }, bar, pick), cell(row.total_tokens), make("td", { class: "number soft" }, percent(row.total_tokens, whole)), cell(row.requests, "soft"));
    };
    const head = [[group, ""], ["Tokens", "number"], ["Share", "number"], ["Requests", "number"]];
    replace(by(`${group}s`), rows.length ? tableOf(head, rows.map(line)) : "");
  }

  limits() {
    const { limits } = this.data;
    const text = limits.groups ? `${count(limits.groups, "time")}, by the ledger's count` : "Not once, by the ledger's count.";
    by("limits-count").textContent = limits.rows.length < limits.groups ? `${text}; the ${limits.rows.length} with the most tokens:` : text;
    const line = (row) => make("tr", {},
      make("td", {}, hour(Date.parse(row.hour) / 1000)), make("td", { class: "named" }, name(row.user)),
      make("td", { class: "named" }, name(row.model, "no model")), make("td", { class: "named soft" }, make("bdi", {}, `${row.namespace}/${row.service}`)), cell(row.total_tokens));
    const head = [["Hour (UTC)", ""], ["User", ""], ["Model", ""], ["Service", ""], ["Tokens", "number"]];
    replace(by("limits"), limits.rows.length ? tableOf(head, limits.rows.map(line)) : "");
  }

  outcomes() {
    const { outcomes, total } = this.data;
    const line = (row) => make("tr", { "data-key": row.outcome },
      make("td", {}, OUTCOMES[row.outcome] ?? row.outcome), cell(row.requests),
      make("td", { class: "number soft" }, percent(row.requests, total.requests)), cell(row.total_tokens, "soft"));
    replace(by("outcomes"), tableOf([["Outcome", ""], ["Requests", "number"], ["Share", "number"], ["Tokens", "number"]], outcomes.map(line)));
  }
}

function tile(id, title, help, value, below, values, variable) {
  const spark = make("div", { class: "spark", "aria-hidden": "true" });
  Object.assign(spark, { values: values ?? [], variable });
  return make("div", { class: "card tile", id: `tile-${id}`, title: help || null }, make("h2", {}, title), make("p", { class: "value" }, value), make("p", { class: "hint" }, ...below, help && make("span", { class: "unseen" }, `. ${help}`)), spark);
}

const cell = (value, kind = "") => make("td", { class: `number ${kind}` }, number(value, full(value)));

function tableOf(head, rows) {
  const names = head.map(([text, kind]) => make("th", { scope: "col", class: kind || null }, text));
  return make("table", {}, make("thead", {}, make("tr", {}, ...names)), make("tbody", {}, ...rows));
}

const iso = (seconds) => new Date(seconds * 1000).toISOString().replace(".000Z", "Z");
