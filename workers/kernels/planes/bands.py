"""Bands of pixel pairs: how they begin, and what a filter reads around them (see core.py).

A band in memory: vector k, LANES numbers, for pixel k of the left image; `plane` is where the
vector of pixel 0 stands.
"""

from __future__ import annotations

from typing import Any

from workers.compiled.jit import inline, lean, wide
from workers.compiled.vectors import loads, splats, spreads, store
from workers.kernels.planes.geometry import LANES, Geometry

Array = Any  # numba infers array types itself

load, spread, splat = loads(LANES), spreads(LANES), splats(LANES)


@inline
def line_of(geometry: Geometry, lag: int, across: int, i: int) -> tuple[int, int, int]:
    """Of row i of the left image: the first pixel that has partners in the band and the one after
    the last, and where the partners of pixel 0 would stand in the right image."""
    if geometry.torus:
        down = (i + lag) % geometry.rows
        return 0, geometry.columns, geometry.lead + down * geometry.line + across
    here, size = i * geometry.stride, geometry.rows * geometry.stride
    first = max(0, 1 - LANES - lag - here)
    return first, min(geometry.columns, size - lag - here), geometry.lead + here + lag


@lean
def box_sums(
    geometry: Geometry, a: Array, source: int, rows: int, boxes: int, up: int, side: int,
    start: int, stop: int,
) -> None:  # fmt: skip
    """Box sums of the pixels `start` to `stop` of a band, at `boxes`, by way of `rows`."""
    wide()
    stride = geometry.stride * LANES
    for at in range((start - side) * LANES, (stop + side) * LANES, LANES):
        total = load(a, source + at - up * stride)
        for m in range(1 - up, up + 1):
            total = total + load(a, source + at + m * stride)
        store(a, rows + at, total)
    for at in range(start * LANES, stop * LANES, LANES):
        total = load(a, rows + at - side * LANES)
        for m in range(1 - side, side + 1):
            total = total + load(a, rows + at + m * LANES)
        store(a, boxes + at, total)


@lean
def wrap(geometry: Geometry, a: Array, plane: int, up: int, side: int) -> None:
    """Fill the halo of a band on the torus: `side` columns, then `up` rows."""
    rows, columns, stride = geometry.rows, geometry.columns, geometry.stride
    for i in range(rows):
        row = plane + i * stride * LANES
        for at in range(0, side * LANES, LANES):
            store(a, row - side * LANES + at, load(a, row + (columns - side) * LANES + at))
            store(a, row + columns * LANES + at, load(a, row + at))
    span, first = up * stride * LANES, plane - side * LANES
    end = first + rows * stride * LANES
    for at in range(0, span, LANES):
        store(a, first - span + at, load(a, end - span + at))
        store(a, end + at, load(a, first + at))


@lean
def scale(a: Array, factor: float, start: int, stop: int) -> None:
    wide()
    by = splat(a.dtype.type(factor))
    for at in range(start, stop, LANES):
        store(a, at, load(a, at) * by)


@lean
def clear(a: Array, start: int, stop: int) -> None:
    wide()
    zero = splat(a.dtype.type(0))
    for at in range(start, stop, LANES):
        store(a, at, zero)


@lean
def begin(
    geometry: Geometry, lag: int, across: int, x_channels: Array, x: int, y_channels: Array,
    y: int, channels: int, high: Array, plane: int,
) -> None:  # fmt: skip
    """K of the images: the products of their pixels."""
    wide()
    row = geometry.row
    for i in range(geometry.rows):
        first, stop, partner = line_of(geometry, lag, across, i)
        left, right = x + geometry.lead + i * geometry.line, y + partner
        at = plane + (i * geometry.stride + first) * LANES
        for j in range(first, stop):
            x0, y0 = left + j, right + j
            total = spread(x_channels, x0) * load(y_channels, y0)
            if channels == 3:  # the usual case, without a loop
                total = total + spread(x_channels, x0 + row) * load(y_channels, y0 + row)
                x0, y0 = x0 + row + row, y0 + row + row
                total = total + spread(x_channels, x0) * load(y_channels, y0)
            else:
                for _ in range(1, channels):
                    x0, y0 = x0 + row, y0 + row
                    total = total + spread(x_channels, x0) * load(y_channels, y0)
            store(high, at, total)
            at += LANES


@lean
def gather(
    geometry: Geometry, lag: int, across: int, tensor: Array, places: Array, a: Array, plane: int
) -> None:  # fmt: skip
    """The pairs of a pooled tensor."""
    wide()
    for i in range(geometry.rows):
        first, stop, partner = line_of(geometry, lag, across, i)
        left = geometry.lead + i * geometry.line
        at = plane + (i * geometry.stride + first) * LANES
        for j in range(first, stop):
            store(a, at, load(tensor, places[left + j] + partner + j))
            at += LANES
