"""The fused kernel, interpreted on a CPU, against full tensors; and its lowering to Triton."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from support.convolutional import RELU, hard_images, reference
from workers.kernels.duals.base import Dual
from workers.kernels.duals.erf import Erf
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.planes import (
    Activation,
    AveragePool,
    Convolution,
    Network,
    Precision,
    gram_block,
    prepare,
)
from workers.kernels.planes.fused import fused_function, prepare_fused, supports_fused

CONV = Convolution((3, 3), w_std=2**0.5)
LEAKY = Activation(ReluLikeDual(1.0, 0.2))
NETWORKS = {
    "same": Network((3, 4), (CONV, RELU, Convolution((1, 3), b_std=0.2), RELU), 1.4, 0.3),
    "circular": Network((3, 4), (Convolution((1, 3), "CIRCULAR", 1.2, 0.1), LEAKY)),
    "equal layers": Network((5, 4), (CONV, RELU) * 5),
    "negative correlations": Network((4, 3), (CONV, LEAKY) * 3),
    "pool before the readout": Network((4, 4), (CONV, RELU, AveragePool((2, 2)))),
}
# Of the NTK over sqrt of the diagonal: what the compiled core is held to (test_core.py).
TOLERANCES: dict[Precision, float] = {"double": 3e-8, "mixed": 2e-7, "fast": 4e-4}


def relu_network(side: int, layers: int) -> Network:
    return Network((side, side), (CONV, RELU) * layers)


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("same", "mixed"),
        ("circular", "fast"),
        *(
            pytest.param(name, precision, marks=pytest.mark.slow)
            for name in NETWORKS
            for precision in TOLERANCES
        ),
    ],
)
def test_against_full_tensors(name: str, precision: Precision) -> None:
    network = NETWORKS[name]
    assert supports_fused(network)
    images = hard_images((5, 4))[:, : network.pixels[0], : network.pixels[1]]
    expected = reference(network, images)
    prepared = prepare(network, images, precision, core="fused")
    for symmetric in (False, True):
        found = gram_block(network, prepared, prepared, symmetric, precision)
        for output in ("nngp", "ntk"):
            scale = np.sqrt(np.outer(np.diag(expected[output]), np.diag(expected[output])))
            error = np.abs(found[output] - expected[output]) / np.where(scale > 0, scale, 1)
            assert error.max() <= TOLERANCES[precision], (output, symmetric)


def test_images_can_be_pickled_and_taken_in_ranges() -> None:
    """To rounding: interpreted kernels are compiled anew for each number of images."""
    network = relu_network(4, 2)
    images = hard_images((4, 4))
    together = prepare(network, images, "mixed", core="fused")
    whole = gram_block(network, together, together, False, "mixed")
    alone = pickle.loads(pickle.dumps(prepare(network, images[3:5], "mixed", core="fused")))
    part = gram_block(network, alone, together[2:6], False, "mixed")
    for output, values in part.items():
        np.testing.assert_allclose(values, whole[output][3:5, 2:6], rtol=1e-7)


@pytest.mark.parametrize(
    ("network", "precision"),
    [
        (relu_network(32, 11), "mixed"),
        (relu_network(28, 2), "fast"),
        (Network((9, 40), (Convolution((5, 3), "CIRCULAR", 1.2, 0.1), LEAKY) * 2), "double"),
    ],
)
def test_it_is_lowered_to_triton_without_a_gpu(network: Network, precision: Precision) -> None:
    """JAX's own checks of what Triton takes: sizes, dtypes, products, loops."""
    import jax

    assert supports_fused(network)
    images = prepare_fused(network, np.ones((2, *network.pixels, 3)), precision)
    with jax.enable_x64(True):
        traced = fused_function(network, precision).trace(
            np.zeros((4, 2), np.int32), images.arrays, images.arrays
        )
        text = traced.lower(lowering_platforms=("cuda",)).as_text()
    assert "xla.gpu.triton" in text
    assert f"grid_x = {np.prod(network.pixels)} : i32, grid_y = 4 : i32" in text


@pytest.mark.gpu
@pytest.mark.parametrize("precision", TOLERANCES)
def test_on_a_gpu(precision: Precision) -> None:
    """Compiled by Triton, against the CPU."""
    network = relu_network(32, 3)
    images = hard_images((32, 32))
    sides = {core: prepare(network, images, precision, core=core) for core in ("compiled", "fused")}
    expected = gram_block(network, sides["compiled"], sides["compiled"], False, precision)
    found = gram_block(network, sides["fused"], sides["fused"], False, precision)
    for output in ("nngp", "ntk"):
        scale = np.sqrt(np.outer(*[np.diag(expected[output])] * 2))
        error = np.abs(found[output] - expected[output]) / scale
        assert error.max() <= TOLERANCES[precision]


def test_which_networks_are_fused() -> None:
    erf: Dual = Erf(fn="erf").dual()
    pool = AveragePool((2, 2))
    assert supports_fused(relu_network(64, 2))
    for network in (
        Network((4, 4), (CONV, RELU, pool, Convolution((1, 1)), RELU)),
        Network((4, 4), (RELU,)),
        Network((4, 4), (CONV, Activation(erf))),
        Network((2, 4), (CONV, RELU)),  # a filter higher than the image
        relu_network(65, 2),
    ):
        assert not supports_fused(network)
