"""What the numbers of a stored array are like, without reading more of it than previews."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.pictures.cells import Source, level_planes, rebuild
from service.pictures.window import ReadLimits, chunk_bytes
from storage import matrices, previews
from storage.catalog.records import TileSummary
from storage.errors import TooLargeError
from storage.previews import Coordinates, Level, PreviewMissingError, Pyramid

BINS = 64
_DIAGONAL_VALUES = 256
# Arrays of this size are read, which takes less than a tenth of a second.
_ENTRIES_BYTES = 16 << 20

Floats = NDArray[np.floating]


@dataclass(frozen=True)
class Range:
    """Over the finite entries; None without any. `nonfinite`: None where they were not counted."""

    minimum: float | None
    maximum: float | None
    nonfinite: int | None
    of: str


def statistics(source: Source, limits: ReadLimits, recorded: TileSummary | None) -> dict[str, Any]:
    """Range, histogram and diagonal of a sealed array, as `StatisticsOut` has them.

    `recorded`: totals of its tile records if every tile has one, else None. Raises TooLargeError,
    PreviewMissingError as for pictures, MissingChunkError, CorruptChunkError.
    """
    layout, pyramid = source.layout, source.pyramid
    if pyramid is None or layout.stored_bytes <= _ENTRIES_BYTES:
        return _of_entries(source, limits, recorded)
    level = _affordable(source, pyramid, limits)
    found = _range(source, pyramid, limits, recorded)
    counts = np.zeros(BINS, np.int64)
    edges = _edges(found)
    for (i, j), planes in level_planes(source, _tiles(source), level, limits):
        times = 2 if layout.symmetric and i != j else 1
        counts += times * _count(planes[0], edges)
    return {
        **_described(source, found, recorded),
        "histogram": {
            "of": f"means of {level.cell} x {level.cell} entries",
            "cell": level.cell,
            "edges": edges.tolist(),
            "counts": counts.tolist(),
        },
        "diagonal": _diagonal(_stored_diagonal(source, pyramid, limits)),
    }


def _of_entries(source: Source, limits: ReadLimits, recorded: TileSummary | None) -> dict[str, Any]:
    layout = source.layout
    needed = layout.stored_bytes
    if needed > limits.read_bytes:
        raise TooLargeError(
            f"The array has {needed} bytes and no previews; at most {limits.read_bytes} are read.",
            advice="Read it in slices.",
            needed_bytes=needed,
            limit_bytes=limits.read_bytes,
        )
    values = matrices.read_slice(source.blobs, source.manifest, layout.name, slice(None))
    finite = values[np.isfinite(values)]
    found = Range(
        float(finite.min()) if finite.size else None,
        float(finite.max()) if finite.size else None,
        values.size - finite.size,
        "all entries",
    )
    edges = _edges(found)
    square = len(layout.shape) == 2 and layout.shape[0] == layout.shape[1]
    return {
        **_described(source, found, recorded),
        "histogram": {
            "of": "entries",
            "cell": 1,
            "edges": edges.tolist(),
            "counts": _count(finite, edges).tolist(),
        },
        "diagonal": _diagonal(np.diagonal(values)) if square else None,
    }


def _described(source: Source, found: Range, recorded: TileSummary | None) -> dict[str, Any]:
    return {
        "array": source.layout.name,
        "shape": list(source.layout.shape),
        "symmetric": source.layout.symmetric,
        "minimum": found.minimum,
        "maximum": found.maximum,
        "nonfinite": found.nonfinite,
        "range_of": found.of,
        "tiles": recorded and {"count": recorded.tiles, "seconds": recorded.seconds},
    }


def _affordable(source: Source, pyramid: Pyramid, limits: ReadLimits) -> Level:
    """The finest level that is small enough altogether."""
    number = source.layout.stored_chunks
    if number > limits.tiles:
        raise TooLargeError(
            f"The array has {number} tiles; the previews of at most {limits.tiles} are read.",
            advice="Raise the setting max_preview_tiles, or look at slices.",
            limit_tiles=limits.tiles,
        )
    fitting = [
        level
        for level in pyramid.levels
        if number * (level.stop - level.start) <= limits.read_bytes
    ]
    return fitting[0] if fitting else pyramid.levels[-1]


def _range(
    source: Source, pyramid: Pyramid, limits: ReadLimits, recorded: TileSummary | None
) -> Range:
    # Gram matrices with an entry that is not finite are never sealed, so these are exact.
    if recorded is not None and not recorded.nonfinite:
        return Range(recorded.minimum, recorded.maximum, 0, "records of all tiles")
    level = pyramid.levels[-1]
    lowest, highest = math.inf, -math.inf
    for _, planes in level_planes(source, _tiles(source), level, limits):
        lows, highs = (planes[1], planes[2]) if level.planes == 3 else (planes[0], planes[0])
        lowest = min(lowest, float(np.min(lows, initial=math.inf, where=np.isfinite(lows))))
        highest = max(highest, float(np.max(highs, initial=-math.inf, where=np.isfinite(highs))))
    of = "previews of all tiles" if level.planes == 3 else "means of 8 x 8 entries"
    if lowest > highest:
        return Range(None, None, None, of)
    return Range(lowest, highest, None, of)


def _tiles(source: Source) -> list[Coordinates]:
    return [(i, j) for i, j in matrices.all_stored_coords(source.layout)]


def _edges(found: Range) -> NDArray[np.float64]:
    low, high = found.minimum or 0.0, found.maximum or 0.0
    edges = np.linspace(low / 2, high / 2, BINS + 1) * 2  # halves: high - low may overflow
    return edges if low < high else np.linspace(low - 0.5, low + 0.5, BINS + 1)


def _count(values: Floats, edges: NDArray[np.float64]) -> NDArray[np.int64]:
    """Finite values per bin. Means may stick out of the range by a rounding error."""
    finite = values[np.isfinite(values)].astype(np.float64)
    return np.histogram(np.clip(finite, edges[0], edges[-1]), edges)[0]


def _stored_diagonal(source: Source, pyramid: Pyramid, limits: ReadLimits) -> Floats | None:
    layout = source.layout
    if layout.shape[0] != layout.shape[1]:
        return None
    parts: list[Floats] = []
    if pyramid.diagonal_bytes:
        for i in range(layout.grid[0]):
            try:
                parts.append(previews.read_diagonal(source.blobs, source.manifest, pyramid, i))
            except PreviewMissingError:  # damaged since its levels were read
                rebuild(source, pyramid, (i, i))
                parts.append(previews.read_diagonal(source.blobs, source.manifest, pyramid, i))
    elif layout.grid[0] * chunk_bytes(layout) <= limits.read_bytes:
        for i in range(layout.grid[0]):
            chunk = matrices.read_chunk(source.blobs, source.manifest, layout.name, (i, i))
            parts.append(np.diagonal(chunk))
    return np.concatenate(parts) if parts else None


def _diagonal(values: Floats | None) -> dict[str, Any] | None:
    if values is None:
        return None
    wide = values.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    group = math.ceil(len(wide) / _DIAGONAL_VALUES)
    starts = [*range(0, len(wide), group), len(wide)]
    parts = (wide[start:stop] for start, stop in pairwise(starts))
    kept = (part[np.isfinite(part)] for part in parts)
    return {
        "minimum": float(finite.min()) if finite.size else None,
        "maximum": float(finite.max()) if finite.size else None,
        "mean": float(finite.mean()) if finite.size else None,
        "trace": float(finite.sum()) if len(finite) == len(wide) else None,
        "rows_per_value": group,
        "values": [float(part.mean()) if part.size else None for part in kept],
    }
