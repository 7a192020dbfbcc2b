"""Random small networks in every representation against the plain full-tensor reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from support import full_tensor
from workers.kernels import compile_kernel

SHAPE = (4, 4, 2)
ACTIVATIONS: list[dict[str, Any]] = [
    {"fn": "relu"},
    {"fn": "leaky_relu", "slope": 0.3},
    {"fn": "erf"},
]


@st.composite
def networks(draw: st.DrawFn) -> list[dict[str, Any]]:
    """A conv, then up to two of: conv, pool, residual; all on 4 x 4 pixels."""

    def conv(strides: tuple[int, int] = (1, 1)) -> dict[str, Any]:
        return {
            "op": "conv",
            "filter": [draw(st.integers(1, 3)), draw(st.integers(1, 3))],
            "strides": list(strides),
            "padding": draw(st.sampled_from(["SAME", "CIRCULAR"])),
            "w_std": draw(st.sampled_from([0.7, 1.3])),
            "b_std": draw(st.sampled_from([0.0, 0.4])),
            "fan": draw(st.sampled_from(["filter", "channels"])),
        }

    def activation() -> dict[str, Any]:
        return {"op": "activation", **draw(st.sampled_from(ACTIVATIONS))}

    layers = [conv()]
    match draw(st.sampled_from(["deep", "pool", "strided", "residual"])):
        case "deep":
            layers += [activation(), conv()]
        case "pool":
            kind = draw(st.sampled_from(["avg_pool", "sum_pool"]))
            layers += [activation(), {"op": kind, "window": [2, 2]}, conv()]
        case "strided":
            layers += [activation(), conv((2, draw(st.integers(1, 2))))]
        case _:
            layers += [{"op": "residual", "body": [activation(), conv()], "scale": 0.5}]
    readout = draw(st.sampled_from(["global_avg_pool", "flatten"]))
    return [*layers, activation(), {"op": readout}, {"op": "dense", "w_std": 1.2, "b_std": 0.1}]


def plainly(layers: list[dict[str, Any]], images: NDArray[np.float64]) -> full_tensor.Values:
    """The same network in the reference's words."""
    state: Any = full_tensor.inputs(images)
    for layer in layers:
        state = _step(layer, state)
    assert isinstance(state, full_tensor.Values)
    return state


def _step(layer: dict[str, Any], state: Any) -> Any:
    match layer["op"]:
        case "conv":
            return full_tensor.conv(
                state,
                tuple(layer["filter"]),
                w_std=layer["w_std"],
                b_std=layer["b_std"],
                strides=tuple(layer["strides"]),
                padding=layer["padding"],
                fan=layer["fan"],
            )
        case "activation":
            if layer["fn"] == "erf":
                return full_tensor.erf(state)
            return full_tensor.relu_like(state, 1.0, layer.get("slope", 0.0))
        case "residual":
            body = state
            for inner in layer["body"]:
                body = _step(inner, body)
            return full_tensor.add(state, body, layer["scale"])
        case "avg_pool" | "sum_pool":
            return full_tensor.pool(state, tuple(layer["window"]), mean=layer["op"] == "avg_pool")
        case "global_avg_pool":
            return full_tensor.global_avg_pool(state)
        case "flatten":
            return full_tensor.flatten(state)
        case _:
            return full_tensor.dense(state, w_std=layer["w_std"], b_std=layer["b_std"])


@settings(max_examples=3, deadline=None)
@given(layers=networks(), seed=st.integers(0, 100))
def test_every_representation_is_the_plain_tensor(layers: list[dict[str, Any]], seed: int) -> None:
    _compare(layers, seed)


def _compare(layers: list[dict[str, Any]], seed: int) -> None:
    """The reference's arc cosine is good to 1e-8 where rho = 1."""
    images = np.random.default_rng(seed).standard_normal((2, *SHAPE))
    images[1, 1] = images[0, 1]  # some pixels of two images are equal
    expected = plainly(layers, images)
    found = compile_kernel({"layers": layers})(images)
    for name in ("nngp", "ntk"):
        value = getattr(expected, name)
        np.testing.assert_allclose(found[name], value, atol=3e-8 * np.abs(value).max(), rtol=0)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(layers=networks(), seed=st.integers(0, 100))
def test_many_more_networks(layers: list[dict[str, Any]], seed: int) -> None:
    _compare(layers, seed)


def test_circular_networks_do_not_see_shifts() -> None:
    conv = {"op": "conv", "filter": [3, 2], "padding": "CIRCULAR", "b_std": 0.1}
    relu = {"op": "activation", "fn": "relu"}
    body = [conv, relu, conv, relu]
    x = np.random.default_rng(0).standard_normal((2, *SHAPE))
    for readout in ("global_avg_pool", "flatten"):
        kernel = compile_kernel({"layers": [*body, {"op": readout}, {"op": "dense"}]})
        shifted = np.roll(x, (1, 3), (1, 2))
        np.testing.assert_allclose(kernel(shifted)["ntk"], kernel(x)["ntk"], rtol=1e-9)
        if readout == "global_avg_pool":  # each side may shift on its own
            np.testing.assert_allclose(kernel(shifted, x)["ntk"], kernel(x)["ntk"], rtol=1e-8)


def test_one_pixel_is_a_dense_network() -> None:
    x = np.random.default_rng(0).standard_normal((5, 1, 1, 7))
    relu = {"op": "activation", "fn": "relu"}
    conv = {"op": "conv", "filter": [1, 1], "w_std": 1.3, "b_std": 0.2}
    dense = {"op": "dense", "w_std": 1.3, "b_std": 0.2}
    expected = compile_kernel({"layers": [dense, relu, dense, relu, dense]})(x.reshape(5, 7))
    found = compile_kernel({"layers": [conv, relu, conv, relu, {"op": "flatten"}, dense]})(x)
    for name in ("nngp", "ntk"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


def test_blocks_do_not_change_a_bit() -> None:
    """Tile and block size independence: the same bits, diagonal and planes alike."""
    x = np.random.default_rng(0).standard_normal((5, *SHAPE)).astype(np.float32)
    for readout in ("gap", "flatten"):
        kernel = compile_kernel({"preset": "cntk", "depth": 2, "readout": readout})
        whole, parts = kernel(x), kernel(x, block_rows=2)
        for name in ("nngp", "ntk"):
            np.testing.assert_array_equal(parts[name], whole[name])
