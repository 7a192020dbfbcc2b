"""Where pixels and pairs of pixels stand: rows of prepared images, and bands of lags (core.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LANES = 16
"""Neighbouring planes of a band: a float32 vector of AVX-512."""

ALIGNMENT_BYTES = 4 * LANES


class Geometry(NamedTuple):
    """Layout of a group; see core.py. Of bands in vectors, of prepared images in numbers."""

    rows: int
    columns: int
    stride: int  # of a band, from one row of the left image to the next
    guard: int  # zeros (or halo) of a band before and after the left image
    lead: int  # zeros of a prepared image before its first pixel
    line: int  # of a prepared image, from one row to the next
    row: int  # of a prepared image in all, with zeros for bands that reach beyond it
    torus: bool


class Bands(NamedTuple):
    """Which lags are run, LANES at a time."""

    lags: NDArray[np.int64]  # (count, 2): the flat lag and 0, on the torus rows and columns
    weights: NDArray[np.float64]  # (count, LANES): how many planes each lane stands for

    @property
    def flat(self) -> Bands:
        """The same with arrays of one dimension, as the core takes them; no copy."""
        return Bands(self.lags.reshape(-1), self.weights.reshape(-1))


def lines_of(prepared: NDArray[Any], geometry: Geometry) -> NDArray[Any]:
    """The rows (..., P, line) of prepared images (..., N), a view."""
    size = geometry.rows * geometry.line
    inner = prepared[..., geometry.lead : geometry.lead + size]
    return inner.reshape(*prepared.shape[:-1], geometry.rows, geometry.line)


def go_around(lines: NDArray[Any], geometry: Geometry) -> None:
    around = np.arange(geometry.columns, geometry.line) % geometry.columns
    lines[..., geometry.columns :] = lines[..., around]


def whole(count: int, part: int) -> int:
    """The smallest multiple of `part` that is at least `count`."""
    return -(-count // part) * part


def aligned(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros that start at a multiple of ALIGNMENT_BYTES."""
    raw = np.zeros(size * dtype.itemsize + ALIGNMENT_BYTES, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT_BYTES
    return raw[start : start + size * dtype.itemsize].view(dtype)


def bands(geometry: Geometry, *, half: bool, reach: tuple[int, int] | None = None) -> Bands:
    """All lags of two images.

    `half`: only one of each pair of opposite lags, for sums over an image with itself. `reach`:
    only offsets of at most so many rows and columns.
    """
    rows, columns, stride = geometry[:3]
    down = rows - 1 if reach is None else min(reach[0], rows - 1)
    across = columns - 1 if reach is None else min(reach[1], columns - 1)
    found: dict[int, dict[int, int]] = {}  # by rows on the torus: lags and their weights
    for i in range(-down, down + 1):
        for j in range(-across, across + 1):
            if geometry.torus:
                here, there = (i % rows, j % columns), (-i % rows, -j % columns)
            else:
                here, there = (0, i * stride + j), (0, -i * stride - j)
            line, lag = max(here, there) if half else here
            found.setdefault(line, {})[lag] = 2 if half and here != there else 1
    if not geometry.torus:
        return flat_bands(found[0])
    return _bands([((line, lag), weights) for line in found for lag, weights in cover(found[line])])


def flat_bands(wanted: dict[int, int]) -> Bands:
    """Bands of flat lags with their weights; not for the torus.

    Those before 0, then those behind it, shortest planes first: what one band leaves in memory, the
    next one overwrites.
    """
    covered = cover(wanted)
    covered.sort(key=lambda band: (band[0] >= 0, -abs(band[0])))
    return _bands([((lag, 0), weights) for lag, weights in covered])


def _bands(covered: list[tuple[tuple[int, int], list[int]]]) -> Bands:
    lags, weights = zip(*covered, strict=True)
    return Bands(np.array(lags, np.int64), np.array(weights, np.float64))


def cover(wanted: dict[int, int]) -> list[tuple[int, list[int]]]:
    """Bands that hold each of the lags with its weight once: first lag, which is even, and the
    weights of its lanes."""
    found: list[tuple[int, list[int]]] = []
    end: int | None = None
    for lag in sorted(wanted):
        if end is None or lag >= end:
            first = lag - lag % 2
            end = first + LANES
            found.append((first, [wanted.get(first + lane, 0) for lane in range(LANES)]))
    return found
