"""Which networks the compiled plane core (workers/kernels/planes) runs, and running it. No JAX."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.kernels.duals.base import ActivationModel
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.layers import Dense
from workers.kernels.planes.network import (
    Activation,
    AveragePool,
    Convolution,
    EquilibriumNetwork,
    Network,
    Precision,
    Stage,
    supports,
)
from workers.kernels.spatial.geometry import Shape, sides
from workers.kernels.spatial.layers import AvgPool, Conv, ConvEquilibrium, GlobalAvgPool

if TYPE_CHECKING:
    from numpy.typing import NDArray


def core_network(
    shape: Shape, trunk: tuple[Any, ...], readout: Any, head: tuple[Any, ...]
) -> Network | EquilibriumNetwork | None:
    """The network as the compiled core takes it; None if it cannot run it.

    It runs stride-1 convolutions with two-slope activations, average pools between them, a global
    average pool and one dense layer, all of it trained; and convolutional equilibrium networks.
    """
    if isinstance(readout, ConvEquilibrium):
        return EquilibriumNetwork(
            shape,
            sides(readout.filter),
            readout.w_var,
            readout.u_var,
            readout.normalization,
            readout.readout,
        )
    if not isinstance(readout, GlobalAvgPool) or len(head) != 1:
        return None
    dense = head[0]
    if not isinstance(dense, Dense) or dense.trained != "all":
        return None
    stages = [_stage(layer) for layer in trunk]
    found = tuple(stage for stage in stages if stage is not None)
    if len(found) < len(stages):
        return None
    network = Network(shape, found, readout_w_std=dense.w_std, readout_b_std=dense.b_std)
    return network if supports(network) else None


def _stage(layer: Any) -> Stage | None:
    if isinstance(layer, ActivationModel):
        dual = layer.dual()
        return Activation(dual) if isinstance(dual, ReluLikeDual) else None
    if isinstance(layer, AvgPool):
        return AveragePool(sides(layer.window))
    if not isinstance(layer, Conv) or set(layer.strides) != {1} or layer.padding == "VALID":
        return None
    # The core's mean over the filter: fan `channels` is that of weights sqrt(|filter|) larger.
    w_std = math.sqrt(layer.gain * math.prod(layer.filter))
    return Convolution(sides(layer.filter), layer.padding, w_std, layer.b_std)


def core_precision(dtype: str) -> Precision:
    """Precision of the core for results of `dtype`."""
    return "double" if dtype == "float64" else "mixed"


def normalized_images(x: NDArray[Any], kind: str) -> NDArray[np.float64]:
    """Images (n, P, Q, C) in float64, scaled to unit norm as a whole or per pixel."""
    x = x.astype(np.float64)
    if kind == "none":
        return x
    axes = (3,) if kind == "unit_pixel" else (1, 2, 3)
    largest = np.max(np.abs(x), axis=axes, keepdims=True)
    scaled = x / np.where(largest > 0, largest, 1)
    norm = np.sqrt(np.sum(scaled * scaled, axis=axes, keepdims=True))
    return np.asarray(scaled / np.where(norm > 0, norm, 1))
