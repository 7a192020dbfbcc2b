"""What a convolutional kernel costs per pair of samples, from its spec and their shape. No JAX."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

from workers.kernels.duals.base import ActivationModel
from workers.kernels.layers import Residual
from workers.kernels.planes.layout import make_plan
from workers.kernels.planes.network import EquilibriumNetwork, piecewise_linear
from workers.kernels.spatial.core import core_precision
from workers.kernels.spatial.geometry import Shape, after_layer, sample_grid, sides
from workers.kernels.spatial.layers import Conv, PoolModel
from workers.kernels.spatial.representation import Parts, Representation, network_parts
from workers.kernels.spec import KernelSpec

DType = Literal["float32", "float64"]

NANOSECONDS_PER_FLOP: dict[Representation, float] = {
    "diagonal": 0.1,
    "planes": 0.15,
    "tensor": 0.25,
}
"""One AVX-512 core, NTKs in float32. Measured at 32 x 32 x 3: 0.06-0.07 (ReLU, blocks of 32 samples
by 32), 0.12 (erf; in float64, 0.20), 0.16 (ReLU), the latter two with blocks of 2 by 4."""

CORE_NANOSECONDS_PER_FLOP = {"float32": 0.015, "float64": 0.03}
"""The same of the compiled core, by the dtype of the results. Measured without pools at depth 5:
0.017 and 0.039 on a Xeon of uneven speed (tests/benchmarks/results/conv-xeon-2core.md)."""

CORE_POOL_NANOSECONDS = 2.5
"""Per pixel pair in front of a pool, in the compiled core: into the pooled tensors, and there
float32 results have NNGPs with float64 polynomials."""

DOUBLE = 1.7
"""Factor of the same in float64."""

ACTIVATION_FLOPS = 15.0
"""Per pixel pair: correlation from covariance and back, besides the dual kernels themselves."""

TENSOR_BUFFERS = 9
"""Largest tensors alive at once (8 bytes per pixel pair each)."""

PLANES_BYTES = 16 << 20
"""Bound on the temporaries of offset planes besides what a sample takes: they stay in cache."""

PLANES_COPIES = 12
"""Turned and doubled copies of one sample's arrays while its offsets are computed."""

POOLED_BYTES = 48
"""Bytes per pair of pixels behind the first pool: tensors on the way in and out."""

EQUILIBRIUM_NANOSECONDS_PER_FLOP = 0.1
"""Convolutional equilibrium networks, float64, one AVX-512 core; at 32 x 32 pixels."""

EQUILIBRIUM_FLOPS = 100.0
"""Per pixel pair and Newton step of an equilibrium network, besides its linear system."""

GRADIENT_STEPS = 14.0
"""Conjugate gradient steps of all systems of an equilibrium network, times
1/sqrt(1 - sigma_w^2)."""

GRADIENT_FLOPS = 12.0
"""Per pixel pair and conjugate gradient step, besides the box sum."""

EQUILIBRIUM_BUFFERS = 20
"""Planes (8 bytes per pixel) of the work arrays of an equilibrium network."""

DIAGONAL_BUFFERS = 64
"""Pixel-sized arrays (8 bytes) alive at once while a group of samples is computed."""


@dataclass(frozen=True)
class SpatialCost:
    """`pixel_pairs`: pairs of pixels at the widest layer. `sample_numbers`: float64 numbers that
    a prepared sample holds."""

    parts: Parts
    flops_per_pair: float
    nanoseconds_per_pair: float
    pixel_pairs: int
    sample_numbers: int
    dtype: DType

    @property
    def panel_bytes_per_sample(self) -> int:
        if isinstance(self.parts.core, EquilibriumNetwork):
            return 8 * _layout_numbers(self.parts.core) * (self.parts.channels + 2)
        if self.parts.core is None:
            return 8 * self.sample_numbers
        plan = make_plan(self.parts.core, core_precision(self.dtype))
        return plan.image_bytes(self.parts.channels)

    @property
    def temporary_bytes(self) -> int:
        """Upper bound on the temporaries of one pair (of one group of pairs) of samples."""
        if isinstance(self.parts.core, EquilibriumNetwork):
            return 8 * EQUILIBRIUM_BUFFERS * _layout_numbers(self.parts.core) + PLANES_BYTES
        if self.parts.representation == "tensor":
            return TENSOR_BUFFERS * 8 * self.pixel_pairs + (1 << 20)
        if self.parts.representation == "planes":
            work = POOLED_BYTES * _pooled_pixels(self.parts) ** 2
            core = self.parts.core
            if core is not None and piecewise_linear(core):
                work = max(work, make_plan(core, core_precision(self.dtype)).work_bytes)
            return PLANES_BYTES + PLANES_COPIES * 8 * self.sample_numbers + work
        return DIAGONAL_BUFFERS * 8 * self.sample_numbers + (1 << 20)


def _pooled_pixels(parts: Parts) -> int:
    """Pixels behind the first pool; 0 without one."""
    shape: Shape | None = parts.shape
    for layer in parts.trunk:
        shape = after_layer(layer, shape)
        if isinstance(layer, PoolModel) and shape is not None:
            return math.prod(shape)
    return 0


