"""How the pixel-pair tensor of two images is cut into blocks, and what they cost. No JAX.

A network without readout maps two images to K[s, s'] for all pixels s, s'. Read row by row, that is
a matrix of P Q by P Q pixels. It is cut into blocks of `strip_rows` rows of pixels by as many.

| representation | when | one block |
|---|---|---|
| `planes` | convs, two-slope activations; stride 1, odd filters, one padding | strips of rows |
| `tensor` | everything else | the whole matrix: every layer in memory |

With stride 1 a layer reads K[s + r, s' + r] only, the same r on both sides, so a block of rows i
and i' needs the rows within `halo` of them and nothing else: it runs the offset planes of two
strips of the images, which overlap their neighbours, and no unit of work waits for another.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from workers.kernels.duals.base import ActivationModel
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.errors import InvalidKernelError
from workers.kernels.outputs import check_ntk
from workers.kernels.planes.network import (
    Activation,
    Convolution,
    Network,
    Stage,
    supports,
)
from workers.kernels.spatial.cost import (
    CORE_NANOSECONDS_PER_FLOP,
    DOUBLE,
    NANOSECONDS_PER_FLOP,
    TENSOR_BUFFERS,
    DType,
    pixel_flops,
)
from workers.kernels.spatial.geometry import Shape, after, sample_grid, sides
from workers.kernels.spatial.layers import Conv, Padding
from workers.kernels.spatial.structure import without_input_ops
from workers.kernels.spec import KernelSpec

SMALL_BLOCK_PIXELS = 2304
"""Edge of the blocks where the network reaches little: so many that several workers share them."""

HALOS_PER_STRIP = 4
"""Rows of a strip, in halos, up to which blocks are made larger: what it is computed from is then
half as high again. Higher strips save less than their memory costs."""

MAX_BLOCK_BYTES = 64 << 20
"""Of one output of one block."""

STORE_NANOSECONDS = 30.0
"""Per pixel pair: from its plane into the slab, from there into the block, and to the store. On one
AVX-512 core 13-23, 38 in diagonal blocks, of which half is computed: 96 x 96 pixels at depth 10
take a worker 3.0 s of CPU time, and the model says 3.7."""


@dataclass(frozen=True)
class PixelPlan:
    """The blocks of one pair of images. All sizes in pixels.

    `grid`: pixels of the images; `out`: pixels after the last layer. `network`: what the compiled
    core runs on a strip, None for `tensor`. `halo`: (rows, columns) that all filters together
    reach to either side. `rim`: pixels by which the images are continued on every side, around
    the edge (CIRCULAR). `inset`: where pixel (0, 0) of the result lies in the continued image.
    """

    sample_shape: tuple[int, ...]  # (P, Q, C), or (T, C) of sequences
    grid: Shape
    channels: int
    out: Shape
    padding: Padding | None
    network: Network | None
    halo: Shape
    rim: Shape
    inset: Shape
    strip_rows: int
    flops_per_pair: float
    dtype: DType
    widest: int  # pixel pairs of the largest layer
    double: bool  # pairs are carried in float64

    @property
    def representation(self) -> Literal["planes", "tensor"]:
        return "tensor" if self.network is None else "planes"

    @property
    def pixels(self) -> int:
        """Edge of the whole matrix."""
        return math.prod(self.out)

    @property
    def block_rows(self) -> int:
        """Edge of a block, pixels."""
        return self.strip_rows * self.out[1]

    @property
    def strips(self) -> int:
        return math.ceil(self.out[0] / self.strip_rows)

    @property
    def window_rows(self) -> int:
        """Rows of the (continued) image that a strip is computed from."""
        return min(self.grid[0] + 2 * self.rim[0], self.strip_rows + 2 * self.halo[0])

    @property
    def window_columns(self) -> int:
        return self.grid[1] + 2 * self.rim[1]

    def rows(self, strip: int) -> range:
        """Rows of the result that a strip covers."""
        first = strip * self.strip_rows
        return range(first, min(first + self.strip_rows, self.out[0]))

    def window(self, strip: int) -> range:
        """Rows of the continued image that a strip is computed from, within its edges."""
        first = self.rows(strip).start + self.inset[0] - self.halo[0]
        last = self.grid[0] + 2 * self.rim[0] - self.window_rows
        first = min(max(first, 0), last)
        return range(first, first + self.window_rows)

    def lags(self, left: int, right: int, *, diagonal: bool) -> range:
        """Differences of rows i' - i between two strips; from 0 on a diagonal block."""
        rows, cols = self.rows(left), self.rows(right)
        return range(0 if diagonal else cols.start - rows.stop + 1, cols.stop - rows.start)

    @cached_property
    def _pair_nanoseconds(self) -> float:
        """One pixel pair through all layers."""
        if self.network is not None:
            return self.flops_per_pair * CORE_NANOSECONDS_PER_FLOP[self.dtype]
        factor = DOUBLE if self.double else 1.0
        return self.flops_per_pair * NANOSECONDS_PER_FLOP["tensor"] * factor

    def block_pairs(self, left: int, right: int, *, diagonal: bool) -> int:
        """Pixel pairs that are computed for a block, its overlap with others included."""
        if self.network is None:
            return self.widest
        shift = self.window(left).start - self.window(right).start
        lags = self.lags(left, right, diagonal=diagonal)
        rows = sum(max(0, self.window_rows - abs(lag + shift)) for lag in lags)
        return rows * self.window_columns**2

    def seconds(self, *, symmetric: bool) -> float:
        """Model of the time of all blocks on one core."""
        pairs = 0
        for left in range(self.strips):
            for right in range(left if symmetric else 0, self.strips):
                diagonal = symmetric and left == right
                pairs += self.block_pairs(left, right, diagonal=diagonal)
        return pairs * (self._pair_nanoseconds + STORE_NANOSECONDS) * 1e-9

    def block_bytes(self, outputs: int) -> int:
        """Upper bound on the memory of one block and its temporaries."""
        itemsize = 4 if self.dtype == "float32" else 8
        block = outputs * self.block_rows**2 * itemsize + 2 * self.block_rows**2 * itemsize
        if self.network is None:
            return block + (TENSOR_BUFFERS + outputs) * 8 * self.widest + (1 << 20)
        slab = self.window_rows * self.window_columns**2 * 2 * 8
        layers = len(self.network.stages) + self.channels + 8
        planes = 24 * layers * (self.window_rows + 2) * (self.window_columns + 2 * self.halo[1] + 2)
        return block + 3 * slab + planes * 8 + (16 << 20)

    @property
    def panel_bytes(self) -> int:
        """One prepared image."""
        numbers = (self.grid[0] + 2 * self.rim[0]) * self.window_columns
        depth = 1 if self.network is None else len(self.network.stages)
        return 8 * numbers * (self.channels + 3 * depth)


