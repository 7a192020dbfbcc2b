"""Fast cores of convolutional kernels: the recursion on planes of equal pixel offset."""

from workers.kernels.planes.block import gram_block, prepare
from workers.kernels.planes.equilibrium import EquilibriumImages
from workers.kernels.planes.fused import FusedImages
from workers.kernels.planes.network import (
    Activation,
    AveragePool,
    Convolution,
    EquilibriumNetwork,
    Network,
    Precision,
    piecewise_linear,
    supports,
    unsupported,
)
from workers.kernels.planes.paths import Core
from workers.kernels.planes.prepare import PreparedImages
from workers.kernels.planes.traced import TracedImages

__all__ = [
    "Activation",
    "AveragePool",
    "Convolution",
    "Core",
    "EquilibriumImages",
    "EquilibriumNetwork",
    "FusedImages",
    "Network",
    "Precision",
    "PreparedImages",
    "TracedImages",
    "gram_block",
    "piecewise_linear",
    "prepare",
    "supports",
    "unsupported",
]
