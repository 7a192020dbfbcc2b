"""Bands of pixel pairs into the tensor of a pool, or of whoever wants every pair (see core.py)."""

from __future__ import annotations

from typing import Any

from workers.compiled.jit import inline, lean, wide
from workers.compiled.vectors import (
    behind_zero,
    even,
    last,
    loads,
    odd,
    splats,
    store,
    where_less,
)
from workers.kernels.planes.bands import line_of
from workers.kernels.planes.geometry import LANES, Geometry

Array = Any  # numba infers array types itself

HALF = LANES // 2
load = loads(LANES)
load_half, splat_half = loads(HALF), splats(HALF)


@lean
def scatter(
    geometry: Geometry, lag: int, across: int, a: Array, plane: int, weights: Array, at_weight: int,
    left: Array, right: Array, tensor: Array,
) -> None:  # fmt: skip
    """Add the lanes that count to the tensor of a sink: at once where they lie together there."""
    wide()
    every = True
    for lane in range(LANES):
        every = every and weights[at_weight + lane] != 0
    for i in range(geometry.rows):
        first, stop, partner = line_of(geometry, lag, across, i)
        for j in range(first, stop):
            place = left[geometry.lead + i * geometry.line + j]
            at, y = plane + (i * geometry.stride + j) * LANES, partner + j
            # Places rise by at most 1 within a row and fall behind it.
            if every and right[y + LANES - 1] - right[y] == LANES - 1:
                to = place + right[y]
                store(tensor, to, load(tensor, to) + load(a, at))
            else:
                for lane in range(LANES):
                    if weights[at_weight + lane] != 0:
                        tensor[place + right[y + lane]] += a[at + lane]


@inline
def _add_columns(
    a: Array, here: int, there: int, tensor: Array, place: int, column: int, width: int,
    above: int, below: int, lanes: Array,
) -> None:  # fmt: skip
    """Add a window of two pixels of the left image, at `here` and `there` in `a`, to the row of
    the tensor that starts at `place`, two pixels of the right image each.

    Their columns are `column` and the following in a row of `width`, which starts `above`, and go
    on in the next row, which starts `below`; rows that are not there are < 0.
    """
    one, two = load(a, here), load(a, there)
    pixels = one + behind_zero(two)
    total, rest = even(pixels) + odd(pixels), last(two)
    zero = splat_half(a.dtype.type(0))
    turn = width - column
    if above >= 0:
        to = place + above + column
        taken = total
        if turn < HALF:
            taken = where_less(load_half(lanes, 0), splat_half(a.dtype.type(turn)), total, zero)
        store(tensor, to, load_half(tensor, to) + taken)
        if turn > HALF:
            tensor[to + HALF] += rest
    if turn <= HALF and below >= 0:
        to = place + below - turn
        tensor[to + HALF] += rest
        if turn < HALF:
            taken = where_less(load_half(lanes, 0), splat_half(a.dtype.type(turn)), zero, total)
            store(tensor, to, load_half(tensor, to) + taken)


@lean
def fold(
    geometry: Geometry, lag: int, a: Array, plane: int, left: Array, tensor: Array,
    window_rows: int, line: int, lead: int, lanes: Array,
) -> None:  # fmt: skip
    """Add a band to the pooled tensor, for windows of two columns and SAME padding.

    Neighbours in the right image are added in registers; `line`: of the pooled image.
    """
    wide()
    rows, width = geometry.rows, geometry.stride // 2
    for i in range(rows):
        first, stop, partner = line_of(geometry, lag, 0, i)
        begin = first - first % 2
        half = (partner - geometry.lead + begin) // 2
        row = half // width  # -1 before the image
        column = half - row * width
        above = row // window_rows * line if 0 <= row < rows else -1
        below = (row + 1) // window_rows * line if 0 <= row + 1 < rows else -1
        for j in range(begin, stop, 2):
            place = left[geometry.lead + i * geometry.line + j] + lead
            here = plane + (i * geometry.stride + j) * LANES
            _add_columns(
                a, here, here + LANES, tensor, place, column, width, above, below, lanes
            )  # fmt: skip
            column += 1
            if column == width:
                row, column, above = row + 1, 0, below
                below = (row + 1) // window_rows * line if row + 1 < rows else -1
