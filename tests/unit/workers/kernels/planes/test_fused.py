"""The fused kernel, interpreted on a CPU, against the full-tensor reference."""

from __future__ import annotations

import numpy as np
import pytest

from support.convolutional import RELU, hard_images, reference
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.planes import Activation, AveragePool, Convolution, Network, Precision
from workers.kernels.planes.fused import fused_block, supports_fused
from workers.kernels.planes.traced import prepare_traced

CONV = Convolution((3, 3), w_std=2**0.5)
LEAKY = Activation(ReluLikeDual(1.0, 0.2))
NETWORKS = {
    "same": Network((3, 4), (CONV, RELU, Convolution((1, 3), b_std=0.2), RELU), 1.4),
    "circular": Network((3, 4), (Convolution((1, 3), "CIRCULAR", 1.2, 0.1), LEAKY)),
}


@pytest.mark.parametrize(
    ("name", "precision", "tolerance"),
    [("same", "double", 3e-8), pytest.param("circular", "fast", 4e-4, marks=pytest.mark.slow)],
)
def test_against_full_tensors(name: str, precision: Precision, tolerance: float) -> None:
    network = NETWORKS[name]
    assert supports_fused(network)
    images = hard_images(network.pixels)[[0, 2, 5]]
    expected = reference(network, images)
    prepared = prepare_traced(network, images, precision)
    rows, columns = np.divmod(np.arange(9), 3)
    pairs = np.stack([rows, columns], axis=1)
    means = fused_block(network, prepared, prepared, pairs, precision, interpret=True)
    weight = network.readout_w_std**2
    ntk = weight * means.sum(axis=1).reshape(3, 3)
    scale = np.sqrt(np.outer(np.diag(expected["ntk"]), np.diag(expected["ntk"])))
    assert (np.abs(ntk - expected["ntk"]) / scale).max() <= tolerance
    nngp = weight * means[:, 0].reshape(3, 3)
    assert (np.abs(nngp - expected["nngp"]) / scale).max() <= 1e-6


def test_networks_with_pools_are_not_fused() -> None:
    pooled = Network((4, 4), (CONV, RELU, AveragePool((2, 2)), Convolution((1, 1)), RELU))
    assert not supports_fused(pooled)
    assert not supports_fused(Network((4, 4), (RELU,)))
