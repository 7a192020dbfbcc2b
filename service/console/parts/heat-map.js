// A matrix as a picture that zooms to single entries, by pointer, by buttons and by keys.

import { paint, range, strip } from "../lib/colors.js";
import { h, replace, uniqueId } from "../lib/dom.js";
import * as format from "../lib/format.js";
import { debounce } from "../lib/poll.js";
import { LARGEST_SCALE, clamp, entryAt, moved, pixelOf, visible, whole, zoomed } from "../lib/view.js";
import { problemBox } from "./basics.js";

const LOAD_PAUSE_MS = 60;
const ENTRY_PAUSE_MS = 120;
const STEP = 2;
// From this many pixels per entry on there is room for its number.
const TEXT_SCALE = 52;
const KEYS =
  "Arrow keys move the mark, with Shift the picture; plus and minus zoom, Enter goes to the entry, 0 shows the whole matrix. With the picture in focus the wheel zooms too.";

// `source`: see heat-source.js. `map`: "sequential", or "diverging" around zero.
export function heatMap({ source, name, map = "sequential", signal }) {
  const { shape } = source;
  const id = uniqueId("heat");
  const canvas = h("canvas", { class: "heat-map", tabindex: 0, role: "application", "aria-roledescription": "heat map", "aria-label": name, "aria-describedby": `${id}-keys` });
  const context = canvas.getContext("2d");
  const readout = h("output", { class: "readout", "aria-live": "polite" }, "Point at an entry, or use the arrow keys.");
  const trouble = h("div");
  const legend = h("canvas", { class: "legend", "aria-hidden": "true" });
  const [low, high] = [h("span"), h("span")];
  strip(legend, map);
  let size = [0, 0];
  let view = null;
  let block = null; // what is drawn
  let base = null; // the whole matrix, below it
  let scale = null; // [low, high] of the colours
  let mark = [0, 0];
  let moves = 0;

  const numbers = (values) => {
    const [a, b] = range(values);
    const far = Math.max(Math.abs(a), Math.abs(b));
    return map === "diverging" ? [-far, far] : [a, b];
  };
  const raster = (loaded) => {
    const image = document.createElement("canvas");
    image.width = loaded.width;
    image.height = loaded.height;
    image.getContext("2d").putImageData(
      paint({ values: loaded.values, rows: loaded.height, cols: loaded.width, low: scale[0], high: scale[1], map }), 0, 0);
    return { ...loaded, image };
  };

  function draw() {
    const ratio = devicePixelRatio || 1;
    const [width, height] = size;
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const [x, y] = pixelOf(view, [0, 0], size);
    context.save();
    context.beginPath();
    context.rect(x, y, shape[1] * view.scale, shape[0] * view.scale);
    context.clip();
    for (const layer of [base, block]) {
      if (!layer) continue;
      const [left, top] = pixelOf(view, [layer.rows[0], layer.cols[0]], size);
      const pixels = layer.cell * view.scale;
      // Squares of two or three pixels cannot all be equally wide: smoothed they do not flicker.
      context.imageSmoothingEnabled = pixels * ratio < 4;
      context.drawImage(layer.image, left, top, layer.width * pixels, layer.height * pixels);
    }
    if (block?.cell === 1 && view.scale >= TEXT_SCALE) writeNumbers();
    context.restore();
    outline();
  }

  function writeNumbers() {
    const { rows, cols } = visible(view, shape, size);
    context.font = "12px ui-monospace, monospace";
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let i = rows[0]; i < rows[1]; i += 1) {
      for (let j = cols[0]; j < cols[1]; j += 1) {
        const value = loadedValue(i, j);
        if (value === undefined) continue;
        const [x, y] = pixelOf(view, [i + 0.5, j + 0.5], size);
        const place = scale[1] > scale[0] ? (value - scale[0]) / (scale[1] - scale[0]) : 0.5;
        const bright = map === "sequential" ? place > 0.55 : Math.abs(place - 0.5) < 0.32;
        context.fillStyle = bright ? "#000" : "#fff";
        context.fillText(format.number(value, 4), x, y, view.scale - 4);
      }
    }
  }

  function outline() {
    const extent = cellExtent();
    const start = mark.map((index) => Math.floor(index / extent) * extent);
    const [x, y] = pixelOf(view, start, size);
    const edge = Math.max(extent * view.scale, 5);
    for (const [color, line] of [["#000", 3], ["#fff", 1]]) {
      context.strokeStyle = color;
      context.lineWidth = line;
      context.strokeRect(x - 0.5, y - 0.5, edge + 1, edge + 1);
    }
  }

  // How many entries one step of the mark is: one, or what a few pixels cover.
  const cellExtent = () => Math.max(1, Math.round(4 / view.scale));

  function loadedValue(i, j) {
    if (!block || block.cell !== 1) return undefined;
    if (i < block.rows[0] || i >= block.rows[1] || j < block.cols[0] || j >= block.cols[1]) return undefined;
    return block.values[(i - block.rows[0]) * block.width + (j - block.cols[0])];
  }

  let loading = null;
  const load = debounce(async () => {
    loading?.abort();
    loading = new AbortController();
    const { rows, cols } = visible(view, shape, size);
    const { signal: ours } = loading;
    try {
      const loaded = await source.load({ rows, cols, signal: ours });
      if (ours.aborted || signal.aborted) return;
      if (scale === null || fit.checked) setScale(numbers(loaded.values));
      block = raster(loaded);
      base ??= block;
      canvas.dataset.cell = loaded.cell;
      canvas.dataset.rows = loaded.rows.join(":");
      canvas.dataset.loads = (moves += 1);
      replace(trouble);
      draw();
      tell();
    } catch (error) {
      if (error.name !== "AbortError") replace(trouble, problemBox(error));
    }
  }, LOAD_PAUSE_MS, signal);

  function setScale(found) {
    scale = found;
    low.textContent = format.number(scale[0], 4);
    high.textContent = format.number(scale[1], 4);
    if (base) base = raster(base);
  }

  // The entry under the mark, in words.
  const ask = debounce(async () => {
    const [i, j] = mark;
    try {
      const value = await source.entry(i, j, signal);
      if (i === mark[0] && j === mark[1]) say(i, j, value);
    } catch (error) {
      if (error.name !== "AbortError") readout.textContent = `row ${i}, column ${j}: ${error.message}`;
    }
  }, ENTRY_PAUSE_MS, signal);

  function say(i, j, value) {
    readout.textContent = `row ${i}, column ${j}: ${format.number(value, 9)}`;
    readout.dataset.value = value;
  }

  function tell() {
    const value = loadedValue(...mark);
    if (value !== undefined) say(...mark, value);
    else ask();
  }

  function setMark(i, j) {
    const next = [Math.min(Math.max(i, 0), shape[0] - 1), Math.min(Math.max(j, 0), shape[1] - 1)];
    if (next[0] === mark[0] && next[1] === mark[1]) return;
    mark = next;
    draw();
    tell();
  }

  function setView(next) {
    view = clamp(next, shape, size);
    canvas.dataset.scale = view.scale;
    draw();
    load();
  }

  const markPixel = () => pixelOf(view, [mark[0] + 0.5, mark[1] + 0.5], size);
  const inside = ([x, y]) => x >= 0 && y >= 0 && x < size[0] && y < size[1];
  const zoom = (factor) => {
    const at = markPixel();
    setView(zoomed(view, factor, inside(at) ? at : [size[0] / 2, size[1] / 2], size));
  };
  const goTo = (i, j) => {
    setMark(i, j);
    setView({ row: mark[0] + 0.5, col: mark[1] + 0.5, scale: LARGEST_SCALE });
  };
  const showAll = () => setView(whole(shape, size));

  function keep() {
    // The mark never leaves the picture.
    const [x, y] = markPixel();
    if (!inside([x, y])) setView({ ...view, row: mark[0] + 0.5, col: mark[1] + 0.5 });
  }

  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const step = cellExtent();
    const arrows = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const arrow = arrows[event.key];
    if (arrow && event.shiftKey) setView(moved(view, (arrow[1] * size[0]) / 3, (arrow[0] * size[1]) / 3));
    else if (arrow) {
      setMark(mark[0] + arrow[0] * step, mark[1] + arrow[1] * step);
      keep();
    } else if (event.key === "+" || event.key === "=") zoom(STEP);
    else if (event.key === "-") zoom(1 / STEP);
    else if (event.key === "0") showAll();
    else if (event.key === "Enter") goTo(...mark);
    else return;
    event.preventDefault();
  });

  const place = (event) => [event.offsetX, event.offsetY];
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { at: place(event), view, moved: false };
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const at = place(event);
    if (drag && Math.hypot(at[0] - drag.at[0], at[1] - drag.at[1]) > 3) drag.moved = true;
    if (drag?.moved) setView(moved(drag.view, drag.at[0] - at[0], drag.at[1] - at[1]));
    else if (!drag && event.pointerType === "mouse") setMark(...entryAt(view, at, size).map(Math.floor));
  });
  canvas.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) setMark(...entryAt(view, place(event), size).map(Math.floor));
    drag = null;
  });
  canvas.addEventListener("pointercancel", () => {
    drag = null;
  });
  canvas.addEventListener("dblclick", (event) => setView(zoomed(view, 4, place(event), size)));
  canvas.addEventListener("wheel", (event) => {
    // A page that scrolls must not be caught by a picture on the way.
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    setView(zoomed(view, 2 ** (-event.deltaY / 240), place(event), size));
  }, { passive: false });

  const button = (text, label, action) => {
    const out = h("button", { type: "button", "aria-label": label, title: label }, text);
    out.addEventListener("click", action);
    return out;
  };
  const index = (title, extent) => h("input", { type: "number", min: 0, max: extent - 1, step: 1, value: 0, "aria-label": title, class: "index" });
  const [row, col] = [index("row", shape[0]), index("column", shape[1])];
  const jump = h("form", { class: "jump", novalidate: true },
    h("label", null, "row ", row), h("label", null, "column ", col), h("button", { type: "submit" }, "Go to the entry"));
  jump.addEventListener("submit", (event) => {
    event.preventDefault();
    goTo(Math.trunc(row.valueAsNumber) || 0, Math.trunc(col.valueAsNumber) || 0);
  });
  const fit = h("input", { type: "checkbox" });
  fit.addEventListener("change", () => {
    if (!fit.checked && base) setScale(numbers(base.values));
    load();
  });

  const figure = h("figure", { class: "heat" },
    h("div", { class: "toolbar", role: "group", "aria-label": "Zoom" },
      button("+", "Zoom in", () => zoom(STEP)), button("−", "Zoom out", () => zoom(1 / STEP)), button("Whole", "Show the whole matrix", showAll), jump),
    canvas, readout, trouble,
    h("div", { class: "legend-row" }, low, legend, high, h("label", null, fit, " colours of what is shown")),
    h("figcaption", { id: `${id}-keys`, class: "hint" }, KEYS));

  const resize = new ResizeObserver(() => {
    const width = Math.floor(figure.clientWidth);
    if (!width || width === size[0]) return;
    const height = Math.round(Math.min(width, Math.max(160, (width * shape[0]) / shape[1]), Math.max(280, innerHeight * 0.72)));
    const before = view;
    size = [width, height];
    canvas.style.height = `${height}px`;
    setView(before ?? whole(shape, size));
  });
  resize.observe(figure);
  signal.addEventListener("abort", () => {
    resize.disconnect();
    loading?.abort();
  });
  return figure;
}
