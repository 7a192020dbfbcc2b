"""Small convolutional networks and images for the tests of the plane cores."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from support import full_tensor as naive
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.planes import Activation, AveragePool, Convolution, Network

RELU = Activation(ReluLikeDual(1.0, 0.0))


def reference(network: Network, images: NDArray[Any], duals: Any = None) -> dict[str, Any]:
    """NNGP and NTK of all pairs by full tensors, (n, n) float64; images (n, P, Q, C).

    `duals` gives E and Edot of the activations that are not piecewise linear.
    """
    state = naive.inputs(images, np.longdouble)
    for stage in network.stages:
        if isinstance(stage, Convolution):
            state = naive.conv(
                state, stage.filter, w_std=stage.w_std, b_std=stage.b_std, padding=stage.padding
            )
        elif isinstance(stage, AveragePool):
            state = naive.pool(state, stage.window)
        elif isinstance(stage.dual, ReluLikeDual):
            state = naive.relu_like(state, stage.dual.positive, stage.dual.negative)
        else:
            state = naive.activation(state, duals)
    values = naive.dense(
        naive.global_avg_pool(state), w_std=network.readout_w_std, b_std=network.readout_b_std
    )
    return {name: values._asdict()[name].astype(float) for name in ("nngp", "ntk")}


def hard_images(pixels: tuple[int, int], channels: int = 3) -> NDArray[np.float64]:
    """(7, P, Q, C): noise, noise of one sign, two constants, a blob on zeros, saturated, equal."""
    rng = np.random.default_rng(7)
    images = np.zeros((7, *pixels, channels))
    images[0] = rng.standard_normal(images[0].shape)
    images[1] = rng.random(images[1].shape)
    images[2] = 1.0
    images[3] = [[0.3] * channels]
    images[4, 1:3, 1:3] = rng.random((2, 2, channels))
    images[5] = rng.random((*pixels, 1)) < 0.6  # black and white pixels
    images[6] = images[5]
    images[6, 0, 0] += 1e-3
    return images
