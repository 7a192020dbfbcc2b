"""Projected memory is at least what a row of pairs takes in JAX, and what the core holds."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from workers.kernels import compile_kernel
from workers.kernels.cost import kernel_cost
from workers.kernels.spatial.programs import Program
from workers.kernels.spec import parse_kernel

CONV = {"op": "conv", "filter": [3, 3]}
ERF = {"op": "activation", "fn": "erf"}
ROWS = 8


@pytest.mark.parametrize(
    ("representation", "first", "readout"),
    [
        ("diagonal", CONV, "flatten"),
        ("planes", CONV, "global_avg_pool"),
        ("tensor", {**CONV, "padding": "VALID"}, "global_avg_pool"),
    ],
)
def test_projection_bounds_what_xla_allocates(
    representation: str, first: dict[str, Any], readout: str
) -> None:
    spec = parse_kernel({"layers": [first, ERF, {"op": readout}, {"op": "dense"}]})
    cost = kernel_cost(spec, (16, 16, 3), "float32")
    assert cost.representation == representation
    program = Program(spec, (16, 16, 3), single=False)
    x = np.random.default_rng(0).random((ROWS, 16, 16, 3)).astype(np.float32)
    with jax.enable_x64(True):
        samples = program.prepare(x)
        row = program.row.lower(samples, 0, samples, 0, ROWS, False, wanted=True).compile()
        prepare = program.prepare.lower(x).compile()
    held = sum(array.nbytes for array in jax.tree.leaves(samples))
    assert held <= ROWS * cost.panel_bytes_per_sample
    for compiled in (row, prepare):
        sizes = compiled.memory_analysis()
        used = sizes.temp_size_in_bytes + sizes.output_size_in_bytes
        assert used <= cost.block_bytes(ROWS)


@pytest.mark.parametrize("kernel", [{"preset": "cntk", "depth": 9}, "myrtle5", "cdeq"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(8, 8, 1), (16, 8, 3)])
def test_projection_bounds_what_the_compiled_core_holds(
    kernel: Any, dtype: Any, shape: tuple[int, ...]
) -> None:
    spec = parse_kernel(kernel)
    panel = compile_kernel(spec).panel(np.ones((ROWS, *shape), dtype), block_rows=ROWS)
    cost = kernel_cost(spec, shape, dtype)
    assert panel.samples.nbytes <= ROWS * cost.panel_bytes_per_sample
