"""Float32 kernels that come from polynomials against the traced recursion in float64."""

from __future__ import annotations

import math
from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from workers.kernels import compile_kernel
from workers.kernels.compile import LARGEST_GAIN, CompiledKernel
from workers.kernels.correlation import input_correlation
from workers.kernels.program import takes_series
from workers.kernels.series.network import SeriesPairs


def rows(count: int, *, seed: int, positive: bool, unit: bool) -> NDArray[np.float32]:
    """Rows with equal, opposite, nearly equal and zero ones among them."""
    rng = np.random.default_rng(seed)
    x = 0.6 * rng.standard_normal((count, 12)) + (1 if positive else 0)
    x *= rng.uniform(0.3, 1.0, (count, 1))
    x[1] = x[0]
    x[2] = x[0] * 1.3
    x[3] = x[0] + 1e-4 * x[4]
    x[5] = x[0] if positive else -x[0]
    if unit:
        x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[6] = 0
    return x.astype(np.float32)


def pairs_of(kernel: CompiledKernel, x: NDArray[np.float32]) -> SeriesPairs | None:
    panel = kernel.panel(x, block_rows=64)
    network = kernel._series(x.shape[1])
    if network is None or panel.side is None:
        return None
    return network.pairs(panel.side, panel.side)


def assert_as_in_double(kernel: CompiledKernel, x: NDArray[np.float32]) -> None:
    single, double = kernel(x), kernel(x.astype(np.float64))
    for name, values in single.items():
        expected = double[name]
        scale = np.sqrt(np.outer(np.diag(expected), np.diag(expected)))
        np.testing.assert_array_less(
            np.abs(values - expected), 1e-6 * np.abs(expected) + 3e-8 * scale + 1e-300
        )
        np.testing.assert_array_equal(values, values.T)


DEAR = [pytest.param(fn, marks=pytest.mark.slow) for fn in ("silu", "elu", "sigmoid", "gaussian")]
ACTIVATIONS: list[Any] = ["erf", "tanh", "gelu", "cos", *DEAR]


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_every_kind_of_rows(activation: Any) -> None:
    kernel = compile_kernel({"preset": "fc", "depth": 3, "activation": activation})
    for positive in (True, False):
        for unit in (True, False):
            x = rows(20, seed=1, positive=positive, unit=unit)
            assert not unit or pairs_of(kernel, x) is not None
            assert_as_in_double(kernel, x)


LAYERS = st.tuples(
    st.sampled_from(["erf", "tanh", "gelu", "relu", "sin", "linear"]),
    st.floats(0.3, 1.5),
    st.sampled_from([0.0, 0.2, 0.8]),
    st.sampled_from(["all", "none", "weights", "biases"]),
)


@settings(max_examples=3, deadline=None, derandomize=True, phases=[Phase.generate])
@given(st.lists(LAYERS, min_size=1, max_size=4), st.booleans(), st.booleans(), st.integers(0, 1000))
def test_random_chains(layers: list[Any], standard: bool, positive: bool, seed: int) -> None:
    """Activations of both kinds, biases, masks of trained parameters, both parametrisations."""
    width = {"width": 40} if standard else {}
    ops: list[Any] = [{"op": "dense", "w_std": 1.1, **width}]
    for fn, w_std, b_std, trained in layers:
        ops.append({"op": "activation", "fn": fn})
        ops.append({"op": "dense", "w_std": w_std, "b_std": b_std, "trained": trained, **width})
    ops[-1].pop("width", None)
    kind = "standard" if standard else "ntk"
    kernel = compile_kernel({"layers": ops, "parameterization": kind})
    assume(takes_series(kernel.spec, "float32"))
    assert_as_in_double(kernel, rows(16, seed=seed, positive=positive, unit=False))


