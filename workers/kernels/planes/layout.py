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
LARGEST_DRIFT = 24
"""Planes are rescaled when K^ of unit inputs leaves 2^-24 .. 2^24."""


class Geometry(NamedTuple):
    """Layout of the planes of a group; see core.py."""

    rows: int
    columns: int
    stride: int  # numbers from one row to the next
    guard: int  # zeros (or halo) before and after a plane
    torus: bool


class Layers(NamedTuple):
    """Numbers of the layers of a group."""

    filters: NDArray[np.uint64]  # (layers, 2) half of the filter: rows, columns
    numbers: NDArray[np.float64]  # (layers, 4), see `LayerNumbers`
    p: NDArray[Any]  # (layers, coefficients)
    r: NDArray[Any]


class LayerNumbers(NamedTuple):
    """One row of `Layers.numbers`."""

    bias: float  # b_std^2 in the unit of the layer
    rescale: float  # a power of 2, after the activation
    gamma: float  # 2ab/(a^2 + b^2) of the slopes
    signed: float  # 1 where rho < 0 is possible, else 0


class Side(NamedTuple):
    """Prepared images of one side, in the layout of one group. N = rows * stride."""

    channels: NDArray[Any]  # (n, C, N) pixels / sqrt(C); empty after a pool
    deviation: NDArray[Any]  # (n, layers, N) sqrt of the variance of each pixel, 0 in zero columns
    inverse: NDArray[Any]  # (n, layers, N) 1 / deviation, 0 where that is 0
    pixel: NDArray[np.int64]  # (N,) index of the pixel, -1 in zero columns
    cell: NDArray[np.int64]  # (N,) index of the pooled pixel, 0 in zero columns


class Scratch(NamedTuple):
    """Work arrays of the core.

    `high` and `low` are segments of one plane with its guards each: the plane of the NNGP and of
    the NTK, its sums over rows, its box sums, zeros; `low` goes on with U, t and S in its dtype.
    The others hold the rolled right image of a lag on the torus.
    """

    high: NDArray[Any]
    low: NDArray[Any]
    segment: int
    channels: NDArray[Any]
    deviation: NDArray[Any]
    inverse: NDArray[Any]
    pixel: NDArray[np.int64]
    cell: NDArray[np.int64]


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
    def precise(self) -> int | None:
        """Whether polynomials have float64 coefficients. None, not False: it is a type to numba."""
        return len(P_DOUBLE) if self.low_dtype == np.float64 else None

    @property
    def size(self) -> int:
        """Numbers of one image in this layout."""
        return self.geometry.rows * self.geometry.stride

    @property
    def pixels(self) -> int:
        return self.geometry.rows * self.geometry.columns

    def pixel_index(self) -> NDArray[np.int64]:
        """(N,): which pixel stands where; -1 in zero columns."""
        index = np.full((self.geometry.rows, self.geometry.stride), -1)
        index[:, : self.geometry.columns] = np.arange(self.pixels).reshape(self.geometry.rows, -1)
        return index.reshape(-1)

    def cell_index(self) -> NDArray[np.int64]:
        """(N,): which pixel of the pooled image each pixel goes to; 0 in zero columns."""
        index = np.zeros((self.geometry.rows, self.geometry.stride), np.int64)
        if self.window is not None:
            coarse = self.geometry.columns // self.window[1]
            i = np.arange(self.geometry.rows) // self.window[0]
            j = np.arange(self.geometry.columns) // self.window[1]
            index[:, : self.geometry.columns] = i[:, None] * coarse + j
        return index.reshape(-1)

    def spread(self, images: NDArray[Any]) -> NDArray[Any]:
        """Images (..., P, Q) in this layout, (..., N), zeros in the zero columns."""
        geometry = self.geometry
        out = np.zeros((*images.shape[:-2], geometry.rows, geometry.stride), images.dtype)
        out[..., : geometry.columns] = images
        return out.reshape(*images.shape[:-2], -1)


@dataclass(frozen=True)
class Plan:
    """What the core runs, for one network and precision."""

    groups: tuple[Group, ...]
    unit: float  # K = unit * (carried sum) / pixel pairs at the readout


@functools.lru_cache(maxsize=16)
def make_plan(network: Network, precision: Precision) -> Plan:
    """The groups of a supported network.

    `mixed` runs the groups before the last pool in float64: a pool adds up kernels of different
    pixels, and their rounding would be taken for a difference of the images behind it.
    """
    plane_dtype = np.dtype(np.float32 if precision == "fast" else np.float64)
    low_dtype = np.dtype(np.float64 if precision == "double" else np.float32)
    dtypes = (plane_dtype, low_dtype)
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
            groups.append(
                _group(rows, columns, torus, layers, stage.window, (plane_dtype, plane_dtype))
            )
            layers = []
            rows, columns = rows // stage.window[0], columns // stage.window[1]
            unit /= (stage.window[0] * stage.window[1]) ** 2
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
    dtypes: tuple[np.dtype[Any], np.dtype[Any]],
) -> Group:
    low_dtype = dtypes[1]
    p, r = (P_DOUBLE, R_DOUBLE) if low_dtype == np.float64 else (P_SINGLE, R_SINGLE)
    halves, numbers, bends = zip(*layers, strict=True)
    up, reach = np.max(halves, axis=0).tolist()
    bend = np.array(bends)[:, None]
    stride = columns + (2 * reach if torus else reach)
    guard = up * stride + reach
    lanes = ALIGNMENT_BYTES // 4
    geometry = Geometry(rows, columns, stride, -(-guard // lanes) * lanes, torus)
    return Group(
        geometry,
        Layers(
            np.array(halves, np.uint64),
            np.array(numbers, np.float64),
            np.asarray(bend * np.array(p) / math.pi, low_dtype),
            np.asarray(bend * np.array(r), low_dtype),
        ),
        window,
        *dtypes,
    )


def make_scratch(group: Group, channels: int) -> Scratch:
    """Work arrays for one group; a thread needs its own."""
    lanes = ALIGNMENT_BYTES // 4
    segment = -(-(group.size + 2 * group.geometry.guard) // lanes) * lanes
    torus = group.size if group.geometry.torus else 0
    depth = len(group.layers.numbers)
    return Scratch(
        aligned(4 * segment, group.plane_dtype),
        aligned(7 * segment, group.low_dtype),
        segment,
        np.zeros(channels * torus, group.plane_dtype),
        np.zeros(depth * torus, group.plane_dtype),
        np.zeros(depth * torus, group.low_dtype),
        np.full(torus, -1),
        np.zeros(torus, np.int64),
    )


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
    rows, columns, stride, _, torus = geometry
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
