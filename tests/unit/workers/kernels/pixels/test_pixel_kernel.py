"""Kernels of pixel pairs against the oracle and full tensors, in strips and as whole tensors."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from support import full_tensor as naive
from support.oracle import oracle
from workers.kernels import parse_kernel
from workers.kernels.errors import InvalidInputsError, InvalidKernelError, KernelRangeError
from workers.kernels.pixels import PixelKernel, pixel_plan
from workers.kernels.pixels import plan as planning

ROOT_TWO = 2**0.5
RELU = {"op": "activation", "fn": "relu"}


def conv(*sides: int, **options: Any) -> dict[str, Any]:
    return {"op": "conv", "filter": list(sides or (3, 3)), **options}


def kernel(*layers: dict[str, Any]) -> PixelKernel:
    return PixelKernel(parse_kernel({"layers": list(layers)}))


@pytest.fixture
def low_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strips of two or three rows, so that small images have several."""
    monkeypatch.setattr(planning, "SMALL_BLOCK_PIXELS", 16)
    monkeypatch.setattr(planning, "HALOS_PER_STRIP", 0)


def test_inpainting_kernel_of_the_oracle() -> None:
    expected = oracle("completion")["K_inpaint"]
    image = oracle("inputs")["I2"][0].transpose(1, 2, 0)
    ring = conv(padding="CIRCULAR", w_std=ROOT_TWO)
    found = kernel(ring, RELU, ring)(image)["ntk"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=3e-9 * np.abs(expected).max())


@pytest.mark.parametrize("pair", [(0, 0), (0, 1), (2, 1)])
def test_pixel_tensors_of_the_oracle(pair: tuple[int, int]) -> None:
    values = oracle("cnn2d")
    images = oracle("inputs")["I2"].transpose(0, 2, 3, 1)
    layer = conv(w_std=ROOT_TWO)
    first, second = pair
    right = None if first == second else images[second]
    found = kernel(layer, RELU, layer)(images[first], right)
    for name, key in (("nngp", "K"), ("ntk", "T")):
        expected = values[f"2d|preact_layer2|{key}"][first, second]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=3e-9 * scale)


NETWORKS: dict[str, tuple[list[dict[str, Any]], Any]] = {
    "bias, rectangles": (
        [conv(5, 3, w_std=1.3, b_std=0.1), RELU, conv(1, 3), RELU, conv(1, 1), conv()],
        lambda s, c: c(c(r(c(r(c(s, 5, 3, 1.3, 0.1)), 1, 3)), 1, 1), 3, 3),
    ),
    "absolute value": (
        [conv(w_std=1.3), {"op": "activation", "fn": "abs"}, conv(3, 1), RELU, conv(1, 1)],
        lambda s, c: c(r(c(naive.relu_like(c(s, 3, 3, 1.3), 1, -1), 3, 1)), 1, 1),
    ),
}


def r(state: naive.State) -> naive.State:
    return naive.relu_like(state)


