"""Pictures of tiles, kept beside them: block means at a few levels, so that nobody has to read a
matrix to look at it.

A preview object belongs to one chunk and is derived from it alone. It is no part of the matrix:
no digest covers it, archives leave it out, and whoever misses it makes it again from its chunk.
FORMAT.md describes the bytes.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from storage import matrices
from storage.blobs import BlobStore
from storage.chunks import decode_values, encode_values, encoded_bytes
from storage.digest import has_square_chunks
from storage.errors import CorruptChunkError, NotFoundError, StoreUnavailableError
from storage.format import ArrayLayout, MatrixManifest
from storage.keys import chunk_key

logger = logging.getLogger(__name__)

FINEST_CELL = 8  # entries along the edge of a cell of the first level
LEVEL_FACTOR = 4  # from one level to the next
FOLDER = "_preview"  # within the folder of a matrix; not an array name

# Chunks this wide keep the diagonal of the matrix in their preview; narrower ones are so small
# that reading those on the diagonal costs little.
DIAGONAL_ROWS = 64

# Strips of rows that stay in cache while they are summed.
_STRIP_ROWS = 128

Values = NDArray[np.floating]
Coordinates = tuple[int, int]


class PreviewMissingError(NotFoundError):
    """A tile has no preview, or a damaged one. It can be made again from the tile."""

    kind = "preview-missing"


@dataclass(frozen=True)
class Level:
    """One record of a preview object.

    `cell`: entries along the edge of a cell. `planes`: what is kept of each: the mean alone, or
    mean, minimum and maximum. `edge`: cells along the edge of a chunk. `start`, `stop`: bytes.
    """

    cell: int
    planes: int
    edge: int
    start: int
    stop: int

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.planes, self.edge, self.edge


@dataclass(frozen=True)
class Pyramid:
    """What preview objects of an array look like. `diagonal_bytes`: of the record that chunks on
    the diagonal of a symmetric array have in addition; 0 if there is none."""

    layout: ArrayLayout
    levels: tuple[Level, ...]
    diagonal_bytes: int

    def size(self, coords: Coordinates) -> int:
        """Bytes of the preview of a stored chunk."""
        extra = self.diagonal_bytes if coords[0] == coords[1] else 0
        return self.levels[-1].stop + extra

    @property
    def stored_bytes(self) -> int:
        """Bytes of all previews of the array: under 4 % of the array itself."""
        on_diagonal = self.layout.grid[0] * self.diagonal_bytes
        return self.layout.stored_chunks * self.levels[-1].stop + on_diagonal


def pyramid(layout: ArrayLayout) -> Pyramid | None:
    """The preview format of an array; None for arrays that have none: results in chunks of whole
    rows, and chunks of less than 8 rows. These are read themselves."""
    edge = layout.chunk_shape[0]
    if not has_square_chunks(layout):
        return None
    cells = []
    cell = FINEST_CELL
    while cell <= edge and edge % cell == 0:
        cells.append(cell)
        cell *= LEVEL_FACTOR
    if not cells:
        return None
    shapes = [(1 if c == FINEST_CELL else 3, edge // c, edge // c) for c in cells]
    stops = list(accumulate(encoded_bytes(shape, layout.dtype) for shape in shapes))
    levels = tuple(
        Level(cell, shape[0], shape[1], start, stop)
        for cell, shape, start, stop in zip(cells, shapes, [0, *stops[:-1]], stops, strict=True)
    )
    has_diagonal = layout.symmetric and edge >= DIAGONAL_ROWS
    diagonal_bytes = encoded_bytes((edge,), layout.dtype) if has_diagonal else 0
    return Pyramid(layout, levels, diagonal_bytes)


def encode(found: Pyramid, coords: Coordinates, values: Values) -> bytes:
    """The preview object of a stored chunk. `values`: the chunk, clipped to the array.

    A cell with an entry that is not finite has a mean that is not finite either; so has one whose
    entries are within a factor 64 of the largest number of the dtype.
    """
    layout, dtype = found.layout, np.dtype(found.layout.dtype)
    rows, cols = values.shape
    parts: list[bytes | memoryview] = []
    # Entries that are not finite, or nearly not, make cells that say so.
    with np.errstate(over="ignore", invalid="ignore"):
        for level, planes in zip(found.levels, _planes(found, values), strict=True):
            counts = np.multiply.outer(extents(rows, level.cell), extents(cols, level.cell))
            planes[0] = planes[0] / counts
            stacked = np.stack(planes[: level.planes]).astype(dtype)
            parts.append(encode_values(stacked, level.shape, dtype))
    if found.diagonal_bytes and coords[0] == coords[1]:
        diagonal = np.diagonal(values).astype(dtype)
        parts.append(encode_values(diagonal, (layout.chunk_shape[0],), dtype))
    return b"".join(bytes(part) for part in parts)


def write(
    blobs: BlobStore, manifest: MatrixManifest, name: str, coords: Coordinates, values: Values
) -> bool:
    """Keep the preview of a chunk that is stored; False if the store would not take it.

    That is not an error: the chunk is what was asked for, and its preview can be made from it at
    any time. The log has the reason. Arrays without previews are left alone.
    """
    found = pyramid(manifest.array(name))
    return found is None or keep(blobs, manifest, name, coords, encode(found, coords, values))


def keep(
    blobs: BlobStore, manifest: MatrixManifest, name: str, coords: Coordinates, data: bytes
) -> bool:
    """`write` for a preview that was encoded before."""
    try:
        blobs.put(key(manifest, name, coords), data)
    except (OSError, StoreUnavailableError) as error:
        logger.warning(
            "The preview of tile %s of %s of %s could not be written (%s); the tile is stored.",
            coords,
            name,
            manifest.id,
            error.strerror if isinstance(error, OSError) else error.message,
        )
        return False
    return True


def write_array(blobs: BlobStore, manifest: MatrixManifest, name: str, values: Values) -> None:
    """`write` for every stored chunk of an array that is in memory."""
    layout = manifest.array(name)
    if pyramid(layout) is not None:
        for i, j in matrices.all_stored_coords(layout):
            write(blobs, manifest, name, (i, j), values[layout.chunk_extent((i, j))])


def is_there(blobs: BlobStore, manifest: MatrixManifest, name: str, coords: Coordinates) -> bool:
    """Whether a stored chunk has a preview of the right size, or needs none."""
    found = pyramid(manifest.array(name))
    return found is None or blobs.size(key(manifest, name, coords)) == found.size(coords)


def read_level(
    blobs: BlobStore, manifest: MatrixManifest, found: Pyramid, coords: Coordinates, level: Level
) -> Values:
    """Planes (1 or 3, rows, columns) of one level of a chunk, clipped to the array; chunks left of
    the diagonal of a symmetric array are mirrored. Raises PreviewMissingError."""
    name = key(manifest, found.layout.name, stored_coords(found.layout, coords))
    data = _part(blobs, name, level.start, level.stop)
    try:
        return decode_level(found, coords, level, data)
    except CorruptChunkError as error:
        raise _missing(name) from error


def decode_level(found: Pyramid, coords: Coordinates, level: Level, data: bytes) -> Values:
    """`read_level` from the bytes of the level's record. Raises CorruptChunkError."""
    layout = found.layout
    planes = decode_values(data, level.shape, layout.dtype, f"preview of {coords}")
    if stored_coords(layout, coords) != coords:
        planes = planes.transpose(0, 2, 1)
    height, width = (
        len(extents(part.stop - part.start, level.cell)) for part in layout.chunk_extent(coords)
    )
    return planes[:, :height, :width]


