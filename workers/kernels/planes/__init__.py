"""Fast cores of convolutional kernels: the recursion on planes of equal pixel offset."""

from workers.kernels.planes.block import gram_block, prepare
from workers.kernels.planes.network import (
    Activation,
    AveragePool,
    Convolution,
    Network,
    Precision,
    supports,
    unsupported,
)
from workers.kernels.planes.prepare import PreparedImages

__all__ = [
    "Activation",
    "AveragePool",
    "Convolution",
    "Network",
    "Precision",
    "PreparedImages",
    "gram_block",
    "prepare",
    "supports",
    "unsupported",
]