@pytest.mark.usefixtures("low_strips")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("padding", ["SAME", "CIRCULAR", "VALID"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_strips_against_full_tensors(name: str, padding: str, dtype: str) -> None:
    layers, build = NETWORKS[name]
    layers = [{**x, "padding": padding} if x["op"] == "conv" else x for x in layers]
    images = np.random.default_rng(3).standard_normal((2, 17, 9, 2)).astype(dtype)
    images[1, 4:8] = images[0, 4:8]  # equal patches, at equal places
    images[0, :3, :3] = 0

    def affine(
        state: naive.State, up: int, across: int, w_std: float = 1.0, b_std: float = 0.0
    ) -> naive.State:
        return naive.conv(state, (up, across), w_std=w_std, b_std=b_std, padding=padding)

    expected = build(naive.inputs(images), affine)
    network = kernel(*layers)
    plan = pixel_plan(network.spec, images.shape[1:], np.dtype(dtype).name)
    assert (plan.representation, plan.strips > 2) == ("planes", True)
    symmetric, cross = network(images[0]), network(images[0], images[1])
    for output in ("nngp", "ntk"):
        reference = getattr(expected, output)
        tolerance = {"float32": 3e-7, "float64": 2e-8}[dtype] * np.abs(reference).max()
        np.testing.assert_allclose(symmetric[output], reference[0, 0], rtol=0, atol=tolerance)
        np.testing.assert_allclose(cross[output], reference[0, 1], rtol=0, atol=tolerance)
        square = symmetric[output].reshape(plan.pixels, plan.pixels)
        np.testing.assert_array_equal(square, square.T)
        assert symmetric[output].dtype == dtype


def test_the_height_of_the_strips_changes_rounding_only(monkeypatch: pytest.MonkeyPatch) -> None:
    network = kernel(conv(w_std=ROOT_TWO, b_std=0.2), RELU, conv(), RELU, conv())
    image = np.random.default_rng(4).random((13, 6, 3))
    found = []
    for edge, rows in ((12, 2), (24, 4), (1000, 13)):
        monkeypatch.setattr(planning, "SMALL_BLOCK_PIXELS", edge)
        monkeypatch.setattr(planning, "HALOS_PER_STRIP", 0)
        assert pixel_plan(network.spec, image.shape, "float64").strip_rows == rows
        found.append(network(image))
    for other in found[1:]:
        for output in ("nngp", "ntk"):
            np.testing.assert_allclose(other[output], found[0][output], rtol=1e-7)


@pytest.mark.usefixtures("low_strips")
def test_white_images_on_a_torus_have_a_shift_invariant_kernel() -> None:
    """theory: invariance needs <Z_s, Z_s'> to be invariant, e.g. white; verified exact for I."""
    rows, columns = 6, 5
    white = np.eye(rows * columns).reshape(rows, columns, -1)
    ring = conv(padding="CIRCULAR", w_std=ROOT_TWO)
    network = kernel(ring, RELU, ring, RELU, ring)
    found = network(white)["ntk"]
    rolled = np.roll(found, (2, 1, 2, 1), axis=(0, 1, 2, 3))
    np.testing.assert_allclose(rolled, found, rtol=1e-7)
    image = np.random.default_rng(0).random((rows, columns, 3))
    other = network(image)["ntk"]
    assert np.abs(np.roll(other, (2, 1, 2, 1), axis=(0, 1, 2, 3)) - other).max() > 1e-3


def test_other_networks_take_the_whole_tensor() -> None:
    """Strides, a pool and a residual block: no offset planes."""
    spec = [
        conv(strides=[2, 1], w_std=1.2),
        RELU,
        {"op": "residual", "body": [conv(w_std=0.7), RELU, conv(1, 1)], "shortcut": [conv(1, 1)]},
        {"op": "avg_pool", "window": [1, 2]},
        conv(1, 1, b_std=0.3),
    ]
    images = np.random.default_rng(5).standard_normal((2, 6, 4, 2))
    state = naive.relu_like(naive.conv(naive.inputs(images), (3, 3), w_std=1.2, strides=(2, 1)))
    body = naive.conv(naive.relu_like(naive.conv(state, (3, 3), w_std=0.7)), (1, 1))
    state = naive.pool(naive.add(naive.conv(state, (1, 1)), body), (1, 2))
    expected = naive.conv(state, (1, 1), b_std=0.3)
    network = kernel(*spec)
    plan = pixel_plan(network.spec, (6, 4, 2), "float64")
    assert (plan.representation, plan.out, plan.strips) == ("tensor", (3, 2), 1)
    found = network(images[0], images[1])
    own = network(images[0])
    for output in ("nngp", "ntk"):
        reference = getattr(expected, output)
        np.testing.assert_allclose(found[output], reference[0, 1], rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(own[output], reference[0, 0], rtol=1e-7, atol=1e-9)
        square = own[output].reshape(6, 6)
        np.testing.assert_array_equal(square, square.T)


def test_sequences() -> None:
    x = np.random.default_rng(6).standard_normal((9, 2))
    found = kernel(conv(3, w_std=1.1), RELU, conv(3))(x)["ntk"]
    state = naive.inputs(x[None, :, None])
    state = naive.conv(naive.relu_like(naive.conv(state, (3, 1), w_std=1.1)), (3, 1))
    assert found.shape == (9, 1, 9, 1)
    np.testing.assert_allclose(found, state.ntk[0, 0], rtol=0, atol=1e-8)


def test_what_cannot_be_computed_is_said() -> None:
    image = np.ones((5, 4, 3), np.float32)
    with pytest.raises(InvalidKernelError, match="readout"):
        kernel(conv(), RELU, {"op": "flatten"}, {"op": "dense"})(image)
    with pytest.raises(InvalidKernelError, match="NTK"):
        kernel(conv(), {"op": "activation", "fn": "sign"}, conv())(image)
    network = kernel(conv(), RELU, conv())
    with pytest.raises(InvalidInputsError, match="images"):
        network(np.ones((5, 4), np.float32))
    with pytest.raises(InvalidInputsError, match="NaN"):
        network(np.full((5, 4, 3), np.nan))
    with pytest.raises(InvalidInputsError, match="int64"):
        network(np.ones((5, 4, 3), np.int64))
    with pytest.raises(InvalidInputsError, match="one shape"):
        network(image, image[:4])
    with pytest.raises(KernelRangeError):
        kernel(conv(w_std=1e15), RELU, conv(w_std=1e15))(image)
    assert pickle.loads(pickle.dumps(network)).spec == network.spec
