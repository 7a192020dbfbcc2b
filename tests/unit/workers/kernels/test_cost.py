"""The static cost model: what it must rank and bound."""

from __future__ import annotations

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
