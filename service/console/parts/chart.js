// Line charts and bars as SVG: axes with round numbers, one description for those who do not see.

import { h, s } from "../lib/dom.js";
import { number } from "../lib/format.js";

const WIDTH = 560;
const HEIGHT = 220;
const LEFT = 64;
const RIGHT = 16;
const TOP = 10;
const BOTTOM = 38;

// `points`: [[x, y], …]; with `logY` points with y <= 0 cannot be shown and are left out.
export function lineChart({ points, title, xLabel, yLabel, logY = false, logX = false, line = null }) {
  const shown = points.filter(([x, y]) => Number.isFinite(y) && (!logY || y > 0) && (!logX || x > 0));
  if (!shown.length) return h("p", { class: "muted" }, "There is nothing to draw yet.");
  const ys = shown.map((point) => point[1]);
  if (line && (!logY || line.value > 0)) ys.push(line.value);
  const x = axis(shown.map((point) => point[0]), logX, LEFT, WIDTH - RIGHT, true);
  const y = axis(ys, logY, HEIGHT - BOTTOM, TOP);
  const path = shown.map(([px, py], i) => `${i ? "L" : "M"}${x.at(px).toFixed(1)} ${y.at(py).toFixed(1)}`).join("");
  const last = shown.at(-1);
  return figure(
    `${title}: ${shown.length} points, from ${number(shown[0][1], 3)} to ${number(last[1], 3)}.`,
    frame(x, y, xLabel, yLabel),
    line &&
      s(
        "g",
        { class: "chart-mark" },
        s("path", { d: `M${LEFT} ${y.at(line.value)}H${WIDTH - RIGHT}`, class: "chart-guide" }),
        s("text", { x: LEFT + 4, y: y.at(line.value) - 4 }, line.label),
      ),
    s("path", { d: path, class: "chart-line" }),
    shown.length <= 60 &&
      shown.map(([px, py]) =>
        s("circle", { cx: x.at(px), cy: y.at(py), r: 2.5, class: "chart-point" }, s("title", null, `${number(px)}: ${number(py)}`)),
      ),
  );
}

// `edges`: one more than `counts`.
export function histogram({ edges, counts, title, xLabel, yLabel }) {
  const x = axis(edges, false, LEFT, WIDTH - RIGHT, true);
  const y = axis([0, Math.max(...counts, 1)], false, HEIGHT - BOTTOM, TOP);
  const base = y.at(0);
  const bars = counts.map((count, i) => {
    const left = x.at(edges[i]);
    const width = Math.max(0.5, x.at(edges[i + 1]) - left - 0.5);
    return s(
      "rect",
      { x: left, y: y.at(count), width, height: base - y.at(count), class: "chart-bar" },
      s("title", null, `${number(edges[i], 4)} to ${number(edges[i + 1], 4)}: ${count}`),
    );
  });
  return figure(
    `${title}: ${counts.length} bins from ${number(edges[0], 4)} to ${number(edges.at(-1), 4)}.`,
    frame(x, y, xLabel, yLabel),
    bars,
  );
}

function figure(description, ...children) {
  return s("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": description }, ...children);
}

function frame(x, y, xLabel, yLabel) {
  return s(
    "g",
    { class: "chart-frame" },
    y.ticks.map((tick) => [
      s("path", { d: `M${LEFT} ${y.at(tick)}H${WIDTH - RIGHT}`, class: "chart-grid" }),
      s("text", { x: LEFT - 6, y: y.at(tick) + 3.5, "text-anchor": "end" }, number(tick, 3)),
    ]),
    x.ticks.map((tick) =>
      s("text", { x: x.at(tick), y: HEIGHT - BOTTOM + 15, "text-anchor": "middle" }, number(tick, 3)),
    ),
    s("path", { d: `M${LEFT} ${HEIGHT - BOTTOM}H${WIDTH - RIGHT}`, class: "chart-axis" }),
    s("text", { x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 6, "text-anchor": "middle" }, xLabel),
    s("text", { transform: `translate(12 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, yLabel),
  );
}

// A scale from values to pixels [from, to] with round ticks. `exact`: ends at the values themselves.
function axis(values, log, from, to, exact = false) {
  let low = Math.min(...values);
  let high = Math.max(...values);
  if (low === high) [low, high] = log ? [low / 2, high * 2] : [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  if (log) {
    const [a, b] = exact ? [Math.log10(low), Math.log10(high)] : [Math.floor(Math.log10(low)), Math.ceil(Math.log10(high))];
    const every = Math.max(1, Math.ceil((b - a) / 6));
    const ticks = [];
    for (let exponent = Math.ceil(a); exponent <= b; exponent += every) ticks.push(10 ** exponent);
    return { ticks, at: (value) => from + ((Math.log10(value) - a) / (b - a || 1)) * (to - from) };
  }
  const rough = (high - low) / 5;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => power * factor >= rough);
  const first = exact ? low : Math.floor(low / step) * step;
  const end = exact ? high : Math.ceil(high / step) * step;
  const ticks = [];
  for (let i = Math.ceil(first / step - 1e-9); i * step <= end + 1e-9 * step; i += 1) ticks.push(Number((i * step).toPrecision(12)));
  return { ticks, at: (value) => from + ((value - first) / (end - first)) * (to - from) };
}