def check_pixel_kernel(spec: KernelSpec, outputs: tuple[str, ...]) -> None:
    """Raises InvalidKernelError unless `spec` ends with pixels and has these outputs."""
    if not spec.pixel_outputs:
        raise InvalidKernelError(
            "This network ends with a readout, so it has no kernel of pixel pairs.",
            advice="Leave out the flatten or global_avg_pool and the dense layers after it: the"
            " last layer must be a conv.",
        )
    check_ntk(spec, outputs)


def pixel_plan(spec: KernelSpec, sample_shape: tuple[int, ...], dtype: DType) -> PixelPlan:
    """The blocks of two images of `sample_shape` (P, Q, C), or sequences (T, C).

    Depends on nothing else: the blocks are part of the identity of a matrix. Raises
    InvalidInputsError if such samples do not fit the network.
    """
    grid, channels = sample_grid(spec.layers, sample_shape)
    layers = without_input_ops(spec.layers)
    out = after(layers, grid)
    assert out is not None  # the network ends with pixels
    flops, widest = pixel_flops(layers, grid)
    found = _core_stages(layers)
    network, padding = None, None
    halo = rim = inset = (0, 0)
    strip = out[0]
    if found is not None:
        padding, stages = found
        reach = _reach(layers)
        around = reach if padding == "CIRCULAR" else (0, 0)
        height = _strip_rows(out, reach, dtype)
        rows = min(grid[0] + 2 * around[0], height + 2 * reach[0])
        candidate = Network((rows, grid[1] + 2 * around[1]), stages)
        if supports(candidate):
            network, halo, rim, strip = candidate, reach, around, height
            inset = (0, 0) if padding == "SAME" else halo
    return PixelPlan(
        sample_shape=tuple(sample_shape),
        grid=grid,
        channels=channels,
        out=out,
        padding=padding,
        network=network,
        halo=halo,
        rim=rim,
        inset=inset,
        strip_rows=strip,
        flops_per_pair=(flops + 2.0 * channels * math.prod(grid) ** 2) / widest,
        dtype=dtype,
        widest=widest,
        double=dtype == "float64" or not all(x.dual().float32_pairs for x in spec.activations),
    )


def _strip_rows(out: Shape, halo: Shape, dtype: DType) -> int:
    """Strips of equal height, as the constants above say."""
    itemsize = 4 if dtype == "float32" else 8
    largest = math.isqrt(MAX_BLOCK_BYTES // itemsize)
    wanted = max(SMALL_BLOCK_PIXELS // out[1], HALOS_PER_STRIP * halo[0])
    rows = max(1, min(wanted, largest // out[1], out[0]))
    return math.ceil(out[0] / math.ceil(out[0] / rows))


def _core_stages(layers: tuple[Any, ...]) -> tuple[Padding, tuple[Stage, ...]] | None:
    """The padding, and the stages as the compiled core takes them; None if it cannot run them.

    Inside a strip every padding is SAME: the halo keeps what lies at its edges away. A convolution
    that no activation follows is followed by the identity.
    """
    identity = Activation(ReluLikeDual(1.0, 1.0))
    paddings: set[Padding] = set()
    stages: list[Stage] = []
    for layer in layers:
        if isinstance(layer, Conv):
            filter_sides = sides(layer.filter)
            if set(layer.strides) != {1} or any(side % 2 == 0 for side in filter_sides):
                return None
            if stages and isinstance(stages[-1], Convolution):
                stages.append(identity)
            if set(layer.filter) != {1}:
                paddings.add(layer.padding)
            # The core's mean over the filter: fan `channels` has weights sqrt(|filter|) larger.
            w_std = math.sqrt(layer.gain * math.prod(layer.filter))
            stages.append(Convolution(filter_sides, "SAME", w_std, layer.b_std))
        elif isinstance(layer, ActivationModel) and stages:
            dual = layer.dual()
            if not isinstance(dual, ReluLikeDual):
                return None
            stages.append(Activation(dual))
        else:
            return None
    if len(paddings) > 1 or not stages:
        return None
    if isinstance(stages[-1], Convolution):
        stages.append(identity)
    return next(iter(paddings), "SAME"), tuple(stages)


def _reach(layers: tuple[Any, ...]) -> Shape:
    """How far all filters together reach, rows and columns."""
    halves = [[side // 2 for side in sides(x.filter)] for x in layers if isinstance(x, Conv)]
    return sum(rows for rows, _ in halves), sum(columns for _, columns in halves)
