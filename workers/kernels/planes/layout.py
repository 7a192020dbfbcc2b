"""A network as the arrays that the compiled core reads: groups of layers between pools.

Kernels are carried in units that change from layer to layer, so that a box sum needs no factor:
with unit c, K = c K^. A convolution multiplies c by w_std^2/|filter|, an activation by E[phi(z)^2],
a pool by 1/window^2, and the bias is b_std^2/c. Where c has drifted far from the size of K, planes
are rescaled by a power of 2, which is exact, so that float32 planes stay in range at any depth.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.kernels.duals.arc_cosine import P_DOUBLE, P_SINGLE, R_DOUBLE, R_SINGLE
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.planes.network import (
    Activation,
    AveragePool,
    Convolution,
    Network,
    Precision,
)

ALIGNMENT_BYTES = 64
LANES = ALIGNMENT_BYTES // 4
"""Loops over planes run over whole vectors of so many numbers."""

LARGEST_DRIFT = 24
"""Planes are rescaled when K^ of unit inputs leaves 2^-24 .. 2^24."""


class Geometry(NamedTuple):
    """Layout of the planes of a group; see core.py."""

    rows: int
    columns: int
    stride: int  # numbers from one row to the next
    guard: int  # zeros (or halo) before and after a plane
    row: int  # numbers of one image: rows * stride, and zeros to the end of a vector of any lag
    torus: bool


class Layers(NamedTuple):
    """Numbers of the layers of a group."""

    filters: NDArray[np.uint64]  # (layers, 2) half of the filter: rows, columns
    numbers: NDArray[np.float64]  # (layers, 4), see `LayerNumbers`
    p: NDArray[Any]  # (layers, coefficients) of the slopes, in the dtype of the NTK plane
    r: NDArray[Any]  # of the NNGP


class LayerNumbers(NamedTuple):
    """One row of `Layers.numbers`."""

    bias: float  # b_std^2 in the unit of the layer
    rescale: float  # a power of 2, after the activation
    gamma: float  # 2ab/(a^2 + b^2) of the slopes
    signed: float  # 1 where rho < 0 is possible, else 0


class Side(NamedTuple):
    """Prepared images of one side, in the layout of one group. N = geometry.row."""

    channels: NDArray[Any]  # (n, C, N) pixels / sqrt(C); empty after a pool
    deviation: NDArray[Any]  # (n, layers, N) sqrt of the variance of each pixel, 0 in zero columns
    inverse: NDArray[Any]  # (n, layers, N) 1 / deviation, 0 where that is 0
    inside: NDArray[Any]  # (N,) 1, 0 in zero columns

    @property
    def flat(self) -> Side:
        """The same with arrays of one dimension, as the core takes them; no copy."""
        return Side(*(array.reshape(-1) for array in self))


class PixelPairs(NamedTuple):
    """The kernels of all pairs of pixels of two images, where planes do not do: at a pool.

    The pair of what stands at k in the left image and at l in the right one (in the layout of the
    group that reads or adds them) is entry left[k] + right[l], from the end where that is < 0.
    """

    nngp: NDArray[Any]
    ntk: NDArray[Any]
    left: NDArray[np.int64]
    right: NDArray[np.int64]


class Folded(NamedTuple):
    """Planes pooled along the rows, on their way to the pooled tensor; see `_pool` of core.py.

    Four of each: of even and odd lags, below 0 and not. Empty where a plane goes straight there.
    """

    owner: NDArray[np.int64]  # (4,) the lag that each holds, times 2, and 1 if also its opposite
    high: NDArray[Any]  # (4 size,)
    low: NDArray[Any]


class Scratch(NamedTuple):
    """Work arrays of the core.

    `high` and `low` are segments of one plane with its guards each: the plane of the NNGP and of
    the NTK, its sums over rows, its box sums, zeros; `low` goes on with t and S in its dtype, and
    `Side.inside` of the plane. The last ones hold the rolled right image of a lag on the torus.
    """

    high: NDArray[Any]
    low: NDArray[Any]
    segment: int
    folded: Folded
    channels: NDArray[Any]
    deviation: NDArray[Any]
    inverse: NDArray[Any]
    source_right: NDArray[np.int64]
    sink_left: NDArray[np.int64]
    sink_right: NDArray[np.int64]


@dataclass(frozen=True)
class Group:
    """Layers on images of one size, and the pool that follows (None: the readout)."""

    geometry: Geometry
    layers: Layers
    window: tuple[int, int] | None
    plane_dtype: np.dtype[Any]  # of the NNGP plane and the deviations
    low_dtype: np.dtype[Any]  # of everything else

    @functools.cached_property
    def lags(self) -> NDArray[np.int64]:
        """Of all planes; see `lags`."""
        return lags(self.geometry, half=False)

    @functools.cached_property
    def half_lags(self) -> NDArray[np.int64]:
        """Of an image with itself."""
        return lags(self.geometry, half=True)

    @property
    def exact(self) -> tuple[int | None, int | None]:
        """Whether the NNGP and the NTK have the long polynomials. None, not False: it is a type
        to numba."""
        counts = self.layers.r.shape[1], self.layers.p.shape[1]
        return (
            counts[0] if counts[0] == len(R_DOUBLE) else None,
            counts[1] if counts[1] == len(P_DOUBLE) else None,
        )

    @property
    def size(self) -> int:
        """Numbers of one plane at lag 0."""
        return self.geometry.rows * self.geometry.stride

    @property
    def inverse_dtype(self) -> np.dtype[Any]:
        """Of `Side.inverse`: what t is computed in."""
        return self.layers.r.dtype

    @property
    def pixels(self) -> int:
        return self.geometry.rows * self.geometry.columns

    def positions(self) -> NDArray[np.int64]:
        """(P, Q): where the pixels stand."""
        i, j = (np.arange(size) for size in self.geometry[:2])
        return i[:, None] * self.geometry.stride + j

    def spread(self, images: NDArray[Any]) -> NDArray[Any]:
        """Images (..., P, Q) in this layout, (..., N), zeros in the zero columns."""
        geometry = self.geometry
        out = np.zeros((*images.shape[:-2], geometry.row), images.dtype)
        lines = out[..., : self.size].reshape(*images.shape[:-2], geometry.rows, geometry.stride)
        lines[..., : geometry.columns] = images
        out[..., : self.size] = lines.reshape(*images.shape[:-2], self.size)
        return out


@dataclass(frozen=True)
class Plan:
    """What the core runs, for one network and precision."""

    groups: tuple[Group, ...]
    unit: float  # K = unit * (carried sum) / pixel pairs at the readout

    def image_bytes(self, channels: int) -> int:
        """What one prepared image holds, and the arrays that images share."""
        total = 0
        for number, group in enumerate(self.groups):
            depth, plane = len(group.layers.numbers), group.plane_dtype.itemsize
            each = depth * (plane + group.inverse_dtype.itemsize) + group.low_dtype.itemsize
            total += group.geometry.row * (each + (0 if number else channels * plane))
        return total


@functools.lru_cache(maxsize=16)
def make_plan(network: Network, precision: Precision) -> Plan:
    """The groups of a supported network.

    `mixed` runs the NNGP of groups before the last pool in float64: a pool adds up kernels of
    different pixels, and their rounding would be taken for a difference of the images behind it.
    """
    plane_dtype = np.dtype(np.float32 if precision == "fast" else np.float64)
    low_dtype = np.dtype(np.float64 if precision == "double" else np.float32)
    rows, columns = network.pixels
    stages = _without_last_pool(network)
    torus = any(isinstance(s, Convolution) and s.padding == "CIRCULAR" for s in stages)
    groups: list[Group] = []
    layers: list[tuple[Any, ...]] = []
    unit, variance, signed = 1.0, 1.0, True
    for stage in stages:
        if isinstance(stage, Convolution):
            filter_size = stage.filter[0] * stage.filter[1]
            unit *= stage.w_std**2 / filter_size
            variance = stage.w_std**2 * variance + stage.b_std**2
            half = (stage.filter[0] // 2, stage.filter[1] // 2)
            bias = stage.b_std**2 / unit
        elif isinstance(stage, Activation):
            dual = stage.dual
            assert isinstance(dual, ReluLikeDual)
            unit *= dual.gain**2
            variance *= dual.gain**2
            drift = round(math.log2(variance / unit))
            power = 2.0**-drift if abs(drift) > LARGEST_DRIFT else 1.0
            unit /= power
            numbers = LayerNumbers(bias, power, dual.gamma, float(signed))
            layers.append((half, numbers, dual.bend))
            signed = signed and dual.gamma > 0
        else:
            dtypes = (plane_dtype, plane_dtype, low_dtype)
            groups.append(_group(rows, columns, torus, layers, stage.window, dtypes))
            layers = []
            rows, columns = rows // stage.window[0], columns // stage.window[1]
            unit /= (stage.window[0] * stage.window[1]) ** 2
    dtypes = (plane_dtype, low_dtype, low_dtype)
    groups.append(_group(rows, columns, torus, layers, None, dtypes))
    return Plan(tuple(groups), unit)


def _without_last_pool(network: Network) -> list[Any]:
    """Pools before the readout are part of its mean over all pixels."""
    stages = list(network.stages)
    while isinstance(stages[-1], AveragePool):
        stages.pop()
    return stages


def _group(
    rows: int,
    columns: int,
    torus: bool,
    layers: list[tuple[Any, ...]],
    window: tuple[int, int] | None,
    dtypes: tuple[np.dtype[Any], np.dtype[Any], np.dtype[Any]],
) -> Group:
    """`dtypes`: of the NNGP plane, of what is added to it in a layer, and of the NTK plane."""
    plane_dtype, rest_dtype, low_dtype = dtypes
    halves, numbers, bends = zip(*layers, strict=True)
    up, reach = np.max(halves, axis=0).tolist()
    bend = np.array(bends)[:, None]
    stride = columns + (2 * reach if torus else reach)
    if window is not None and not torus:
        stride = _whole(stride, window[1])  # so that windows do not straddle rows
    guard = max(_whole(up * stride + _whole(reach, LANES), LANES), LANES)
    row = _whole(rows * stride, LANES) + LANES
    return Group(
        Geometry(rows, columns, stride, guard, row, torus),
        Layers(
            np.array(halves, np.uint64),
            np.array(numbers, np.float64),
            np.asarray(bend * _coefficients(P_SINGLE, P_DOUBLE, low_dtype) / math.pi, low_dtype),
            np.asarray(bend * _coefficients(R_SINGLE, R_DOUBLE, rest_dtype), rest_dtype),
        ),
        window,
        plane_dtype,
        low_dtype,
    )


def _coefficients(
    single: tuple[float, ...], double: tuple[float, ...], dtype: np.dtype[Any]
) -> NDArray[np.float64]:
    return np.array(double if dtype == np.float64 else single)


def _whole(count: int, part: int) -> int:
    """The smallest multiple of `part` that is at least `count`."""
    return -(-count // part) * part


def make_scratch(group: Group, channels: int) -> Scratch:
    """Work arrays for one group; a thread needs its own."""
    geometry = group.geometry
    segment = _whole(group.size, LANES) + 2 * geometry.guard
    torus = geometry.row if geometry.torus else 0
    depth = len(group.layers.numbers)
    return Scratch(
        aligned(4 * segment, group.plane_dtype),
        aligned(7 * segment, group.low_dtype),
        segment,
        _folded(group),
        np.zeros(channels * torus, group.plane_dtype),
        np.zeros(depth * torus, group.plane_dtype),
        np.zeros(depth * torus, group.inverse_dtype),
        *(np.zeros(torus, np.int64) for _ in range(3)),
    )


def _folded(group: Group) -> Folded:
    """For windows of two columns. On the torus a lag may lead around the edge within a window."""
    fits = group.window is not None and group.window[1] == 2 and not group.geometry.torus
    size = group.size // 2 if fits else 0
    return Folded(
        np.zeros(4, np.int64),
        np.zeros(4 * size, group.plane_dtype),
        np.zeros(4 * size, group.low_dtype),
    )


def no_pairs(group: Group) -> PixelPairs:
    """What stands for the tensors at an end of the network."""
    none = np.zeros(0, np.int64)
    return PixelPairs(np.zeros(0, group.plane_dtype), np.zeros(0, group.low_dtype), none, none)


def pooled_pairs(group: Group, after: Group) -> tuple[PixelPairs, PixelPairs]:
    """Zeros for the pool of `group`: as it adds to them, and as the group `after` reads them.

    They hold the planes of `after` one after another: lags d and d - N do not overlap.
    """
    assert group.window is not None
    size = after.size
    nngp, ntk = np.zeros(size**2, group.plane_dtype), np.zeros(size**2, group.low_dtype)
    k = np.arange(after.geometry.row)
    source = PixelPairs(nngp, ntk, k - k * size, k * size)
    i, j = (np.arange(n) // w for n, w in zip(group.geometry[:2], group.window, strict=True))
    pooled = group.spread(i[:, None] * after.geometry.stride + j)
    return PixelPairs(nngp, ntk, source.left[pooled], source.right[pooled]), source


def aligned(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Zeros that start at a multiple of ALIGNMENT_BYTES."""
    raw = np.zeros(size * dtype.itemsize + ALIGNMENT_BYTES, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT_BYTES
    return raw[start : start + size * dtype.itemsize].view(dtype)


def lags(
    geometry: Geometry, *, half: bool, reach: tuple[int, int] | None = None
) -> NDArray[np.int64]:
    """(count, 3): the lags of all planes, longest last, and how many planes each stands for.

    `half`: only one of each pair of opposite lags, for an image with itself. `reach`: only offsets
    of at most so many rows and columns.
    """
    rows, columns, stride, _, _, torus = geometry
    found: dict[tuple[int, int], int] = {}
    down = rows - 1 if reach is None else min(reach[0], rows - 1)
    across = columns - 1 if reach is None else min(reach[1], columns - 1)
    for i in range(-down, down + 1):
        for j in range(-across, across + 1):
            if torus:
                here, there = (i % rows, j % columns), (-i % rows, -j % columns)
            else:
                here, there = (i * stride + j, 0), (-i * stride - j, 0)
            if half:
                found[max(here, there)] = 1 if here == there else 2
            else:
                found[here] = 1
    ordered = sorted(found.items(), key=lambda item: (-abs(item[0][0]), item[0]))
    return np.array([(*lag, weight) for lag, weight in ordered], np.int64)
