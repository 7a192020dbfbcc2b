"""What a kernel costs, from its spec alone: arithmetic, time, memory.

A static model, for the first estimate of a kernel that this installation has not timed yet;
constants are measured on one AVX-512 core and named with their units. Measured rates, where
there are any, replace it.
"""

from __future__ import annotations

from typing import Literal

from workers.kernels.spec import KernelSpec

DType = Literal["float32", "float64"]

GEMM_NANOSECONDS_PER_FLOP = {"float32": 0.0115, "float64": 0.03}
"""One core; multiply and add count as two."""

EPILOGUE_NANOSECONDS_PER_FLOP = {"float32": 0.035, "float64": 0.12}
"""Pointwise recursion on panels in cache, one core."""

BLOCK_NANOSECONDS_PER_PAIR = {"float32": 7.0, "float64": 12.0}
"""Passes over whole blocks in memory: correlations, outputs, copies."""

INPUT_FLOPS = 24.0
"""Per entry: correlation from inner product, test for closeness, output scaling."""

AFFINE_FLOPS = 8.0
"""Per entry and layer with a bias: rotation of the normalised covariance."""

COMPUTE_BUFFERS = 8
"""Block-sized arrays alive at once in the compiled block (state, its successor, outputs)."""

ROW_BUFFERS = 6
"""Row-panel-sized arrays per side: rows, scaled rows, float64 copies."""


def computed_in_float64(spec: KernelSpec, dtype: DType) -> bool:
    """Whether pairs are carried in float64: float64 results, or an activation that needs it."""
    return dtype == "float64" or not all(x.dual().float32_pairs for x in spec.activations)


def panel_bytes_per_number(spec: KernelSpec, dtype: DType) -> int:
    """Bytes that a prepared panel keeps per number of its rows: the rows as given, scaled to
    unit norm, and centred (inputs.Panel)."""
    return (4 if dtype == "float32" else 8) + 2 * (8 if computed_in_float64(spec, dtype) else 4)


def pair_flops(spec: KernelSpec) -> float:
    """Pointwise operations per entry, the inner product not included."""
    activations = sum(x.dual().flops_per_pair + 3.0 for x in spec.activations)
    biased = sum(1 for layer in spec.dense_layers if layer.b_std > 0)
    return INPUT_FLOPS + activations + AFFINE_FLOPS * biased


def flops_per_pair(spec: KernelSpec, features: int) -> float:
    """Arithmetic operations per entry of the Gram matrix for inputs of `features` numbers."""
    return 2.0 * features + pair_flops(spec)


def nanoseconds_per_pair(spec: KernelSpec, features: int, dtype: DType) -> float:
    """Estimated CPU nanoseconds per entry on one core; within a factor of 3 on most machines."""
    precision: DType = "float64" if computed_in_float64(spec, dtype) else "float32"
    return (
        BLOCK_NANOSECONDS_PER_PAIR[precision]
        + 2.0 * features * GEMM_NANOSECONDS_PER_FLOP[precision]
        + pair_flops(spec) * EPILOGUE_NANOSECONDS_PER_FLOP[precision]
    )


def block_bytes(spec: KernelSpec, block_rows: int, features: int, dtype: DType) -> int:
    """Upper bound on the temporaries of one compute block, bytes; inputs and outputs included."""
    itemsize = 8 if computed_in_float64(spec, dtype) else 4
    block = block_rows * block_rows * (COMPUTE_BUFFERS * itemsize)
    rows = 2 * block_rows * features * 8 * ROW_BUFFERS
    return block + rows
