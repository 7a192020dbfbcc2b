// Which tiles of a matrix are there, as a picture that fills while the job runs.

import { themeColor } from "../lib/colors.js";
import { h } from "../lib/dom.js";
import { count } from "../lib/format.js";

const EDGE = 360;
// A matrix of three tiles is no poster.
const LARGEST_CELL = 60;

// {node, draw(tiles)}; `tiles` is the answer of GET /v1/jobs/{id}/tiles.
export function tileMap() {
  const canvas = h("canvas", { class: "tile-map", width: EDGE, height: EDGE, role: "img", "aria-label": "No tiles yet" });
  const words = h("p", { class: "muted small" }, "The job waits for its turn; its tiles are not planned yet.");
  const node = h("figure", { class: "tile-figure" }, canvas, h("figcaption", null, words));
  let latest = null;
  const repaint = () => latest && paint(canvas, latest);
  const scheme = matchMedia("(prefers-color-scheme: dark)");
  scheme.addEventListener("change", repaint);
  return {
    node,
    draw(tiles) {
      latest = tiles;
      const { tiles_done: done, tiles_total: total, grid } = tiles;
      canvas.setAttribute("aria-label", `Tile map: ${done} of ${total} tiles are there`);
      canvas.dataset.done = done;
      words.textContent =
        `${count(grid[0])} × ${count(grid[1])} tiles of ${count(tiles.tile_rows)} rows` +
        (tiles.symmetric ? "; those below the diagonal are mirrored." : ".") +
        (tiles.tiles_per_cell > 1 ? ` One square stands for ${tiles.tiles_per_cell} × ${tiles.tiles_per_cell} tiles.` : "");
      paint(canvas, tiles);
    },
    // The theme outlives the page.
    close: () => scheme.removeEventListener("change", repaint),
  };
}

function paint(canvas, { total, done, failures, tiles_per_cell: perCell }) {
  const rows = total.length;
  const cols = total[0].length;
  const cell = Math.min(LARGEST_CELL, Math.max(1, Math.floor(EDGE / Math.max(rows, cols))));
  // Gaps between squares that are large enough to spare them.
  const gap = cell >= 6 ? 1 : 0;
  canvas.width = cols * cell;
  canvas.height = rows * cell;
  const context = canvas.getContext("2d");
  const colors = { none: themeColor("--tile-none"), wait: themeColor("--tile-wait"), done: themeColor("--tile-done") };
  for (let i = 0; i < rows; i += 1) {
    for (let j = 0; j < cols; j += 1) {
      const mirrored = total[i][j] === 0;
      const fraction = mirrored ? (total[j]?.[i] ? done[j][i] / total[j][i] : 0) : done[i][j] / total[i][j];
      const [x, y, size] = [j * cell, i * cell, cell - gap];
      context.globalAlpha = 1;
      context.fillStyle = mirrored ? colors.none : colors.wait;
      context.fillRect(x, y, size, size);
      if (!fraction) continue;
      context.globalAlpha = (mirrored ? 0.35 : 1) * Math.max(fraction, 0.15);
      context.fillStyle = colors.done;
      context.fillRect(x, y, size, size);
    }
  }
  context.globalAlpha = 1;
  context.strokeStyle = themeColor("--bad");
  context.lineWidth = 2;
  for (const { tile, fatal } of failures ?? []) {
    if (!tile || !fatal) continue;
    const [i, j] = tile.map((index) => Math.floor(index / perCell));
    context.strokeRect(j * cell + 1, i * cell + 1, cell - gap - 2, cell - gap - 2);
  }
}
