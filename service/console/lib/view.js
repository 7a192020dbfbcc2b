// The part of a matrix that a picture shows: pure functions over {row, col, scale}, the entry in the
// middle of the picture (not whole) and its pixels per entry.

export const LARGEST_SCALE = 96;

// The whole matrix of `shape` in `size` = [width, height] pixels.
export function whole([rows, cols], [width, height]) {
  return { row: rows / 2, col: cols / 2, scale: Math.min(width / cols, height / rows) };
}

// Nothing beyond the edges, no smaller than the whole, no larger than LARGEST_SCALE.
export function clamp(view, shape, size) {
  const [width, height] = size;
  const smallest = whole(shape, size).scale;
  const scale = Math.min(Math.max(view.scale, smallest), Math.max(LARGEST_SCALE, smallest));
  const inside = (middle, extent, pixels) => {
    const half = pixels / scale / 2;
    return 2 * half >= extent ? extent / 2 : Math.min(Math.max(middle, half), extent - half);
  };
  return { row: inside(view.row, shape[0], height), col: inside(view.col, shape[1], width), scale };
}

// Zoomed by `factor` so that the entry under pixel `at` = [x, y] stays there.
export function zoomed(view, factor, at, size) {
  const [row, col] = entryAt(view, at, size);
  const scale = view.scale * factor;
  return { scale, row: row - (at[1] - size[1] / 2) / scale, col: col - (at[0] - size[0] / 2) / scale };
}

export function moved(view, dx, dy) {
  return { ...view, row: view.row + dy / view.scale, col: view.col + dx / view.scale };
}

// [row, col] under a pixel, not whole.
export function entryAt(view, [x, y], [width, height]) {
  return [view.row + (y - height / 2) / view.scale, view.col + (x - width / 2) / view.scale];
}

// The pixel of the upper left corner of an entry.
export function pixelOf(view, [row, col], [width, height]) {
  return [width / 2 + (col - view.col) * view.scale, height / 2 + (row - view.row) * view.scale];
}

// Whole rows and columns that are visible: {rows: [first, end], cols: [first, end]}.
export function visible(view, shape, size) {
  const [top, left] = entryAt(view, [0, 0], size);
  const [bottom, right] = entryAt(view, size, size);
  const within = (from, to, extent) => [Math.max(0, Math.floor(from)), Math.min(extent, Math.ceil(to))];
  return { rows: within(top, bottom, shape[0]), cols: within(left, right, shape[1]) };
}
