"""What the offset-plane cores can run: a stride-1 convolutional network as plain data. No JAX.

Images have shape (P, Q, C). K at the input is <x_s, x'_s'>/C, the mean over the channels. A
convolution maps K[s, s'] to w_std^2 mean_r K[s + r, s' + r] + b_std^2, the mean over the |filter|
offsets r of the window (terms outside the image are 0, or wrap around), and the NTK to the new K
plus w_std^2 mean_r NTK[s + r, s' + r]. The readout is the mean over all pairs of pixels and a
dense layer, which is part of the NTK. (Novak et al. 2019, arXiv:1810.05148; Arora et al. 2019,
arXiv:1904.11955.)

A network whose last pool leaves one pixel is the same network with that pool left out: the mean
over all pixel pairs is the mean of the means.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from workers.kernels.duals.base import Dual
from workers.kernels.duals.relu_like import ReluLikeDual

Padding = Literal["SAME", "CIRCULAR"]
"""What a filter reads outside the image: zeros, or the opposite side."""

Precision = Literal["mixed", "fast", "double"]
"""`mixed`: within 1e-6 of float64 for every kind of image. `fast`: float32, within 4e-4, and worst
where many patches of the two images are equal. `double`: float64 throughout."""


@dataclass(frozen=True)
class Convolution:
    """A convolution of stride 1 with an odd rectangular filter (rows, columns)."""

    filter: tuple[int, int]
    padding: Padding = "SAME"
    w_std: float = 1.0
    b_std: float = 0.0


@dataclass(frozen=True)
class Activation:
    """A pointwise nonlinearity, by its dual kernels."""

    dual: Dual


@dataclass(frozen=True)
class AveragePool:
    """Mean over windows (rows, columns) that tile the image exactly; stride = window."""

    window: tuple[int, int]


Stage = Convolution | Activation | AveragePool


@dataclass(frozen=True)
class Network:
    """`stages` on images of `pixels` (P, Q), then the mean over pixel pairs, then a dense layer.

    The stages are blocks of a convolution followed by its activation, with pools between blocks.
    """

    pixels: tuple[int, int]
    stages: tuple[Stage, ...]
    readout_w_std: float = 1.0
    readout_b_std: float = 0.0

    @property
    def layers(self) -> int:
        """How many activations there are."""
        return sum(isinstance(stage, Activation) for stage in self.stages)


def unsupported(network: Network) -> str | None:
    """Why the cores cannot run this network, in one sentence; None if they can."""
    rows, columns = network.pixels
    if not network.stages or not isinstance(network.stages[0], Convolution):
        return "The first stage must be a convolution."
    for position, stage in enumerate(network.stages):
        follower = network.stages[position + 1] if position + 1 < len(network.stages) else None
        if isinstance(stage, Convolution):
            if not isinstance(follower, Activation):
                return "Every convolution must be followed by an activation."
            if any(size < 1 or size % 2 == 0 for size in stage.filter):
                return "Filters must have odd sides."
            half = (stage.filter[0] // 2, stage.filter[1] // 2)
            if half[0] >= rows or half[1] >= columns:
                return "Half of a filter must be smaller than the image it is applied to."
            if not stage.w_std > 0:
                return "Convolutions need w_std > 0."
        elif isinstance(follower, Activation):
            return "An activation must follow a convolution."
        elif isinstance(stage, AveragePool):
            if rows % stage.window[0] or columns % stage.window[1]:
                return "Pooling windows must tile the image exactly."
            rows, columns = rows // stage.window[0], columns // stage.window[1]
        elif not stage.dual.differentiable:
            return "An activation that jumps has no NTK."
    paddings = {stage.padding for stage in network.stages if isinstance(stage, Convolution)}
    if len(paddings) > 1:
        return "All convolutions must have the same padding."
    return None


def supports(network: Network) -> bool:
    """Whether `gram_block` can run this network."""
    return unsupported(network) is None


def piecewise_linear(network: Network) -> bool:
    """Whether all activations have two slopes, so that the compiled core can run the network."""
    return all(
        isinstance(stage.dual, ReluLikeDual)
        for stage in network.stages
        if isinstance(stage, Activation)
    )


@dataclass(frozen=True)
class EquilibriumNetwork:
    """A convolutional equilibrium network with its readout (fixed_point.py).

    Activation: ReLU with E[phi(z)^2] = 1. `filter` has odd sides; zero padding. `normalization`:
    whether S divides after the convolution or before it. `readout`: the sum over equal pixels or
    the mean over all pairs.
    """

    pixels: tuple[int, int]
    filter: tuple[int, int]
    w_var: float
    u_var: float
    normalization: Literal["post", "pre"] = "post"
    readout: Literal["trace", "gap"] = "trace"
