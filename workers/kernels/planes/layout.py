"""A network as the arrays that the compiled core reads: groups of layers between pools.

Kernels are carried in units that change from layer to layer, so that a box sum needs no factor:
with unit c, K = c K^. A convolution multiplies c by w_std^2/|filter|, an activation by E[phi(z)^2],
a pool by 1/window^2, and the bias is b_std^2/c. Where c has drifted far from the size of K, planes
are rescaled by a power of 2, which is exact, so that float32 planes stay in range at any depth.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.kernels.duals.arc_cosine import P_DOUBLE, P_SINGLE, R_DOUBLE, R_SINGLE
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.planes.geometry import (
    LANES,
    Bands,
    Geometry,
    aligned,
    bands,
    go_around,
    lines_of,
    whole,
)
from workers.kernels.planes.network import (
    Activation,
    AveragePool,
    Convolution,
    Network,
    Precision,
)

LARGEST_DRIFT = 24
"""Planes are rescaled when K^ of unit inputs leaves 2^-24 .. 2^24."""

FOLDED_COLUMNS = LANES
"""Images of fewer columns are pooled pixel by pixel: a band of theirs meets more than two rows."""


class Layers(NamedTuple):
    """Numbers of the layers of a group."""

    filters: NDArray[np.int64]  # (layers, 2) half of the filter: rows, columns
    numbers: NDArray[np.float64]  # (layers, 4), see `LayerNumbers`
    p: NDArray[Any]  # (layers, coefficients) of the slopes, in the dtype of the NTK plane
    r: NDArray[Any]  # of the NNGP

    @property
    def flat(self) -> Layers:
        """The same with coefficients of one dimension, as the core takes them; no copy."""
        return self._replace(p=self.p.reshape(-1), r=self.r.reshape(-1))


class LayerNumbers(NamedTuple):
    """One row of `Layers.numbers`."""

    bias: float  # b_std^2 in the unit of the layer
    rescale: float  # a power of 2, after the activation
    gamma: float  # 2ab/(a^2 + b^2) of the slopes
    signed: float  # 1 where rho < 0 is possible, else 0


class Side(NamedTuple):
    """Prepared images of one side, in the layout of one group. N = geometry.row."""

    channels: NDArray[Any]  # (n, C, N) pixels / sqrt(C); empty after a pool
    deviation: NDArray[Any]  # (n, layers, N) sqrt of each pixel's variance, 0 where none is
    inverse: NDArray[Any]  # (n, layers, N) 1 / deviation, 0 where that is 0
    inside: NDArray[Any]  # (N,) 1, 0 where there is no pixel

    @property
    def flat(self) -> Side:
        """The same with arrays of one dimension, as the core takes them; no copy."""
        return Side(*(array.reshape(-1) for array in self))


class PixelPairs(NamedTuple):
    """The kernels of all pairs of pixels of two images, where bands do not do: at a pool.

    The pair of what stands at k in the left image and at l in the right one (in the layout of the
    group that reads or adds them) is entry left[k] + right[l]. Where a group reads them, right[l]
    is l. Windows of two columns of images that are not small are added faster, if `window_rows`
    says how many rows they have; `lead` and `line` are then those of the pooled image.
    """

    nngp: NDArray[Any]
    ntk: NDArray[Any]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    window_rows: int = 0
    lead: int = 0
    line: int = 0


class Scratch(NamedTuple):
    """Work arrays of the core: K and T of a band with its guards, four segments each. Two that
    layers read and write in turn, sums over rows, and box sums."""

    high: NDArray[Any]
    low: NDArray[Any]
    segment: int
    totals: NDArray[np.float64]  # (2 LANES,) of K and of T, lane by lane
    lanes_high: NDArray[Any]  # 0, 1, ... in the dtype of `high`
    lanes_low: NDArray[Any]


@dataclass(frozen=True)
class Group:
    """Layers on images of one size, and the pool that follows (None: the readout)."""

    geometry: Geometry
    layers: Layers
    window: tuple[int, int] | None
    plane_dtype: np.dtype[Any]  # of the NNGP plane and the deviations
    low_dtype: np.dtype[Any]  # of everything else

    @functools.cached_property
    def bands(self) -> Bands:
        """Of all planes; see `bands`."""
        return bands(self.geometry, half=False).flat

    @functools.cached_property
    def half_bands(self) -> Bands:
        """Of an image with itself, where opposite lags have equal sums."""
        return bands(self.geometry, half=True).flat if self.window is None else self.bands

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
    def inverse_dtype(self) -> np.dtype[Any]:
        """Of `Side.inverse`: what t is computed in."""
        return self.layers.r.dtype

    @property
    def segment(self) -> int:
        """Numbers of a band with its guards."""
        return LANES * (self.geometry.rows * self.geometry.stride + 2 * self.geometry.guard)

    @property
    def pixels(self) -> int:
        return self.geometry.rows * self.geometry.columns

    def positions(self) -> NDArray[np.int64]:
        """(P, Q): where the pixels stand in a prepared image."""
        i, j = (np.arange(size) for size in self.geometry[:2])
        return self.geometry.lead + i[:, None] * self.geometry.line + j

    def spread(self, images: NDArray[Any]) -> NDArray[Any]:
        """Images (..., P, Q) in this layout, (..., N): zeros behind each row, or on the torus the
        columns over again."""
        geometry = self.geometry
        out = np.zeros((*images.shape[:-2], geometry.row), images.dtype)
        lines = lines_of(out, geometry)
        lines[..., : geometry.columns] = images
        if geometry.torus:
            go_around(lines, geometry)
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

    @property
    def work_bytes(self) -> int:
        """What the core works in: bands, and the pooled tensors of one pair of images."""
        total = 0
        for group, after in itertools.zip_longest(self.groups, self.groups[1:]):
            numbers = 4 * group.segment
            if after is not None:
                numbers += after.pixels * after.geometry.row
            total += numbers * (group.plane_dtype.itemsize + group.low_dtype.itemsize)
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
        stride = whole(stride, window[1])  # so that windows do not straddle rows
    line = 2 * columns + LANES - 1 if torus else stride
    row = LANES + whole(rows * line, LANES) + 2 * LANES
    return Group(
        Geometry(rows, columns, stride, up * stride + reach + 1, LANES, line, row, torus),
        Layers(
            np.array(halves, np.int64),
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


def make_scratch(group: Group) -> Scratch:
    """Work arrays for one group; a thread needs its own."""
    return Scratch(
        aligned(4 * group.segment, group.plane_dtype),
        aligned(4 * group.segment, group.low_dtype),
        group.segment,
        np.zeros(2 * LANES),
        np.arange(LANES).astype(group.plane_dtype),
        np.arange(LANES).astype(group.low_dtype),
    )


def no_pairs(group: Group) -> PixelPairs:
    """What stands for the tensors at an end of the network."""
    none = np.zeros(0, np.int64)
    return PixelPairs(np.zeros(0, group.plane_dtype), np.zeros(0, group.low_dtype), none, none)


def pooled_pairs(group: Group, after: Group) -> tuple[PixelPairs, PixelPairs]:
    """Zeros for the pool of `group`: as it adds to them, and as the group `after` reads them.

    A pixel of the left image has a row of the tensors, in the layout of `after`.
    """
    assert group.window is not None
    fine, coarse, window = group.geometry, after.geometry, group.window
    numbers = after.pixels * coarse.row
    tensors = np.zeros(numbers, group.plane_dtype), np.zeros(numbers, group.low_dtype)
    pixel = np.arange(after.pixels).reshape(coarse[:2])
    source = PixelPairs(*tensors, after.spread(pixel * coarse.row), np.arange(coarse.row))
    i, j = (np.arange(n) // w for n, w in zip(fine[:2], window, strict=True))
    left = group.spread((pixel * coarse.row)[i[:, None], j])
    right = group.spread(after.positions()[i[:, None], j])
    folds = not fine.torus and window[1] == 2 and fine.columns >= FOLDED_COLUMNS
    sink = PixelPairs(*tensors, left, right, window[0] * folds, coarse.lead, coarse.line)
    return sink, source


def wrap_pairs(pairs: PixelPairs, after: Group) -> None:
    """What has been added to a pool goes around the torus, as the images of `after` do."""
    if after.geometry.torus:
        for tensor in (pairs.nngp, pairs.ntk):
            go_around(
                lines_of(tensor.reshape(-1, after.geometry.row), after.geometry), after.geometry
            )
