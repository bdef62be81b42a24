// uPlot's canvases: bars that stand on one another, and small lines without axes. Colours are the style sheet's.

import { compact, full, span, tick, HOUR, DAY } from "./format.js";
import { make, name } from "./dom.js";

const { uPlot } = globalThis;
const colour = (variable) => getComputedStyle(document.body).getPropertyValue(variable).trim();

/** The style sheet's colour of a series; the last one's is for all the others. */
export const tint = (series, index) => (series[index].name === null ? "--rest" : `--series-${index + 1}`);

/** Bars over time. `onread` is told what the cursor is at, `onpick` which times were drawn over with the mouse. */
export class Bars {
  constructor(root, { onread, onpick }) {
    this.root = root;
    this.onread = onread;
    this.onpick = onpick;
    this.column = make("div", { class: "column", hidden: true });
    this.tip = make("div", { class: "tip", hidden: true });
    new ResizeObserver(() => this.plot?.setSize(this.size())).observe(root);
    root.addEventListener("keydown", (event) => this.key(event));
    root.addEventListener("blur", () => this.at(null));
  }

  /** `series`: `{name, values}` each, the lowest first. */
  draw(data) {
    this.data = data;
    this.redraw();
  }

  /** Anew, as when the colours have changed. */
  redraw() {
    if (!this.data) return;
    const { times, step, series } = this.data;
    const middle = times.map((at) => at + step / 2);
    const stacked = series.map((_, i) => times.map((_, t) => series.slice(0, i + 1).reduce((sum, one) => sum + one.values[t], 0)));
    const bars = uPlot.paths.bars({ size: [0.78, 56], gap: 0 });
    const line = { stroke: colour("--grid"), width: 1 };
    const axis = { stroke: colour("--soft"), font: `12px ${getComputedStyle(document.body).fontFamily}`, ticks: { show: false } };
    this.plot?.destroy();
    this.plot = new uPlot(
      {
        ...this.size(),
        padding: [12, 20, 0, 0],
        legend: { show: false },
        tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1000), "Etc/UTC"),
        scales: { x: { range: [times[0], times.at(-1) + step] }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.06 : 1] } },
        series: [{}, ...series.map((_, i) => ({ fill: colour(tint(series, i)), stroke: colour("--card"), width: times.length > 60 ? 0 : 1, paths: bars, points: { show: false } })).reverse()],
        axes: [
          { ...axis, size: 26, grid: { show: false }, space: 64, incrs: [HOUR, 2 * HOUR, 3 * HOUR, 6 * HOUR, 12 * HOUR, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY].filter((one) => one >= step), values: (_, splits) => splits.map((at) => tick(at, step)) },
          { ...axis, grid: line, size: 60, values: (_, splits) => splits.map((value) => (Number.isInteger(value) ? compact(value) : "")) },
        ],
        cursor: { x: false, y: false, points: { show: false }, drag: { x: true, y: false, setScale: false, dist: 8 } },
        hooks: {
          setCursor: [(plot) => this.show(plot.cursor.idx)],
          setSelect: [(plot) => this.pick(plot)],
        },
      },
      [middle, ...stacked.reverse()],
      this.root,
    );
    this.plot.over.append(this.column, this.tip);
    this.show(null);
  }

  size() {
    return { width: Math.max(this.root.clientWidth, 200), height: this.root.clientHeight || 280 };
  }

  show(index) {
    const there = index !== null && index !== undefined;
    this.column.hidden = this.tip.hidden = !there;
    this.index = there ? index : null;
    if (!there) return;
    const { times, step, series } = this.data;
    const [left, right] = [times[index], times[index] + step].map((at) => this.plot.valToPos(at, "x"));
    Object.assign(this.column.style, { left: `${left}px`, width: `${right - left}px` });
    const rows = series.map((one, i) => ({ ...one, tint: tint(series, i), value: one.values[index] })).filter((one) => one.value).reverse();
    const total = rows.reduce((sum, one) => sum + one.value, 0);
    const begun = (times[index] + step) * 1000 > Date.now() ? " so far" : "";
    this.tip.replaceChildren(
      make("b", {}, span(times[index], step), begun),
      ...rows.map((one) => make("div", {}, swatch(one.tint), called(one), make("span", {}, full(one.value)))),
      make("div", { class: "all" }, make("span"), make("span", {}, "total"), make("span", {}, full(total))),
    );
    const width = this.plot.over.clientWidth;
    const after = right + this.tip.offsetWidth + 12 < width;
    this.tip.style.left = `${after ? right + 8 : Math.max(left - this.tip.offsetWidth - 8, 4)}px`;
    this.onread(`${span(times[index], step)}${begun}: ${full(total)} tokens; ${rows.map((one) => `${one.name === null ? "others" : one.name || "no name"} ${full(one.value)}`).join(", ")}`);
  }

  /** Stand at one of the times, as the mouse would; null for none. */
  at(index) {
    if (this.plot) this.show(index);
  }

  key(event) {
    const last = (this.data?.times.length ?? 0) - 1;
    const from = this.index ?? (event.key === "ArrowLeft" ? last + 1 : -1);
    const to = { ArrowLeft: from - 1, ArrowRight: from + 1, Home: 0, End: last, Escape: null }[event.key];
    if (to === undefined || last < 0) return;
    event.preventDefault();
    this.at(to === null ? null : Math.min(Math.max(to, 0), last));
  }

  pick(plot) {
    const { left, width } = plot.select;
    plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (width < 8) return;
    const { times, step } = this.data;
    const [from, to] = [left, left + width].map((at) => plot.posToVal(at, "x"));
    const chosen = times.filter((at) => at + step > from && at < to);
    if (chosen.length) this.onpick(chosen[0], chosen.at(-1) + step);
  }
}

/** A line that shows a shape and no numbers. */
export function sparkline(root, values, variable) {
  root.plot?.destroy();
  root.replaceChildren();
  if (values.length < 2 || !values.some(Boolean)) return;
  const stroke = colour(variable);
  root.plot = new uPlot(
    {
      width: Math.max(root.clientWidth, 60), height: 34, padding: [2, 0, 1, 0],
      legend: { show: false }, cursor: { show: false },
      scales: { x: { time: false }, y: { range: (_, __, max) => [0, max || 1] } },
      axes: [{ show: false }, { show: false }],
      series: [{}, { stroke, width: 1.5, fill: `color-mix(in srgb, ${stroke} 14%, transparent)`, points: { show: false } }],
    },
    [values.map((_, i) => i), values],
    root,
  );
}

export const swatch = (variable) => {
  const made = make("span", { class: "swatch" });
  made.style.background = `var(${variable})`;
  return made;
};

export const called = (one) => (one.name === null ? make("i", {}, "others") : name(String(one.name), "no name"));
