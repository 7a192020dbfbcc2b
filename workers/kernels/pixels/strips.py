"""Blocks of the pixel-pair matrix from offset planes of two strips of the images.

The compiled core (planes/core.py) runs all layers on a band of planes of neighbouring lags and adds
it to a tensor. Here that tensor is a slab: all pairs of pixels whose rows differ by one lag, (rows,
columns, columns), small enough for the cache. Its rows go into the rows of the block.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.kernels.planes.geometry import flat_bands
from workers.kernels.planes.layout import (
    Group,
    PixelPairs,
    Plan,
    Scratch,
    Side,
    make_plan,
    make_scratch,
    no_pairs,
)
from workers.kernels.planes.prepare import layer_variances, make_side

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.kernels.pixels.plan import PixelPlan
    from workers.kernels.planes.network import Precision


@dataclass(frozen=True)
class PreparedImage:
    """One image, continued by the rim of the plan: pixels / sqrt(C) (C, R, W), and the variances
    (layers, R, W) before every activation, float64. Those that the rim makes wrong are not used.
    """

    channels: NDArray[np.float64]
    variances: NDArray[np.float64]


def prepare_image(plan: PixelPlan, image: NDArray[np.float64]) -> PreparedImage:
    """`image` (P, Q, C), finite."""
    (up, across), (rows, columns) = plan.rim, plan.grid
    tall = image[np.arange(-up, rows + up) % rows]
    around = tall[:, np.arange(-across, columns + across) % columns]
    channels = around.transpose(2, 0, 1) / np.sqrt(image.shape[2])
    variance = np.einsum("cij,cij->ij", channels, channels)
    return PreparedImage(channels, layer_variances(_group(plan)[1], variance[None])[0])


def block(
    plan: PixelPlan,
    left: PreparedImage,
    right: PreparedImage,
    strips: tuple[int, int],
    *,
    diagonal: bool,
    outputs: tuple[str, ...],
    check_stop: Callable[[], None],
) -> dict[str, NDArray[Any]]:
    """The block of two strips: (rows of pixels, rows of pixels) per output, in the plan's dtype.

    `diagonal`: the strip of an image with itself; the block is then exactly symmetric, and half
    of it is computed. `check_stop` is called between slabs and may raise.
    """
    core, group = _group(plan)
    (first, second), width = strips, plan.window_columns
    rows, cols = plan.rows(first), plan.rows(second)
    sides = _strip(plan, group, left, first), _strip(plan, group, right, second)
    scratch = make_scratch(group)
    slab = _Slab(plan, group, sides, scratch)
    result = {
        name: np.zeros((len(rows), plan.out[1], len(cols), plan.out[1]), plan.dtype)
        for name in outputs
    }
    columns = slice(plan.inset[1], plan.inset[1] + plan.out[1])
    across = np.arange(width)
    # j <= j': the pair lies in the slab of its lag; else in the one before.
    ahead = (across[:, None] <= across)[columns, columns]
    top, shift = plan.window(first).start, plan.window(first).start - plan.window(second).start
    lags = plan.lags(first, second, diagonal=diagonal)
    before = slab.run(lags.start + shift - 1) if not diagonal else None
    for lag in lags:
        check_stop()
        here = slab.run(lag + shift)
        i = np.arange(max(rows.start, cols.start - lag), min(rows.stop, cols.stop - lag))
        down = (i + plan.inset[0] - top)[:, None, None]
        part = down, across[columns, None], across[columns]
        for name, values in result.items():
            index = ("nngp", "ntk").index(name)
            taken = here[index][part]
            if before is not None:
                taken = np.where(ahead, taken, before[index][part])
            with np.errstate(over="ignore", invalid="ignore"):  # the caller looks for them
                values[i - rows.start, :, i + lag - cols.start, :] = taken * core.unit
        before = here
    edges = len(rows) * plan.out[1], len(cols) * plan.out[1]
    blocks = {name: values.reshape(edges) for name, values in result.items()}
    if diagonal:
        upper = np.arange(edges[0])[:, None] <= np.arange(edges[0])
        blocks = {name: np.where(upper, values, values.T) for name, values in blocks.items()}
    return blocks


class _Slab:
    """Runs the planes of one lag of rows at a time, in memory for two of them."""

    def __init__(
        self, plan: PixelPlan, group: Group, sides: tuple[Side, Side], scratch: Scratch
    ) -> None:
        self._group, self._scratch = group, scratch
        self._left, self._right = (side.flat for side in sides)
        rows, width = plan.window_rows, plan.window_columns
        self._shape = rows, width, width
        self._turn = 0
        # Pixels of the left strip are rows of a slab, columns of the right one its columns.
        pixel = np.arange(rows * width).reshape(rows, width)
        index = group.spread(pixel * width), group.spread(pixel % width)
        self._memory = [
            PixelPairs(
                np.zeros(rows * width**2, group.plane_dtype),
                np.zeros(rows * width**2, group.low_dtype),
                *index,
            )
            for _ in range(2)
        ]

    def run(self, lag: int) -> tuple[NDArray[Any], NDArray[Any]]:
        """NNGP and NTK (R, W, W) in the units of the core: [l, j, j'] is the pair of pixel (l, j)
        and pixel (l + lag, j') if j <= j', (l + lag + 1, j') if j > j'. Overwritten by the next
        run but one."""
        from workers.kernels.planes.core import run_group

        group, stride = self._group, self._group.geometry.stride
        self._turn = 1 - self._turn
        sink = self._memory[self._turn]
        sink.nngp[:] = 0
        sink.ntk[:] = 0
        size = group.geometry.rows * stride
        wanted = {d: 1 for d in range(lag * stride, (lag + 1) * stride) if abs(d) < size}
        if wanted:
            bands = flat_bands(wanted).flat
            run_group(
                group.geometry,
                group.layers.flat,
                self._left,
                self._right,
                np.zeros((1, 3), np.int64),
                bands,
                bands,
                no_pairs(group),
                sink,
                self._scratch,
                *group.exact,
                np.zeros((1, 2)),
            )
        return sink.nngp.reshape(self._shape), sink.ntk.reshape(self._shape)


def _group(plan: PixelPlan) -> tuple[Plan, Group]:
    assert plan.network is not None
    precision: Precision = "double" if plan.dtype == "float64" else "mixed"
    core = make_plan(plan.network, precision)
    return core, core.groups[0]


def _strip(plan: PixelPlan, group: Group, image: PreparedImage, strip: int) -> Side:
    """One strip as the core takes it."""
    window = plan.window(strip)
    rows = slice(window.start, window.stop)
    channels = group.spread(image.channels[None, :, rows]).astype(group.plane_dtype)
    return make_side(group, channels, image.variances[None, :, rows])
