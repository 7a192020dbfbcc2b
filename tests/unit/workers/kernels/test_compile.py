"""Compiled kernels as library users and tile tasks call them."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from workers.kernels import (
    InvalidInputsError,
    InvalidKernelError,
    KernelRangeError,
    compile_kernel,
)
from workers.kernels.compile import CompiledKernel


@pytest.fixture(scope="module")
def kernel() -> CompiledKernel:
    return compile_kernel({"preset": "fc", "depth": 2, "b_std": 0.1})


def samples(rows: int, features: int = 20, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, features)).astype(np.float32)


def test_blocks_do_not_change_the_values(kernel: CompiledKernel) -> None:
    """The same entries whatever the block size and padding, up to rounding; all filled."""
    x, y = samples(150), samples(70, seed=1)
    for other in (None, y):
        whole = kernel(x, other)
        for rows in (64, 128):
            parts = kernel(x, other, block_rows=rows)
            for name in ("nngp", "ntk"):
                assert parts[name].shape == (150, 150 if other is None else 70)
                np.testing.assert_allclose(parts[name], whole[name], rtol=2e-6, atol=1e-8)
                if other is None:
                    assert (parts[name] == parts[name].T).all()


def test_block_is_the_library_call(kernel: CompiledKernel) -> None:
    """Tile tasks and library users get the same bits; panels and rows are interchangeable."""
    x, y = samples(64), samples(50, seed=1)
    call = kernel(x, y)
    from_rows = kernel.block(x, y, symmetric=False, block_rows=64)
    left, right = kernel.panel(x, block_rows=64), kernel.panel(y, block_rows=64)
    from_panels = kernel.block(left, right, symmetric=False, block_rows=64)
    for name in ("nngp", "ntk"):
        assert from_rows[name].shape == (64, 50)
        assert from_panels[name].shape == (64, 64)
        np.testing.assert_array_equal(from_rows[name], call[name])
        np.testing.assert_array_equal(from_panels[name][:, :50], call[name])


def test_symmetric_block(kernel: CompiledKernel) -> None:
    x = samples(50)
    block = kernel.block(x, x, symmetric=True, outputs=("ntk",), block_rows=64)
    assert set(block) == {"ntk"}
    np.testing.assert_array_equal(block["ntk"], block["ntk"].T)
    np.testing.assert_array_equal(block["ntk"], kernel(x, outputs=("ntk",))["ntk"])


def test_padding_rows_do_not_reach_the_result(kernel: CompiledKernel) -> None:
    x = samples(3)
    assert kernel(x)["ntk"].shape == (3, 3)
    np.testing.assert_allclose(
        kernel.block(x, x, symmetric=True, block_rows=128)["ntk"], kernel(x)["ntk"], rtol=1e-6
    )


def test_one_output_equals_the_pair(kernel: CompiledKernel) -> None:
    x = samples(20)
    nngp = kernel(x, outputs=("nngp",))
    assert set(nngp) == {"nngp"}
    np.testing.assert_allclose(nngp["nngp"], kernel(x)["nngp"], rtol=1e-6)


def test_dtype_follows_x1_and_images_are_flattened(kernel: CompiledKernel) -> None:
    x = samples(10, 24)
    single, double = kernel(x), kernel(x.astype(np.float64))
    assert single["ntk"].dtype == np.float32
    assert double["ntk"].dtype == np.float64
    np.testing.assert_allclose(single["ntk"], double["ntk"], rtol=1e-6)
    np.testing.assert_array_equal(kernel(x.reshape(10, 2, 3, 4))["ntk"], single["ntk"])


def test_kernels_pickle_as_their_spec(kernel: CompiledKernel) -> None:
    again = pickle.loads(pickle.dumps(kernel))
    assert again.spec == kernel.spec
    np.testing.assert_array_equal(again(samples(5))["ntk"], kernel(samples(5))["ntk"])


def test_global_precision_is_left_alone(kernel: CompiledKernel) -> None:
    import jax

    kernel(samples(5).astype(np.float64))
    assert not jax.config.jax_enable_x64


@pytest.mark.parametrize(
    ("x1", "x2", "part"),
    [
        (np.zeros((3, 2), np.int64), None, "int64"),
        (np.zeros((3, 2), np.float16), None, "float16"),
        (np.zeros((3, 2), object), None, "object"),
        (np.zeros(3), None, "shape"),
        (np.zeros((0, 2)), None, "shape"),
        (np.zeros((2, 0)), None, "shape"),
        (np.array([[np.nan]]), None, "NaN"),
        (np.array([[1.0]]), np.array([[np.inf]]), "x2 has NaN"),
        (np.zeros((3, 2)), np.zeros((3, 4)), "x2 float64 samples of 4"),
        (np.zeros((3, 2)), np.zeros((3, 2), np.float32), "float32"),
    ],
)
def test_bad_inputs(kernel: CompiledKernel, x1: Any, x2: Any, part: str) -> None:
    with pytest.raises(InvalidInputsError, match=part):
        kernel(x1, x2)


def test_bad_spec_fails_before_any_work() -> None:
    with pytest.raises(InvalidKernelError):
        compile_kernel({"preset": "fc", "depth": -1})


@pytest.mark.parametrize("w_std", [1e30, 60.0])
def test_values_out_of_range_are_an_error_not_inf(w_std: float) -> None:
    kernel = compile_kernel({"preset": "fc", "depth": 100, "w_std": w_std})
    with pytest.raises(KernelRangeError, match="float32"):
        kernel(samples(5))


def test_chaotic_network_with_overflowing_ntk_is_an_error() -> None:
    """The NTK of a chaotic erf network grows like chi^depth on the diagonal."""
    kernel = compile_kernel({"preset": "fc", "depth": 300, "activation": "erf", "w_std": 30.0})
    assert np.isfinite(kernel(samples(5), outputs=("nngp",))["nngp"]).all()
    with pytest.raises(KernelRangeError):
        kernel(samples(5), outputs=("ntk",))
