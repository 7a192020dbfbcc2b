"""What a picture of a part of an array shows: which cells, and from which level of the previews."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

from storage.errors import TooLargeError
from storage.format import ArrayLayout
from storage.previews import Level, Pyramid

# Windows longer than this many times their width get cells of the same shape as they have.
_SQUARE_UP_TO = 8


@dataclass(frozen=True)
class ReadLimits:
    """What one picture may read: whole tiles, tiles whose previews are made again, and the number
    of tiles that it looks at."""

    read_bytes: int
    rebuild_bytes: int
    tiles: int


@dataclass(frozen=True)
class View:
    """A window of an array in cells of `cell` (rows, columns) entries, made from `level`; None
    stands for the entries themselves. `rows`, `cols`: whole cells, clipped to the array."""

    rows: slice
    cols: slice
    cell: tuple[int, int]
    level: Level | None

    @property
    def shape(self) -> tuple[int, int]:
        return (
            math.ceil((self.rows.stop - self.rows.start) / self.cell[0]),
            math.ceil((self.cols.stop - self.cols.start) / self.cell[1]),
        )

    @property
    def step(self) -> int:
        """Entries along the edge of what is read."""
        return 1 if self.level is None else self.level.cell


def flat_shape(shape: tuple[int, ...]) -> tuple[int, int]:
    """An array as a picture sees it: rows by everything else."""
    return shape[0], math.prod(shape[1:])


def fit(
    layout: ArrayLayout,
    pyramid: Pyramid | None,
    rows: slice,
    cols: slice,
    *,
    size: int,
    limits: ReadLimits,
    entries: bool = True,
) -> View:
    """The view of `rows` x `cols` with at most `size` cells, and more than half as many, along its
    longer side; single entries if there are no more than that.

    `entries`: whether the entries themselves may be read; else nothing is finer than a preview.
    Raises TooLargeError if a limit would be exceeded.
    """
    height, width = rows.stop - rows.start, cols.stop - cols.start
    ideal = (math.ceil(height / size), math.ceil(width / size))
    longer, shorter = max(height, width), min(height, width)
    if pyramid is not None and longer <= _SQUARE_UP_TO * shorter:
        ideal = (max(ideal), max(ideal))
    level = _level(pyramid, min(ideal))
    if level is None and pyramid is not None:
        view = _aligned(layout, rows, cols, ideal, None)
        if not entries or chunk_bytes(layout) * len(tiles(layout, view)) > limits.read_bytes:
            level = pyramid.levels[0]
    view = _aligned(layout, rows, cols, ideal, level)
    _check(layout, view, limits)
    return view


def tiles(layout: ArrayLayout, view: View) -> list[tuple[int, ...]]:
    """Coordinates of the chunks that a view touches. Arrays in chunks of whole rows have one
    chunk per row of chunks."""
    (c1, *_), n_tiles = layout.chunk_shape, layout.grid
    down = range(view.rows.start // c1, math.ceil(view.rows.stop / c1))
    if len(n_tiles) != 2:
        return [(i, *(0,) * (len(n_tiles) - 1)) for i in down]
    c2 = layout.chunk_shape[1]
    across = range(view.cols.start // c2, math.ceil(view.cols.stop / c2))
    return list(product(down, across))


def chunk_bytes(layout: ArrayLayout) -> int:
    return math.prod(layout.chunk_shape) * layout.itemsize


def _level(pyramid: Pyramid | None, ideal: int) -> Level | None:
    """The coarsest level whose cells are at most twice too large."""
    fitting = [level for level in (pyramid.levels if pyramid else ()) if level.cell <= 2 * ideal]
    return fitting[-1] if fitting and ideal > 1 else None


def _aligned(
    layout: ArrayLayout, rows: slice, cols: slice, ideal: tuple[int, int], level: Level | None
) -> View:
    step = 1 if level is None else level.cell
    cell = (step * math.ceil(ideal[0] / step), step * math.ceil(ideal[1] / step))
    grown = [
        slice(part.start // edge * edge, min(math.ceil(part.stop / edge) * edge, length))
        for part, edge, length in zip((rows, cols), cell, flat_shape(layout.shape), strict=True)
    ]
    return View(grown[0], grown[1], cell, level)


def _check(layout: ArrayLayout, view: View, limits: ReadLimits) -> None:
    down = math.ceil((view.rows.stop - view.rows.start) / layout.chunk_shape[0]) + 1
    width = layout.chunk_shape[1] if len(layout.chunk_shape) == 2 else 1
    across = math.ceil((view.cols.stop - view.cols.start) / width) + 1
    if down * across > 4 * limits.tiles or len(tiles(layout, view)) > limits.tiles:
        raise TooLargeError(
            f"This window touches more than {limits.tiles} tiles.",
            advice="Ask for fewer rows and columns at a time.",
            limit_tiles=limits.tiles,
        )
    needed = chunk_bytes(layout) * len(tiles(layout, view))
    if view.level is None and needed > limits.read_bytes:
        raise TooLargeError(
            f"This window reads {needed} bytes of tiles; the limit is {limits.read_bytes}.",
            advice="Ask for fewer rows at a time.",
            needed_bytes=needed,
            limit_bytes=limits.read_bytes,
        )