def stored_coords(layout: ArrayLayout, coords: Coordinates) -> Coordinates:
    """Coordinates of the stored chunk that holds a chunk or its transpose."""
    mirrored = layout.symmetric and coords[0] > coords[1]
    return (coords[1], coords[0]) if mirrored else coords


def read_diagonal(blobs: BlobStore, manifest: MatrixManifest, found: Pyramid, index: int) -> Values:
    """The diagonal of chunk (index, index) of an array with `diagonal_bytes`, clipped to the
    array. Raises PreviewMissingError."""
    layout = found.layout
    name = key(manifest, layout.name, (index, index))
    start = found.levels[-1].stop
    data = _part(blobs, name, start, start + found.diagonal_bytes)
    try:
        values = decode_values(data, layout.chunk_shape[:1], layout.dtype, name)
    except CorruptChunkError as error:
        raise _missing(name) from error
    extent = layout.chunk_extent((index, index))[0]
    return values[: extent.stop - extent.start]


def key(manifest: MatrixManifest, name: str, coords: Coordinates) -> str:
    """Storage key of the preview of a stored chunk."""
    return f"{matrices.FOLDER}/{manifest.id}/{FOLDER}/{name}/{chunk_key(coords)}"


def extents(length: int, cell: int) -> NDArray[np.int64]:
    """Entries along one axis in each cell of `length` entries; the last may have fewer."""
    starts = np.arange(0, length, cell, dtype=np.int64)
    return np.minimum(starts + cell, length) - starts


