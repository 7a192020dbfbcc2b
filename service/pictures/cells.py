"""The numbers of a picture: means of cells, put together from previews or entries of tiles."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from service.pictures.window import ReadLimits, View, chunk_bytes, flat_shape, tiles
from storage import matrices, previews
from storage.blobs import BlobStore
from storage.format import ArrayLayout, MatrixManifest
from storage.previews import Coordinates, Level, PreviewMissingError, Pyramid

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Source:
    """An array to look at. `sealed`: its tiles may be read; previews that are missing are made
    again from them. Otherwise what is missing is a hole."""

    blobs: BlobStore
    manifest: MatrixManifest
    layout: ArrayLayout
    sealed: bool = True

    @property
    def pyramid(self) -> Pyramid | None:
        return previews.pyramid(self.layout)


@dataclass(frozen=True)
class Cells:
    """`means` (rows, columns), in the dtype of the array; NaN where `filled` is false."""

    view: View
    means: Floats
    filled: NDArray[np.bool_]

    @property
    def holes(self) -> int:
        return int(self.filled.size - np.count_nonzero(self.filled))


@dataclass(frozen=True)
class _Axis:
    """One side of the part of a tile that a view shows: which of its rows (or columns) of numbers,
    how many entries each stands for, where a new cell begins, which cells of the view, and how
    many entries go into each."""

    part: slice
    entries: NDArray[np.int64]
    starts: NDArray[np.int64]
    cells: slice
    totals: NDArray[np.int64]


def read_cells(source: Source, view: View, limits: ReadLimits) -> Cells:
    """Means over the cells of a view; of the part of a cell that is there, if tiles are missing.

    Raises PreviewMissingError if more previews are missing than may be made again at once (those
    that were made are kept, so asking again gets further), MissingChunkError, CorruptChunkError.
    """
    sums = np.zeros(view.shape)
    counts = np.zeros(view.shape, np.int64)
    axes = _Axes(source.layout, view)
    # Inf - Inf is NaN and a sum may overflow: both are what is to be seen.
    with np.errstate(invalid="ignore", over="ignore"):
        for coords, values in _values(source, view, limits):
            rows, cols = axes.of(coords)
            weighted = values[rows.part, cols.part] * (rows.entries[:, None] * cols.entries)
            joined = np.add.reduceat(weighted, rows.starts, axis=0, dtype=np.float64)
            sums[rows.cells, cols.cells] += np.add.reduceat(joined, cols.starts, axis=1)
            counts[rows.cells, cols.cells] += rows.totals[:, None] * cols.totals
        filled = counts > 0
        means = np.full(view.shape, np.nan)
        np.divide(sums, counts, out=means, where=filled)
        return Cells(view, means.astype(source.layout.dtype), filled)


def level_planes(
    source: Source, chosen: list[Coordinates], level: Level, limits: ReadLimits
) -> Iterator[tuple[Coordinates, Floats]]:
    """Planes of one level of chunks (`previews.read_level`), each stored chunk read once; those
    that are missing are made again if the array is sealed, and left out otherwise. Raises as
    `read_cells`."""
    pyramid = source.pyramid
    assert pyramid is not None
    rebuilt_bytes, left = 0, 0
    for stored, wanted in _by_stored(source.layout, chosen):
        try:
            planes = previews.read_level(source.blobs, source.manifest, pyramid, stored, level)
        except PreviewMissingError:
            if not source.sealed:
                continue
            rebuilt_bytes += chunk_bytes(source.layout)
            # The first one always: so that asking again gets further, whatever the limit.
            if rebuilt_bytes > max(limits.rebuild_bytes, chunk_bytes(source.layout)):
                left += 1
                continue
            data = rebuild(source, pyramid, stored)
            record = data[level.start : level.stop]
            planes = previews.decode_level(pyramid, stored, level, record)
        for coords in wanted:
            yield coords, planes if coords == stored else planes.transpose(0, 2, 1)
    if left:
        raise PreviewMissingError(
            f"{left} tiles have no previews yet: the matrix was imported, or is older than these.",
            advice="Ask again: every request makes some of them.",
            missing_tiles=left,
        )


def rebuild(source: Source, pyramid: Pyramid, coords: Coordinates) -> bytes:
    """Make the preview of a stored chunk again, keep it if there is room, and return it."""
    values = matrices.read_chunk(source.blobs, source.manifest, source.layout.name, coords)
    data = previews.encode(pyramid, coords, values)
    previews.keep(source.blobs, source.manifest, source.layout.name, coords, data)
    return data


class _Axes:
    """The axes of the tiles of a view: one for each row and each column of tiles."""

    def __init__(self, layout: ArrayLayout, view: View) -> None:
        self._layout, self._view = layout, view
        self._rows: dict[int, _Axis] = {}
        self._cols: dict[int, _Axis] = {}

    def of(self, coords: tuple[int, ...]) -> tuple[_Axis, _Axis]:
        row, column = coords[0], coords[1] if len(coords) == 2 else 0
        view = self._view
        if row not in self._rows:
            extent = self._layout.chunk_extent(coords)[0]
            self._rows[row] = _along(extent, view.rows, view.step, view.cell[0])
        if column not in self._cols:
            two = len(coords) == 2
            whole = slice(0, flat_shape(self._layout.shape)[1])
            extent = self._layout.chunk_extent(coords)[1] if two else whole
            self._cols[column] = _along(extent, view.cols, view.step, view.cell[1])
        return self._rows[row], self._cols[column]


def _along(extent: slice, shown: slice, step: int, cell: int) -> _Axis:
    """All edges of tiles and cells are multiples of `step`, so only the last may be cut short."""
    entries = previews.extents(extent.stop - extent.start, step)
    first, origin = extent.start // step, shown.start // step
    low, high = max(first, origin), min(first + len(entries), -(-shown.stop // step))
    part = slice(low - first, high - first)
    cells = (np.arange(low, high) - origin) // (cell // step)
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    return _Axis(
        part,
        entries[part],
        starts,
        slice(int(cells[0]), int(cells[-1]) + 1),
        np.add.reduceat(entries[part], starts),
    )


def _values(
    source: Source, view: View, limits: ReadLimits
) -> Iterator[tuple[tuple[int, ...], Floats]]:
    chosen = tiles(source.layout, view)
    if view.level is not None:
        pairs = [(coords[0], coords[1]) for coords in chosen]
        for place, planes in level_planes(source, pairs, view.level, limits):
            yield place, planes[0]
        return
    for stored, wanted in _by_stored(source.layout, chosen):
        name = source.layout.name
        chunk = matrices.read_chunk(source.blobs, source.manifest, name, stored)
        values = chunk.reshape(len(chunk), -1).astype(np.float64)
        for coords in wanted:
            yield coords, values if coords == stored else values.T


_Chunk = TypeVar("_Chunk", bound=tuple[int, ...])


def _by_stored(layout: ArrayLayout, chosen: Iterable[_Chunk]) -> list[tuple[_Chunk, list[_Chunk]]]:
    """Stored chunks, each with those of `chosen` that it holds: itself, its mirror, or both."""
    found: dict[_Chunk, list[_Chunk]] = {}
    for coords in chosen:
        mirrored = layout.symmetric and coords[0] > coords[1]
        found.setdefault(coords[::-1] if mirrored else coords, []).append(coords)  # type: ignore[arg-type]
    return list(found.items())
