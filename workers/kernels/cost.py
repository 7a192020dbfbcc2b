"""What a kernel costs, from its spec alone: arithmetic, time, memory.

A static model, for the first estimate of a kernel that this installation has not timed yet;
constants are measured on one AVX-512 core and named with their units. Measured rates, where
there are any, replace it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from workers.kernels.duals.base import ActivationModel
from workers.kernels.input_ops import embedded_features
from workers.kernels.layers import (
    AnyLayer,
    Dense,
    FixedPoint,
    InputInjection,
    Residual,
    inner_layers,
    walk,
)
from workers.kernels.program import LARGEST_SINGLE_CONTRACTION, float32_pairs, takes_series
from workers.kernels.series.stack import SLICE_BYTES
from workers.kernels.spatial.cost import spatial_cost
from workers.kernels.spatial.representation import Representation
from workers.kernels.spec import KernelSpec
from workers.kernels.structure import simple_body

DType = Literal["float32", "float64"]

GEMM_NANOSECONDS_PER_FLOP = {"float32": 0.0115, "float64": 0.03}
"""One core; multiply and add count as two."""

EPILOGUE_NANOSECONDS_PER_FLOP = {"float32": 0.035, "float64": 0.12}
"""Pointwise recursion on panels in cache, one core."""

BLOCK_NANOSECONDS_PER_PAIR = {"float32": 7.0, "float64": 12.0}
"""Passes over whole blocks in memory: correlations, outputs, copies."""

INPUT_FLOPS = 24.0
"""Per entry: correlation from inner product, test for closeness, output scaling."""

AFFINE_FLOPS = 16.0
"""Per entry and layer with a bias: rotation of the normalised covariance."""

INJECTION_FLOPS = 50.0
"""Per entry and layer with an injection: one more part, and rho of either sign."""

RESIDUAL_FLOPS = 60.0
"""Per entry and residual block, beside its layers: the sum of two paths of either sign."""

EQUILIBRIUM_FLOPS = {"float32": 110.0, "float64": 240.0}
"""Per entry of an equilibrium network in closed form: an angle and two series."""

NEWTON_FLOPS = 40.0
"""Per entry and Newton step of an equilibrium network whose series would be too long."""

NEWTON_STEPS = 25
"""Newton steps of such a network (sigma_w^2 = 0.99)."""

FIXED_POINT_STEPS = 8
"""Newton steps of a fixed point that is iterated."""

SERIES_NANOSECONDS_PER_LAYER = 2.0
"""Per entry and activation of a chain of polynomials (series/), rows of unlike lengths."""

SERIES_ROW_NUMBERS = 3
"""float64 numbers per row and layer of a prepared panel: position and unit vector (stack.Side)."""

SERIES_COLUMN_NUMBERS = 20
"""The same per column of a block: its functions, few of which are ever more than 16, and copies of
those three."""

SERIES_BYTES = 2 * SLICE_BYTES
"""Coefficients of the rows of a block of such a chain, and the copies in which they arise."""

COMPUTE_BUFFERS = 8
"""Block-sized arrays alive at once in the compiled block (state, its successor, outputs)."""

PRODUCT_BYTES_PER_NUMBER: dict[DType, int] = {"float32": 44, "float64": 60}
"""Copies of the rows of both panels that the product and the repair of close pairs make, bytes per
number of a row, by the dtype of results: what XLA allocates for both programs, and a tenth."""

LAYER_ROW_NUMBERS = 6
"""float64 numbers per row and layer: deviations and unit vectors, and their stacked copies."""


@dataclass(frozen=True)
class KernelCost:
    """What one kernel costs on samples of one shape, per pair of samples and per compute block.

    `representation`: what is carried for a pair of samples: one number (`scalar`), or a choice of
    pixel pairs (spatial/representation.py).
    """

    representation: Literal["scalar"] | Representation
    flops_per_pair: float
    nanoseconds_per_pair: float
    panel_bytes_per_sample: int
    fixed_bytes: int
    bytes_per_row: int
    bytes_per_entry: int

    def block_bytes(self, block_rows: int) -> int:
        """Upper bound on the temporaries of one compute block, bytes."""
        return (
            self.fixed_bytes
            + block_rows * self.bytes_per_row
            + block_rows * block_rows * self.bytes_per_entry
        )


def kernel_cost(spec: KernelSpec, sample_shape: tuple[int, ...], dtype: DType) -> KernelCost:
    """Cost of `spec` on samples of `sample_shape`, computed for results of `dtype`.

    Raises InvalidInputsError if such samples do not fit the network.
    """
    if spec.spatial:
        pixels = spatial_cost(spec, sample_shape, dtype)
        return KernelCost(
            representation=pixels.parts.representation,
            flops_per_pair=pixels.flops_per_pair,
            nanoseconds_per_pair=pixels.nanoseconds_per_pair,
            panel_bytes_per_sample=pixels.panel_bytes_per_sample,
            fixed_bytes=pixels.temporary_bytes,
            bytes_per_row=2 * pixels.panel_bytes_per_sample,
            bytes_per_entry=4 * 8,
        )
    features = math.prod(sample_shape)
    embedded = embedded_features(spec.input_ops, features)
    layers = sum(1 for _ in walk(spec.layers))
    itemsize = 8 if computed_in_float64(spec, dtype) else 4
    series = layers if takes_series(spec, dtype) else 0
    panel_bytes = panel_bytes_per_number(spec, dtype, features) * features
    return KernelCost(
        representation="scalar",
        flops_per_pair=flops_per_pair(spec, features),
        nanoseconds_per_pair=nanoseconds_per_pair(spec, features, dtype),
        panel_bytes_per_sample=panel_bytes + 8 * SERIES_ROW_NUMBERS * series,
        fixed_bytes=SERIES_BYTES if series else 0,
        bytes_per_row=2 * panel_bytes
        + PRODUCT_BYTES_PER_NUMBER[dtype] * embedded
        + 2 * 8 * LAYER_ROW_NUMBERS * layers
        + 8 * SERIES_COLUMN_NUMBERS * series,
        bytes_per_entry=COMPUTE_BUFFERS * itemsize,
    )


def computed_in_float64(spec: KernelSpec, dtype: DType) -> bool:
    """Whether pairs are carried in float64: float64 results, or an activation that needs it."""
    return dtype == "float64" or not float32_pairs(spec)


def panel_bytes_per_number(spec: KernelSpec, dtype: DType, features: int) -> int:
    """Bytes that a prepared panel keeps per number of its rows, which hold `features` numbers:
    the rows as given (or embedded, then in float64), scaled to unit norm, and centred
    (inputs.Panel)."""
    embedded = embedded_features(spec.input_ops, features)
    held = 8 if embedded != features or dtype == "float64" else 4
    working = 8 if dtype == "float64" else 4
    return math.ceil(embedded * (held + 2 * working) / features)


def pair_flops(spec: KernelSpec, precision: DType = "float32") -> float:
    """Pointwise operations per entry, the inner product not included."""
    return INPUT_FLOPS + sum(_layer_flops(layer, precision) for layer in spec.layers)


def _layer_flops(layer: AnyLayer, precision: DType) -> float:
    if isinstance(layer, ActivationModel):
        return layer.dual().flops_per_pair + 3.0
    if isinstance(layer, Dense):
        return AFFINE_FLOPS if layer.b_std > 0 else 0.0
    if isinstance(layer, InputInjection):
        return INJECTION_FLOPS
    inner = sum(_layer_flops(part, precision) for part in inner_layers(layer))
    if isinstance(layer, Residual):
        return RESIDUAL_FLOPS + inner
    if isinstance(layer, FixedPoint):
        simple = simple_body(layer)
        if simple is None:
            return 2 * FIXED_POINT_STEPS * inner  # each step takes the body and its slope
        if simple.contraction > LARGEST_SINGLE_CONTRACTION:
            return NEWTON_FLOPS * NEWTON_STEPS
        return EQUILIBRIUM_FLOPS[precision]
    return 0.0


def flops_per_pair(spec: KernelSpec, features: int) -> float:
    """Arithmetic operations per entry of the Gram matrix for inputs of `features` numbers."""
    return 2.0 * embedded_features(spec.input_ops, features) + pair_flops(spec)


def nanoseconds_per_pair(spec: KernelSpec, features: int, dtype: DType) -> float:
    """Estimated CPU nanoseconds per entry on one core; within a factor of 3 on most machines."""
    precision: DType = "float64" if computed_in_float64(spec, dtype) else "float32"
    if takes_series(spec, dtype):
        pointwise = SERIES_NANOSECONDS_PER_LAYER * len(spec.activations)
    else:
        pointwise = pair_flops(spec, precision) * EPILOGUE_NANOSECONDS_PER_FLOP[precision]
    return (
        BLOCK_NANOSECONDS_PER_PAIR[precision]
        + 2.0 * embedded_features(spec.input_ops, features) * GEMM_NANOSECONDS_PER_FLOP[precision]
        + pointwise
    )


def block_bytes(spec: KernelSpec, block_rows: int, features: int, dtype: DType) -> int:
    """Upper bound on the temporaries of one compute block, bytes; inputs and outputs included."""
    return kernel_cost(spec, (features,), dtype).block_bytes(block_rows)
