"""Tangent kernels of actual random ReLU networks of finite width, to hold against the limit."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_Weights = NDArray[np.float32]


def empirical_ntk(x: Floats, *, affine_layers: int, width: int, b_std: float, seed: int) -> Floats:
    """<df(x_0)/dtheta, df(x_i)/dtheta>, (m,), for rows `x` (m, d) of which the first is x_0.

    The network of Jacot et al. 2018: a = W h/sqrt(fan_in) + b_std b with standard normal W and b,
    `affine_layers` of them, ReLU between, one output. float32 arithmetic; the weights of one
    layer at a time are in memory (4 width^2 bytes) and drawn again for the way back.
    """
    sizes = [x.shape[1], *[width] * (affine_layers - 1), 1]
    inputs: list[_Weights] = [x.astype(np.float32)]  # h of each affine layer
    slopes: list[NDArray[np.bool_]] = []
    for layer in range(affine_layers - 1):
        weights = _weights(seed, layer, sizes)
        bias = _generator(seed, layer, "bias").standard_normal(sizes[layer + 1], np.float32)
        a = inputs[-1] @ weights / np.float32(math.sqrt(sizes[layer])) + np.float32(b_std) * bias
        slopes.append(a > 0)
        inputs.append(np.maximum(a, 0))
    kernel = np.zeros(len(x))
    delta: _Weights = np.ones((len(x), 1), np.float32)  # df/da of the layer above
    for layer in reversed(range(affine_layers)):
        h = inputs[layer]
        within = (h @ h[0]).astype(np.float64) / sizes[layer] + b_std**2
        kernel += within * (delta @ delta[0]).astype(np.float64)
        if layer > 0:
            weights = _weights(seed, layer, sizes)
            delta = (delta @ weights.T) * slopes[layer - 1] / np.float32(math.sqrt(sizes[layer]))
    return kernel


def _weights(seed: int, layer: int, sizes: list[int]) -> _Weights:
    shape = (sizes[layer], sizes[layer + 1])
    return _generator(seed, layer, "weights").standard_normal(shape, np.float32)


def _generator(seed: int, layer: int, kind: str) -> np.random.Generator:
    return np.random.default_rng([seed, layer, 0 if kind == "weights" else 1])
