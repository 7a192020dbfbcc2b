"""From a validated spec to the sequence of maps that a kernel evaluates. No JAX.

A dense network is one input affine map and then (activation, affine) layers. Consecutive layers
that differ only in numbers are folded into one segment, which is compiled once and looped over:
a network of depth 100 compiles as fast as one of depth 3.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from workers.kernels.duals.base import ActivationModel, Dual
from workers.kernels.duals.relu_like import ReluLikeDual
from workers.kernels.errors import InvalidKernelError
from workers.kernels.layers import Dense, Residual
from workers.kernels.spec import KernelSpec

IDENTITY = ReluLikeDual(1.0, 1.0)
"""What stands between two dense layers that follow each other."""


@dataclass(frozen=True)
class Affine:
    """K -> w_std^2 K + b_std^2, and how much its parameters count in the NTK.

    NTK -> weight_scale * w_std^2 K + bias_scale * b_std^2 + w_std^2 Edot NTK. Both scales are 1
    in the NTK parametrisation, and 0 for parameters that are not trained.
    """

    w_std: float
    b_std: float
    weight_scale: float = 1.0
    bias_scale: float = 1.0

    @property
    def biased(self) -> bool:
        return self.b_std > 0

    @property
    def scaled(self) -> bool:
        return self.weight_scale != 1 or (self.biased and self.bias_scale != 1)


@dataclass(frozen=True)
class Segment:
    """Consecutive (activation, affine) layers with one dual and one structure."""

    dual: Dual
    affines: tuple[Affine, ...]

    @property
    def biased(self) -> bool:
        return self.affines[0].biased

    @property
    def scaled(self) -> bool:
        return any(affine.scaled for affine in self.affines)


@dataclass(frozen=True)
class Program:
    """A dense network as maps on kernels of `features`-dimensional inputs."""

    normalize: bool
    first: Affine
    segments: tuple[Segment, ...]

    @property
    def float32_pairs(self) -> bool:
        """Whether pairs keep their digits in float32."""
        return all(segment.dual.float32_pairs for segment in self.segments)


def build_program(spec: KernelSpec, features: int) -> Program:
    """The maps that `spec` describes for inputs of `features` numbers.

    Raises InvalidKernelError for a network with residual blocks.
    """
    if any(isinstance(layer, Residual) for layer in spec.layers):
        raise InvalidKernelError(
            "This version reads networks with residual blocks but does not evaluate dense ones.",
            advice="Write the network without residual blocks.",
        )
    fan_in = features
    affines: list[Affine] = []
    duals: list[Dual] = []
    previous: Dense | ActivationModel | None = None
    for layer in spec.layers:
        if isinstance(layer, ActivationModel):
            duals.append(layer.dual())
        elif isinstance(layer, Dense):
            if isinstance(previous, Dense):
                duals.append(IDENTITY)
            affines.append(_affine(layer, fan_in, standard=spec.parameterization == "standard"))
            fan_in = layer.width or fan_in
        else:
            continue
        previous = layer
    first, *rest = affines
    grouped = itertools.groupby(
        zip(duals, rest, strict=True), key=lambda unit: (unit[0], unit[1].biased)
    )
    return Program(
        normalize=spec.normalized_inputs,
        first=first,
        segments=tuple(
            Segment(dual, tuple(affine for _, affine in units)) for (dual, _), units in grouped
        ),
    )


def _affine(layer: Dense, fan_in: int, *, standard: bool) -> Affine:
    weight = fan_in / layer.w_std**2 if standard else 1.0
    bias = 1 / layer.b_std**2 if standard and layer.b_std > 0 else 1.0
    return Affine(
        layer.w_std,
        layer.b_std,
        weight_scale=weight if layer.trains_weights else 0.0,
        bias_scale=bias if layer.trains_biases else 0.0,
    )