def _pairs_before_pools(parts: Parts) -> int:
    """Pairs of pixels in front of each pool, added up."""
    shape: Shape | None = parts.shape
    total = 0
    for layer in parts.trunk:
        if isinstance(layer, PoolModel):
            total += _pairs(shape, 2)
        shape = after_layer(layer, shape)
    return total


def spatial_cost(spec: KernelSpec, sample_shape: tuple[int, ...], dtype: DType) -> SpatialCost:
    """Cost of one pair of samples. Raises InvalidInputsError if they do not fit the network."""
    grid, channels = sample_grid(spec.layers, sample_shape)
    parts = network_parts(spec.layers, grid, channels)
    power = 1 if parts.representation == "diagonal" else 2
    if isinstance(parts.core, EquilibriumNetwork):
        return _equilibrium_cost(parts, parts.core, math.prod(grid) ** power, dtype)
    flops, widest, _ = _flops(parts.layers, grid, power)
    flops += 2.0 * channels * math.prod(grid) ** power
    double = dtype == "float64" or not all(x.dual().float32_pairs for x in spec.activations)
    nanoseconds = NANOSECONDS_PER_FLOP[parts.representation] * (DOUBLE if double else 1.0)
    pooled = 0.0
    if parts.core is not None:
        nanoseconds = CORE_NANOSECONDS_PER_FLOP[dtype]
        pooled = CORE_POOL_NANOSECONDS * _pairs_before_pools(parts)
    numbers = math.prod(grid) * channels + _deviations(parts.layers, grid)
    if isinstance(parts.layers[0], Conv) and parts.representation == "tensor":
        # The input's own tensor is never made: inputs.tensor_inputs.
        widest = _flops(parts.layers[1:], after_layer(parts.layers[0], grid), power)[1]
    return SpatialCost(
        parts=parts,
        flops_per_pair=flops,
        nanoseconds_per_pair=flops * nanoseconds + pooled,
        pixel_pairs=widest,
        sample_numbers=numbers,
        dtype=dtype,
    )


def pixel_flops(layers: tuple[Any, ...], grid: Shape) -> tuple[float, int]:
    """Operations on all pixel pairs of one pair of samples, and the pairs of the largest layer
    that is held (the input's own tensor is never made: inputs.tensor_inputs)."""
    flops, widest, _ = _flops(layers, grid, 2)
    if layers and isinstance(layers[0], Conv):
        widest = _flops(layers[1:], after_layer(layers[0], grid), 2)[1]
    return flops, widest


def _equilibrium_cost(
    parts: Parts, network: EquilibriumNetwork, pixel_pairs: int, dtype: DType
) -> SpatialCost:
    """Newton and conjugate gradient steps as measured; the latter grow with the square root of
    the condition number."""
    longer = DOUBLE if dtype == "float64" else 1.0
    condition = 1 / (1 - network.w_var)
    newton = longer * (3 + math.log10(condition) * 1.5)
    gradients = longer * GRADIENT_STEPS * math.sqrt(condition)
    box = 2.0 * sum(network.filter)
    step = box + GRADIENT_FLOPS
    flops = pixel_pairs * (
        (newton + 1) * (EQUILIBRIUM_FLOPS + box) + gradients * step + 2.0 * parts.channels
    )
    return SpatialCost(
        parts=parts,
        flops_per_pair=flops,
        nanoseconds_per_pair=flops * EQUILIBRIUM_NANOSECONDS_PER_FLOP,
        pixel_pairs=pixel_pairs,
        sample_numbers=_layout_numbers(network) * (parts.channels + 2),
        dtype=dtype,
    )


def _layout_numbers(network: EquilibriumNetwork) -> int:
    """Numbers of one plane with its zeros and guards."""
    stride = network.pixels[1] + network.filter[1] // 2
    return (network.pixels[0] + 2 * network.filter[0]) * stride + 2 * network.filter[1]


def _flops(
    layers: tuple[Any, ...], shape: Shape | None, power: int
) -> tuple[float, int, Shape | None]:
    """Operations per pair of samples, the largest number of pixel pairs met, and the shape after
    the layers."""
    total, widest = 0.0, 1
    for layer in layers:
        after = after_layer(layer, shape)
        before_pairs, pairs = _pairs(shape, power), _pairs(after, power)
        widest = max(widest, before_pairs, pairs)
        if isinstance(layer, ActivationModel):
            total += pairs * (layer.dual().flops_per_pair + ACTIVATION_FLOPS)
        elif isinstance(layer, Conv):
            total += pairs * (2.0 * sum(sides(layer.filter)) + 4.0)
        elif isinstance(layer, Residual):
            for path in (layer.body, layer.shortcut):
                flops, most, _ = _flops(path, shape, power)
                total, widest = total + flops, max(widest, most)
            total += 4.0 * pairs
        else:
            total += 2.0 * before_pairs
        shape = after
    return total, widest, shape


def _pairs(shape: Shape | None, power: int) -> int:
    return 1 if shape is None else int(math.prod(shape) ** power)


def _deviations(layers: tuple[Any, ...], shape: Shape | None) -> int:
    """Numbers that the activations need of every sample."""
    total = 0
    for layer in layers:
        if isinstance(layer, ActivationModel):
            total += 1 if shape is None else math.prod(shape)
        elif isinstance(layer, Residual):
            total += _deviations(layer.body, shape) + _deviations(layer.shortcut, shape)
        shape = after_layer(layer, shape)
    return total
