"""The numbers of a picture: means of cells, put together from previews or entries of tiles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

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
    how many entries each stands for, where a new cell begins, and which cells of the view."""

    part: slice
    entries: NDArray[np.int64]
    starts: NDArray[np.int64]
    cells: slice


def read_cells(source: Source, view: View, limits: ReadLimits) -> Cells:
    """Means over the cells of a view; of the part of a cell that is there, if tiles are missing.

    Raises PreviewMissingError if more previews are missing than may be made again at once (those
    that were made are kept, so asking again gets further), MissingChunkError, CorruptChunkError.
    """
    sums = np.zeros(view.shape)
    counts = np.zeros(view.shape, np.int64)
    for coords, values in _values(source, view, limits):
        rows, cols = _axes(source.layout, view, coords)
        weights = np.multiply.outer(rows.entries, cols.entries)
        # Inf - Inf is NaN and a sum may overflow: both are what is to be seen.
        with np.errstate(invalid="ignore", over="ignore"):
            weighted = values[rows.part, cols.part].astype(np.float64) * weights
            joined = np.add.reduceat(
                np.add.reduceat(weighted, rows.starts, axis=0), cols.starts, axis=1
            )
            sums[rows.cells, cols.cells] += joined
        counts[rows.cells, cols.cells] += np.multiply.outer(
            np.add.reduceat(rows.entries, rows.starts), np.add.reduceat(cols.entries, cols.starts)
        )
    filled = counts > 0
    means = np.full(view.shape, np.nan)
    np.divide(sums, counts, out=means, where=filled)
    with np.errstate(over="ignore"):
        return Cells(view, means.astype(source.layout.dtype), filled)


def level_planes(
    source: Source, chosen: list[Coordinates], level: Level, limits: ReadLimits
) -> Iterator[tuple[Coordinates, Floats]]:
    """Planes of one level of chunks (`previews.read_level`), one after the other; those that are
    missing are made again if the array is sealed, and left out otherwise. Raises as `read_cells`.
    """
    pyramid = source.pyramid
    assert pyramid is not None
    rebuilt_bytes = 0
    left: set[Coordinates] = set()
    for coords in chosen:
        try:
            yield coords, previews.read_level(source.blobs, source.manifest, pyramid, coords, level)
        except PreviewMissingError:
            if not source.sealed:
                continue
            stored = previews.stored_coords(source.layout, coords)
            rebuilt_bytes += chunk_bytes(source.layout)
            # The first one always: so that asking again gets further, whatever the limit.
            if rebuilt_bytes > max(limits.rebuild_bytes, chunk_bytes(source.layout)):
                left.add(stored)
                continue
            data = rebuild(source, pyramid, stored)
            record = data[level.start : level.stop]
            yield coords, previews.decode_level(pyramid, coords, level, record)
    if left:
        raise PreviewMissingError(
            f"{len(left)} tiles have no previews yet: the matrix was imported, or is older than"
            " these.",
            advice="Ask again: every request makes some of them.",
            missing_tiles=len(left),
        )


def rebuild(source: Source, pyramid: Pyramid, coords: Coordinates) -> bytes:
    """Make the preview of a stored chunk again, keep it if there is room, and return it."""
    values = matrices.read_chunk(source.blobs, source.manifest, source.layout.name, coords)
    data = previews.encode(pyramid, coords, values)
    previews.keep(source.blobs, source.manifest, source.layout.name, coords, data)
    return data


def _axes(layout: ArrayLayout, view: View, coords: tuple[int, ...]) -> tuple[_Axis, _Axis]:
    extent = layout.chunk_extent(coords)
    across = extent[1] if len(extent) == 2 else slice(0, flat_shape(layout.shape)[1])
    return (
        _along(extent[0], view.rows, view.step, view.cell[0]),
        _along(across, view.cols, view.step, view.cell[1]),
    )


def _along(extent: slice, shown: slice, step: int, cell: int) -> _Axis:
    """All edges of tiles and cells are multiples of `step`, so only the last may be cut short."""
    entries = previews.extents(extent.stop - extent.start, step)
    first, origin = extent.start // step, shown.start // step
    low, high = max(first, origin), min(first + len(entries), -(-shown.stop // step))
    part = slice(low - first, high - first)
    cells = (np.arange(low, high) - origin) // (cell // step)
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    return _Axis(part, entries[part], starts, slice(int(cells[0]), int(cells[-1]) + 1))


def _values(
    source: Source, view: View, limits: ReadLimits
) -> Iterator[tuple[tuple[int, ...], Floats]]:
    chosen = tiles(source.layout, view)
    if view.level is None:
        for coords in chosen:
            name = source.layout.name
            values = matrices.read_chunk(source.blobs, source.manifest, name, coords)
            yield coords, values.reshape(len(values), -1)
        return
    pairs = [(coords[0], coords[1]) for coords in chosen]
    for coords, planes in level_planes(source, pairs, view.level, limits):
        yield coords, planes[0]
