// Colours of numbers: a sequential map for values, a diverging one for differences.

// Viridis at eleven points (Smith & van der Walt 2015), linear between them: even steps in
// lightness, also for people who see few colours.
const SEQUENTIAL = [
  [68, 1, 84], [72, 36, 117], [65, 68, 135], [53, 95, 141], [42, 120, 142], [33, 145, 140],
  [34, 168, 132], [68, 191, 112], [122, 209, 81], [189, 223, 38], [253, 231, 37],
];
// Blue, white, red.
const DIVERGING = [
  [33, 102, 172], [67, 147, 195], [146, 197, 222], [209, 229, 240], [247, 247, 247],
  [253, 219, 199], [244, 165, 130], [214, 96, 77], [178, 24, 43],
];
const SIZE = 256;

function table(points) {
  const out = new Uint8ClampedArray(4 * SIZE);
  for (let i = 0; i < SIZE; i += 1) {
    const at = (i / (SIZE - 1)) * (points.length - 1);
    const low = Math.min(Math.floor(at), points.length - 2);
    for (let c = 0; c < 3; c += 1) {
      out[4 * i + c] = points[low][c] + (at - low) * (points[low + 1][c] - points[low][c]);
    }
    out[4 * i + 3] = 255;
  }
  return out;
}

const TABLES = { sequential: table(SEQUENTIAL), diverging: table(DIVERGING) };

// Paints `values` (rows, cols) as one pixel each. What is not finite stays transparent.
export function paint({ values, rows, cols, low, high, map = "sequential" }) {
  const image = new ImageData(cols, rows);
  const colors = TABLES[map];
  const scale = high > low ? (SIZE - 1) / (high - low) : 0;
  const middle = SIZE >> 1;
  for (let i = 0; i < values.length; i += 1) {
    const value = values[i];
    if (!Number.isFinite(value)) continue;
    const index = scale ? Math.min(SIZE - 1, Math.max(0, Math.round((value - low) * scale))) : middle;
    image.data.set(colors.subarray(4 * index, 4 * index + 4), 4 * i);
  }
  return image;
}

export function range(values) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    if (!Number.isFinite(value)) continue;
    if (value < low) low = value;
    if (value > high) high = value;
  }
  return low <= high ? [low, high] : [0, 0];
}

// A strip of all colours, for legends.
export function strip(canvas, map) {
  canvas.width = SIZE;
  canvas.height = 1;
  const values = Float32Array.from({ length: SIZE }, (_, i) => i);
  const image = paint({ values, rows: 1, cols: SIZE, low: 0, high: SIZE - 1, map });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// The colour that a custom property of the page has now.
export function themeColor(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}
