"""The pure-JAX recursion against the full-tensor reference, and against the compiled core."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from support.convolutional import RELU, hard_images, reference
from workers.kernels.duals.erf import Erf
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.duals.trigonometric import Cos
from workers.kernels.planes import (
    Activation,
    AveragePool,
    Convolution,
    Network,
    Precision,
    gram_block,
    prepare,
)

CONV = Convolution((3, 3), w_std=2**0.5)
RING = Convolution((3, 3), "CIRCULAR", w_std=1.2, b_std=0.1)
LEAKY = Activation(ReluLikeDual(1.0, 0.2))
ERF = Activation(Erf(fn="erf").dual())
COS = Activation(Cos(fn="cos").dual())


def cosine(q: np.ndarray, q2: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    near, far = np.exp(-(q + q2) / 2 + c), np.exp(-(q + q2) / 2 - c)
    return (near + far) / 2, (near - far) / 2


def erf(q: np.ndarray, q2: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    a, b = 1 + 2 * q, 1 + 2 * q2
    angle = np.arcsin(np.clip(2 * c / np.sqrt(a * b), -1, 1))
    return 2 / np.pi * angle, 4 / np.pi / np.sqrt(a * b - 4 * c * c)


CASES = {
    "relu": (Network((6, 5), (CONV, RELU) * 2, 1.4, 0.1), None, 2e-7),
    "leaky relu on a torus, pooled": (
        Network((4, 6), (RING, LEAKY, AveragePool((2, 2)), RING, LEAKY)),
        None,
        3e-7,
    ),
    "erf, pooled": (
        Network((4, 6), (Convolution((3, 1), b_std=0.2), ERF, AveragePool((2, 3)), CONV, ERF)),
        erf,
        1e-9,
    ),
    # phi(0) is not 0: dark pixels and what is outside the image must not be confused.
    "cosine": (Network((3, 4), (CONV, COS) * 2), cosine, 1e-9),
}


@pytest.mark.parametrize("name", CASES)
def test_against_full_tensors(name: str) -> None:
    network, duals, tolerance = CASES[name]
    images = hard_images((6, 6))[:, : network.pixels[0], : network.pixels[1]]
    expected = reference(network, images, duals)
    prepared = prepare(network, images, "mixed", core="traced")
    again = pickle.loads(pickle.dumps(prepared))
    found = gram_block(network, prepared, again, False, "mixed")
    mirrored = gram_block(network, prepared, prepared, True, "mixed")
    for output in ("nngp", "ntk"):
        scale = np.sqrt(np.outer(np.diag(expected[output]), np.diag(expected[output])))
        for values in (found[output], mirrored[output]):
            error = np.abs(values - expected[output]) / np.where(scale > 0, scale, 1)
            assert error.max() <= tolerance, output
        assert (mirrored[output] == mirrored[output].T).all()


@pytest.mark.slow
@pytest.mark.parametrize(("precision", "tolerance"), [("double", 3e-8), ("fast", 2e-5)])
def test_agrees_with_the_compiled_core(precision: Precision, tolerance: float) -> None:
    network = CASES["relu"][0]
    images = hard_images(network.pixels)[:2]
    values = [
        gram_block(network, side, side, True, precision)["ntk"]
        for side in (
            prepare(network, images, precision, core="compiled"),
            prepare(network, images, precision, core="traced"),
        )
    ]
    np.testing.assert_allclose(values[0], values[1], rtol=tolerance)


def test_sides_of_different_cores() -> None:
    network = CASES["relu"][0]
    images = hard_images(network.pixels)[:1]
    compiled = prepare(network, images, "mixed")
    traced = prepare(network, images, "mixed", core="traced")
    with pytest.raises(TypeError, match="different cores"):
        gram_block(network, compiled, traced, False, "mixed")
