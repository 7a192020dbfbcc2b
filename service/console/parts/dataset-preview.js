// The first samples of a data set: as pictures where they are, and as columns.

import { request } from "../lib/api.js";
import { paint, range } from "../lib/colors.js";
import { h } from "../lib/dom.js";
import * as format from "../lib/format.js";
import { parseNpy } from "../lib/npy.js";
import { table } from "./basics.js";

const SAMPLES = 12;
const COLUMNS = 10;
// Enough for a dozen pictures of 224 x 224 x 3.
const MOST_NUMBERS = 2_000_000;
const SMALLEST_PICTURE_EDGE = 8;

export async function datasetPreview(dataset, signal) {
  const features = dataset.shape.slice(1).reduce((a, b) => a * b, 1);
  const n = Math.max(1, Math.min(SAMPLES, dataset.shape[0], Math.floor(MOST_NUMBERS / features)));
  const x = await rows(dataset.id, n, "x", signal);
  const y = dataset.targets ? await rows(dataset.id, n, "y", signal) : null;
  const words = (i) => {
    if (!y) return null;
    const width = y.values.length / n;
    return Array.from(y.values.slice(i * width, (i + 1) * width), (value) => format.number(value, 4)).join(", ");
  };
  const form = pictureForm(dataset.shape);
  return h(
    "div",
    { class: "preview" },
    form && pictures(x, n, form, words),
    form?.guess && h("p", { class: "hint" }, `${features} columns drawn as ${form.rows} × ${form.cols} pixels, in case they are.`),
    columns(x, n, features, words, Boolean(y)),
  );
}

async function rows(id, n, part, signal) {
  const response = await request("GET", `/v1/datasets/${id}/rows?rows=0:${n}&part=${part}`, { accept: "application/x-npy", signal });
  return parseNpy(await response.arrayBuffer());
}

// How a sample becomes a picture, or null.
function pictureForm(shape) {
  if (shape.length === 4) return { rows: shape[1], cols: shape[2], channels: shape[3] };
  if (shape.length === 3) return { rows: shape[2], cols: shape[1], channels: 1, sequence: true };
  const edge = Math.sqrt(shape[1]);
  if (shape.length === 2 && Number.isInteger(edge) && edge >= SMALLEST_PICTURE_EDGE) {
    return { rows: edge, cols: edge, channels: 1, guess: true };
  }
  return null;
}

function pictures(x, n, form, words) {
  const size = x.values.length / n;
  const [low, high] = range(x.values);
  return h(
    "div",
    { class: "pictures" },
    Array.from({ length: n }, (_, i) => {
      const target = words(i);
      const canvas = h("canvas", { role: "img", "aria-label": `Sample ${i}${target ? `, target ${target}` : ""}` });
      canvas.width = form.cols;
      canvas.height = form.rows;
      canvas.getContext("2d").putImageData(picture(x.values.subarray(i * size, (i + 1) * size), form, low, high), 0, 0);
      return h("figure", null, canvas, h("figcaption", null, target ?? `${i}`));
    }),
  );
}

function picture(values, { rows: height, cols: width, channels, sequence }, low, high) {
  if (sequence) {
    // (T, C) lies on its side: time runs to the right, one row per channel.
    const turned = new Float64Array(values.length);
    for (let t = 0; t < width; t += 1) for (let c = 0; c < height; c += 1) turned[c * width + t] = values[t * height + c];
    return paint({ values: turned, rows: height, cols: width, low, high });
  }
  const image = new ImageData(width, height);
  const scale = high > low ? 255 / (high - low) : 0;
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    for (let c = 0; c < 3; c += 1) {
      const channel = channels >= 3 ? c : 0;
      image.data[4 * pixel + c] = (values[pixel * channels + channel] - low) * scale;
    }
    image.data[4 * pixel + 3] = 255;
  }
  return image;
}

function columns(x, n, features, words, targets) {
  const shown = Math.min(COLUMNS, features);
  const names = ["row", ...(targets ? ["target"] : []), ...Array.from({ length: shown }, (_, j) => `${j}`), ...(features > shown ? ["…"] : [])];
  const cells = (i) => [
    i,
    ...(targets ? [words(i)] : []),
    ...Array.from({ length: shown }, (_, j) => format.number(x.values[i * features + j], 4)),
    ...(features > shown ? ["…"] : []),
  ];
  return table(
    `First ${n} samples`,
    names.map((name) => ({ name, number: true })),
    Array.from({ length: n }, (_, i) => ({ key: `${i}`, cells: cells(i) })),
  );
}
