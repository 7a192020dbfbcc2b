// Where a heat map gets its numbers: a stored array, or the difference of two.

import { get, request } from "../lib/api.js";
import { parseNpy } from "../lib/npy.js";

// Windows up to this many entries are read as they are; larger ones as means of cells.
const EXACT_ENTRIES = 512 * 512;
const CELLS = 512;

// {shape, load({rows, cols, signal}), entry(row, col, signal)}. `load` returns what it has, which may
// be more than was asked: {values, rows: [first, end], cols: [first, end], cell, height, width}, one
// value per `cell` x `cell` entries.
export function arraySource(matrixId, array) {
  const flat = array.shape.length === 1;
  const shape = flat ? [array.shape[0], 1] : array.shape.slice(0, 2);
  const window = (rows, cols) =>
    `array=${array.name}&rows=${rows[0]}:${rows[1]}` + (flat ? "" : `&cols=${cols[0]}:${cols[1]}`);
  return {
    shape,
    async load({ rows, cols, signal }) {
      const exact = (rows[1] - rows[0]) * (cols[1] - cols[0]) <= EXACT_ENTRIES;
      const path = exact
        ? `/v1/matrices/${matrixId}/slice?${window(rows, cols)}`
        : `/v1/matrices/${matrixId}/preview?${window(rows, cols)}&size=${CELLS}`;
      const response = await request("GET", path, { accept: "application/x-npy", signal });
      const { shape: found, values } = parseNpy(await response.arrayBuffer());
      const pair = (name, fallback) => response.headers.get(name)?.split(",").map(Number) ?? fallback;
      return {
        values,
        rows: exact ? rows : pair("X-Gramian-Rows", rows),
        cols: exact ? cols : pair("X-Gramian-Cols", cols),
        cell: exact ? 1 : Number(response.headers.get("X-Gramian-Cell")),
        height: found[0],
        width: found[1] ?? 1,
      };
    },
    async entry(row, col, signal) {
      const { values } = await get(`/v1/matrices/${matrixId}/slice?${window([row, row + 1], [col, col + 1])}`, signal);
      const value = flat ? values[0] : values[0][0];
      return value === null ? NaN : value; // JSON has no NaN and no infinity
    },
  };
}

// `a` minus `b`, entry by entry or mean by mean.
export function differenceSource(a, b) {
  return {
    shape: a.shape,
    async load(window) {
      const [left, right] = await Promise.all([a.load(window), b.load(window)]);
      if (left.cell !== right.cell || left.values.length !== right.values.length) {
        throw new Error("The two matrices have pictures of different grain here; zoom in to compare entries.");
      }
      return { ...left, values: Float64Array.from(left.values, (value, i) => value - right.values[i]) };
    },
    async entry(row, col, signal) {
      const [left, right] = await Promise.all([a.entry(row, col, signal), b.entry(row, col, signal)]);
      return left - right;
    },
  };
}
