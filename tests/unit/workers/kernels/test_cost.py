"""The static cost model: what it must rank and bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workers.kernels import cost
from workers.kernels.spec import parse_kernel


def test_flops_count_the_product_and_grow_with_depth() -> None:
    shallow, deep = (
        parse_kernel({"preset": "fc", "depth": 3}),
        parse_kernel({"preset": "fc", "depth": 30}),
    )
    assert cost.flops_per_pair(shallow, 784) >= 2 * 784
    assert cost.pair_flops(deep) > 5 * cost.pair_flops(shallow) - cost.INPUT_FLOPS * 5
    assert cost.nanoseconds_per_pair(deep, 784, "float32") > cost.nanoseconds_per_pair(
        shallow, 784, "float32"
    )


def test_smooth_activations_are_priced_in_float64() -> None:
    erf = parse_kernel({"preset": "fc", "activation": "erf"})
    assert cost.computed_in_float64(erf, "float32")
    assert not cost.computed_in_float64(parse_kernel("fc"), "float32")
    assert cost.block_bytes(erf, 512, 784, "float32") == cost.block_bytes(erf, 512, 784, "float64")


@pytest.mark.parametrize(
    ("activation", "dtype"), [("relu", "float32"), ("relu", "float64"), ("erf", "float32")]
)
def test_block_bytes_bound_what_xla_allocates(activation: str, dtype: Any) -> None:
    """Invariant: projected memory is at least what the compiled block uses."""
    import jax

    from workers.kernels.compile import CompiledKernel, _correlate, _repair

    rows, features = 128, 200
    spec = parse_kernel({"preset": "fc", "activation": activation, "b_std": 0.1})
    kernel = CompiledKernel(spec)
    x = np.random.default_rng(0).standard_normal((rows, features)).astype(dtype)
    panel = kernel.panel(x, block_rows=rows)
    with jax.enable_x64(True):
        folded = _correlate(panel, panel, symmetric=False).folded
        correlate = _correlate.lower(panel, panel, symmetric=False).compile()
        repair = _repair.lower(folded, panel, panel, symmetric=False).compile()
        evaluate = kernel._evaluate.lower(
            folded,
            panel.length,
            panel.length,
            features=features,
            outputs=("nngp", "ntk"),
            dtype=dtype,
        ).compile()
    used = 0
    for program in (correlate, repair, evaluate):
        sizes = program.memory_analysis()
        used += sizes.temp_size_in_bytes + sizes.output_size_in_bytes
    used += 2 * cost.panel_bytes_per_number(spec, dtype) * rows * features
    assert used <= cost.block_bytes(spec, rows, features, dtype)