def _planes(found: Pyramid, values: Values) -> Iterator[list[Values]]:
    """Sums, minima and maxima of the cells, level by level."""
    sums, lows, highs = _finest(values)
    for level in found.levels:
        if level.cell > FINEST_CELL:
            sums = _pool(sums, LEVEL_FACTOR, np.add, 0.0)
            lows = _pool(lows, LEVEL_FACTOR, np.minimum)
            highs = _pool(highs, LEVEL_FACTOR, np.maximum)
        yield [sums, lows, highs]


def _finest(values: Values) -> tuple[Values, Values, Values]:
    """Sums (float64), minima and maxima of the cells of the first level."""
    strips = [values[top : top + _STRIP_ROWS] for top in range(0, len(values), _STRIP_ROWS)]
    found = [
        (
            _pool(strip, FINEST_CELL, np.add, 0.0).astype(np.float64),
            _pool(strip, FINEST_CELL, np.minimum),
            _pool(strip, FINEST_CELL, np.maximum),
        )
        for strip in strips
    ]
    sums, lows, highs = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return sums, lows, highs


def _pool(values: Values, cell: int, join: np.ufunc, padding: float | None = None) -> Values:
    """Cells of `cell` x `cell` values joined to one. Cells that reach beyond the edge are filled
    with `padding`, or with their own last values.

    Whole rows are joined first, which processors are good at, and which leaves few columns to
    pick together: ten times faster than ufunc.reduceat.
    """
    height, width = (-(-n // cell) * cell for n in values.shape)
    if (height, width) != values.shape:
        beyond = [(0, height - values.shape[0]), (0, width - values.shape[1])]
        values = (
            np.pad(values, beyond, mode="edge")
            if padding is None
            else np.pad(values, beyond, constant_values=padding)
        )
    rows = values.reshape(height // cell, cell, width)
    joined = join(rows[:, 0], rows[:, 1])
    for k in range(2, cell):
        join(joined, rows[:, k], out=joined)
    cells: Values = join(joined[:, 0::cell], joined[:, 1::cell])
    for k in range(2, cell):
        join(cells, joined[:, k::cell], out=cells)
    return cells


def _part(blobs: BlobStore, name: str, start: int, stop: int) -> bytes:
    try:
        return blobs.get(name, start=start, stop=stop)
    except NotFoundError:
        raise _missing(name) from None


def _missing(name: str) -> PreviewMissingError:
    return PreviewMissingError(
        f"There is no preview {name}.", advice="It is made again from its tile on request."
    )


def stored_bytes(manifest: MatrixManifest) -> int:
    """Bytes of all previews of a matrix."""
    found = (pyramid(layout) for layout in manifest.arrays)
    return sum(p.stored_bytes for p in found if p is not None)
