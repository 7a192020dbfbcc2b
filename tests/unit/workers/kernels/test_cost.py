"""The static cost model: what it must rank and bound."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from workers.kernels import compile_kernel, cost
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
    of_single, of_double = (cost.kernel_cost(erf, (784,), d) for d in ("float32", "float64"))
    assert of_single.bytes_per_entry == of_double.bytes_per_entry
    assert of_single.fixed_bytes == cost.SERIES_BYTES
    assert of_double.fixed_bytes == 0
    single, double = (cost.nanoseconds_per_pair(erf, 784, d) for d in ("float32", "float64"))
    assert single < double  # as a chain of polynomials


def test_combinators_are_priced() -> None:
    """Blocks cost more than their layers; the equilibrium about as much as a shallow network; an
    embedding as many features as it makes."""
    layers = [{"op": "dense"}, {"op": "activation", "fn": "relu"}, {"op": "dense"}]
    plain = parse_kernel({"layers": layers})
    block = parse_kernel({"layers": [layers[0], {"op": "residual", "body": layers[1:]}]})
    assert cost.pair_flops(block) > 1.5 * cost.pair_flops(plain)
    deq, three = parse_kernel("deq"), parse_kernel({"preset": "fc", "depth": 3})
    ratio = cost.pair_flops(deq) / cost.pair_flops(three)
    assert 0.5 < ratio < 2
    slow = parse_kernel({"preset": "deq", "w_var": 0.99})
    assert cost.pair_flops(slow) > 3 * cost.pair_flops(deq)
    assert cost.computed_in_float64(slow, "float32")
    embedded = parse_kernel(
        {"layers": [{"op": "fourier_features", "kind": "basic"}, {"op": "dense"}]}
    )
    assert cost.flops_per_pair(embedded, 10) == 40 + cost.pair_flops(embedded)
    assert cost.panel_bytes_per_number(embedded, "float32", 10) == 2 * (8 + 2 * 4)


@pytest.mark.parametrize("depth", [3, 40])
@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_panel_bytes_bound_what_a_panel_holds(activation: str, depth: int) -> None:
    from jax import tree

    spec = parse_kernel({"preset": "fc", "depth": depth, "activation": activation, "b_std": 0.1})
    rows, features = 128, 30
    x = np.random.default_rng(0).standard_normal((rows, features)).astype(np.float32)
    prepared = compile_kernel(spec).panel(x, block_rows=rows)
    held = sum(leaf.nbytes for leaf in tree.leaves(prepared.panel))
    assert (prepared.side is None) == (activation == "relu")
    if prepared.side is not None:
        held += sum(
            part.nbytes
            for own in prepared.side.rows.layers
            for part in (own.x, own.weights, own.bias)
        )
    per_sample = cost.kernel_cost(spec, (features,), "float32").panel_bytes_per_sample
    # Its mean and a few numbers per row are not counted.
    assert held <= rows * per_sample + 8 * features + 32 * rows
    assert held >= rows * per_sample / 2


@pytest.mark.parametrize(
    ("source", "dtype"),
    [
        ({"preset": "fc", "activation": "relu", "b_std": 0.1}, "float32"),
        ({"preset": "fc", "activation": "relu", "b_std": 0.1}, "float64"),
        ({"preset": "fc", "activation": "erf", "b_std": 0.1}, "float32"),
        ({"preset": "tirer_resnet", "blocks": 30}, "float32"),
        ({"preset": "deq"}, "float32"),
    ],
)
@pytest.mark.parametrize("features", [200, 5000])
def test_block_bytes_bound_what_xla_allocates(
    source: dict[str, Any], dtype: Any, features: int
) -> None:
    """Invariant: projected memory is at least what the compiled block uses."""
    import jax

    from workers.kernels.compile import CompiledKernel
    from workers.kernels.correlation import _correlate, _repair

    rows = 128
    spec = parse_kernel(source)
    kernel = CompiledKernel(spec)
    x = np.random.default_rng(0).standard_normal((rows, features)).astype(dtype)
    panel = kernel.panel(x, block_rows=rows).panel
    double = dtype == "float32" and cost.computed_in_float64(spec, dtype)
    products = ("double", "pieces") if double else ("centered",)
    with jax.enable_x64(True):
        correlate = [
            _correlate.lower(panel, panel, symmetric=False, product=product).compile()
            for product in products
        ]
        folded = _correlate(panel, panel, symmetric=False, product=products[0]).folded
        repair = [
            _repair.lower(folded, panel, panel, symmetric=False, product=product).compile()
            for product in products
        ]
        evaluate = kernel._evaluate.lower(
            folded,
            panel.length,
            panel.length,
            features=features,
            outputs=("nngp", "ntk"),
            dtype=dtype,
        ).compile()

    def used_by(program: Any) -> int:
        sizes = program.memory_analysis()
        return int(sizes.temp_size_in_bytes + sizes.output_size_in_bytes)

    used = max(map(used_by, correlate)) + max(map(used_by, repair)) + used_by(evaluate)
    used += 2 * cost.panel_bytes_per_number(spec, dtype, features) * rows * features
    assert used <= cost.block_bytes(spec, rows, features, dtype)