def test_rows_out_of_reach_take_the_traced_recursion() -> None:
    kernel = compile_kernel({"preset": "fc", "depth": 2, "activation": "erf", "w_std": 60.0})
    x = rows(20, seed=2, positive=False, unit=False)
    assert pairs_of(kernel, x) is None
    assert_as_in_double(kernel, x)


def test_the_float32_product_serves_where_kernels_do_not_magnify_its_error() -> None:
    """Images around their mean; not for rows that are nearly orthogonal, nor deep in chaos."""
    rng = np.random.default_rng(3)
    bright = (rng.random((64, 784)) + 0.5).astype(np.float32)
    normal = rng.standard_normal((64, 784)).astype(np.float32)

    def gain(spec: dict[str, Any], x: NDArray[np.float32]) -> float:
        kernel = compile_kernel(spec)
        pairs, panel = pairs_of(kernel, x), kernel.panel(x, block_rows=64).panel
        assert pairs is not None
        with jax.enable_x64(True):
            return pairs.gain(np.asarray(input_correlation(panel, panel, symmetric=True)))

    shallow = {"preset": "fc", "depth": 2, "activation": "tanh"}
    assert gain(shallow, bright) <= LARGEST_GAIN
    assert gain(shallow, normal) > LARGEST_GAIN
    assert gain({**shallow, "depth": 12, "w_std": 2.5}, bright) > LARGEST_GAIN
    assert_as_in_double(compile_kernel(shallow), bright)


SPARSE = {"preset": "fc", "depth": 3, "normalize": "unit"}


@pytest.mark.parametrize("activation", ["erf", "gelu", "tanh"])
def test_rows_without_negative_entries_take_the_product_in_pieces(
    activation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images with few common pixels: kernels of odd activations are as small as rho."""
    rng = np.random.default_rng(6)
    x = (rng.random((64, 784)) * (rng.random((64, 784)) < 0.15)).astype(np.float32)
    products = []

    def spy(*panels: Any, **options: Any) -> Any:
        products.append(options["product"])
        return input_correlation(*panels, **options)

    monkeypatch.setattr("workers.kernels.compile.input_correlation", spy)
    kernel = compile_kernel(SPARSE | {"activation": activation})
    single = kernel(x)
    assert products == ["pieces"]
    double = kernel(x.astype(np.float64))
    for name, values in single.items():
        np.testing.assert_allclose(values, double[name], rtol=1e-6, atol=0)
    products.clear()
    kernel(x - x.mean())
    assert products == ["double"]


def test_gains_are_those_of_the_kernel() -> None:
    """Of erf, depth 1: arcsin(c rho), proportional to rho near 0."""
    kernel = compile_kernel({**SPARSE, "depth": 1, "activation": "erf"})
    pairs = pairs_of(kernel, rows(20, seed=1, positive=False, unit=True))
    assert pairs is not None
    assert pairs.gain(np.array([0.999])) == pytest.approx(1000, rel=0.1)
    assert 1.0 < pairs.proportional_gain() < 2.0
    assert math.isinf(pairs.gain(np.array([-0.5, 0.5])))


def test_deep_networks_take_blocks_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    x = rows(64, seed=4, positive=False, unit=False)
    kernel = compile_kernel({"preset": "fc", "depth": 4, "activation": "gelu", "b_std": 0.3})
    whole = kernel(x)
    monkeypatch.setattr("workers.kernels.series.stack.SLICE_BYTES", 200_000)
    for name, values in kernel(x).items():
        np.testing.assert_array_equal(values, whole[name])


def test_results_do_not_depend_on_the_other_rows_of_a_block_beyond_rounding() -> None:
    """A few long rows widen the cells of all others, and so change their polynomials."""
    x = rows(64, seed=5, positive=True, unit=False)
    kernel = compile_kernel({"preset": "fc", "depth": 3, "activation": "tanh"})
    alone, long = kernel(x), kernel(np.concatenate([x, 3 * x[:10]]))
    for name, values in alone.items():
        np.testing.assert_allclose(values, long[name][:64, :64], rtol=3e-7, atol=0)
