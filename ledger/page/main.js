// The page: its state in the address, its controls, and the round of asking and drawing.

import { Refused, asker, token } from "./api.js";
import { load } from "./data.js";
import { by, make } from "./dom.js";
import { now } from "./format.js";
import { RANGES, isRange, moment, read, write } from "./state.js";
import { View } from "./view.js";

const ROUND_MS = 30_000;
const TYPING_MS = 250;

let state = read(location.search);
let asking = new AbortController();
let timer = 0;
const view = new View(change);

/** Show something else; each such step is one of the browser's history, but for letters that are typed. */
function change(members, { typed = false } = {}) {
  state = { ...state, ...members };
  history[typed ? "replaceState" : "pushState"](null, "", location.pathname + write(state));
  controls();
  refresh();
}

async function refresh() {
  clearTimeout(timer);
  asking.abort();
  asking = new AbortController();
  const { signal } = asking;
  by("main").setAttribute("aria-busy", "true");
  const begun = Date.now();
  try {
    const data = await load(state, asker(signal));
    if (signal.aborted) return;
    choices(data.choices);
    by("main").hidden = false;
    by("main").dataset.drawn = "";
    by("updated").textContent = `As of ${now()}`;
    become(data.total.requests ? "ready" : "empty", data.total.requests ? "" : nothing());
    view.draw(data, state);
  } catch (error) {
    if (error.name === "AbortError") return;
    refused(error);
  }
  by("main").setAttribute("aria-busy", "false");
  again(Math.max(ROUND_MS, 10 * (Date.now() - begun)));
}

/** Look again later, where that is wanted and somebody looks. */
function again(wait) {
  clearTimeout(timer);
  const asks = ["token", "forbidden"].includes(document.body.dataset.state);
  if (state.refresh === "on" && !document.hidden && !asks) timer = setTimeout(refresh, wait);
}

function refused(error) {
  if (!(error instanceof Refused)) {
    become("error", `This page has failed: ${error.message}`);
    throw error;
  }
  if (error.status === 401 || error.status === 403) {
    by("main").hidden = true;
    by("token-title").textContent = error.status === 401 ? "Who are you?" : "Not for you to see";
    by("token-why").textContent = error.status === 401 && !token.get() ? "This ledger shows usage to those who may see it." : error.message;
    become(error.status === 401 ? "token" : "forbidden", "");
    by("token-field").focus();
    return;
  }
  become("error", error.message, make("button", { type: "button", onclick: refresh }, "Try again"));
}

/** One of: loading, ready, empty, error, token, forbidden. */
function become(name, ...message) {
  document.body.dataset.state = name;
  by("message").hidden = !message[0];
  by("message").replaceChildren(...message);
  by("token").hidden = name !== "token" && name !== "forbidden";
  by("forget").hidden = !token.get();
}

const nothing = () =>
  ["namespace", "model", "user"].some((one) => state[one] !== null)
    ? "No usage of what is chosen in this time."
    : "No usage in this time. Requests appear here a few seconds after their end.";

/** The controls as the state has them. */
function controls() {
  const range = isRange(state) ? state.from : "custom";
  for (const radio of document.getElementsByName("range")) radio.checked = radio.value === range;
  by("custom").hidden = range !== "custom";
  by("from").value = local(state.from);
  by("to").value = local(state.to || "0m");
  by("group_by").value = state.group_by;
  for (const name of ["namespace", "model"]) by(name).value = state[name] === null ? "" : `=${state[name]}`;
  if (by("search") !== document.activeElement) by("search").value = state.user_contains;
  if (by("at_least") !== document.activeElement) by("at_least").value = state.at_least;
  by("auto").checked = state.refresh === "on";
  by("only").hidden = state.user === null;
  by("only").replaceChildren("Only ", state.user === "" ? make("i", {}, "no user") : make("bdi", {}, state.user ?? ""), make("span", { "aria-hidden": "true" }, " ×"));
  by("only").setAttribute("aria-label", `Only ${state.user || "requests without a user"}; show all users`);
}

/** What the selections offer; what is chosen stays, whether or not there is usage of it. */
function choices(known) {
  for (const name of ["namespace", "model"]) {
    const names = new Set([...known[name], ...(state[name] === null ? [] : [state[name]])]);
    const options = [...names].sort().map((one) => make("option", { value: `=${one}` }, one || `no ${name}`));
    by(name).replaceChildren(make("option", { value: "" }, "all"), ...options);
    by(name).value = state[name] === null ? "" : `=${state[name]}`;
  }
}

/** A time for an input of the kind datetime-local. */
function local(text) {
  const at = moment(text, Date.now() / 1000);
  return at === null ? "" : new Date(Math.floor(at / 3600) * 3_600_000).toISOString().slice(0, 16);
}

for (const radio of document.getElementsByName("range")) {
  radio.addEventListener("change", () => {
    if (RANGES.includes(radio.value)) change({ from: radio.value, to: "" });
    else by("custom").hidden = false;
  });
}
by("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  if (by("from").value && by("to").value) change({ from: `${by("from").value}:00Z`, to: `${by("to").value}:00Z` });
});
by("group_by").addEventListener("change", () => change({ group_by: by("group_by").value }));
for (const name of ["namespace", "model"]) {
  by(name).addEventListener("change", () => change({ [name]: by(name).value ? by(name).value.slice(1) : null }));
}
by("only").addEventListener("click", () => change({ user: null }));
by("more").addEventListener("click", () => change({ top: String(Math.min(state.top * 10, 1000)) }));
by("at_least").addEventListener("change", () => by("at_least").reportValidity() && change({ at_least: by("at_least").value }));
let typing = 0;
by("search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => change({ user_contains: by("search").value, top: "10" }, { typed: true }), TYPING_MS);
});
by("auto").addEventListener("change", () => change({ refresh: by("auto").checked ? "on" : "off" }));
by("refresh").addEventListener("click", refresh);
by("forget").addEventListener("click", () => {
  token.forget();
  refresh();
});
by("token-form").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set(by("token-field").value.trim());
  by("token-field").value = "";
  refresh();
});
addEventListener("popstate", () => {
  state = read(location.search);
  controls();
  refresh();
});
document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : again(0)));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => view.recolour());

become("loading", "Loading usage…");
choices({ namespace: [], model: [] });
controls();
refresh();
