"""Piecewise linear activations with one kink at 0: phi(x) = a x for x > 0, b x for x <= 0.

With e = (a^2 + b^2)/2 and gamma = 2ab/(a^2 + b^2), unit variances, and the arc-cosine kernels
kappa0, kappa1 of Cho & Saul 2009 (Kernel Methods for Deep Learning, eqs. 3-6):

    E/e    = kappa1(rho) - gamma kappa1(-rho)        (kappa1(rho) - kappa1(-rho) = rho)
    Edot/e = kappa0(rho) + gamma kappa0(-rho)        (kappa0(rho) + kappa0(-rho) = 1)

Everything is written in w = 1 - |rho| with kappa1(rho) = max(rho, 0) + g(w), g(w) = w sqrt(w) R(w)
and kappa0(-|rho|) = sqrt(w) P(w)/pi, so that no step subtracts nearly equal numbers: neither
near rho = 1 (where kappa0 has infinite slope) nor near rho = -1 (where E vanishes as w^1.5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from workers.kernels.duals.arc_cosine import arc_cosine_pair
from workers.kernels.duals.base import (
    ActivationModel,
    Correlation,
    Degree,
    Dual,
    DualPair,
)

if TYPE_CHECKING:
    import jax

_SOURCE = "Cho & Saul 2009, eqs. 3-6; Hayou et al. 2019, definition 1"


class Relu(ActivationModel):
    """max(0, x)."""

    summary: ClassVar[str] = "max(0, x)"
    source: ClassVar[str] = _SOURCE

    fn: Literal["relu"]

    def dual(self) -> Dual:
        return ReluLikeDual(1.0, 0.0)


class LeakyRelu(ActivationModel):
    """x for x > 0, slope * x otherwise."""

    summary: ClassVar[str] = "x for x > 0, slope*x otherwise"
    source: ClassVar[str] = _SOURCE

    fn: Literal["leaky_relu"]
    slope: float = Field(default=0.01, strict=True, description="Slope for x <= 0.")

    def dual(self) -> Dual:
        return ReluLikeDual(1.0, self.slope)


class ReluLike(ActivationModel):
    """positive_slope * x for x > 0, negative_slope * x otherwise."""

    summary: ClassVar[str] = "positive_slope*x for x > 0, negative_slope*x otherwise"
    source: ClassVar[str] = _SOURCE

    fn: Literal["relu_like"]
    positive_slope: float = Field(strict=True)
    negative_slope: float = Field(strict=True)

    @model_validator(mode="after")
    def _not_zero(self) -> ReluLike:
        if self.positive_slope == 0 and self.negative_slope == 0:
            raise ValueError("both slopes are 0, so the activation is 0; make one of them non-zero")
        return self

    def dual(self) -> Dual:
        return ReluLikeDual(self.positive_slope, self.negative_slope)


class Abs(ActivationModel):
    """|x|."""

    summary: ClassVar[str] = "|x|"
    source: ClassVar[str] = _SOURCE

    fn: Literal["abs"]

    def dual(self) -> Dual:
        return ReluLikeDual(1.0, -1.0)


class Linear(ActivationModel):
    """x (the identity): deep linear networks."""

    summary: ClassVar[str] = "x (deep linear networks)"
    source: ClassVar[str] = "E = c, Edot = 1"

    fn: Literal["linear"]

    def dual(self) -> Dual:
        return ReluLikeDual(1.0, 1.0)


@dataclass(frozen=True)
class ReluLikeDual:
    """Dual kernels of slopes (positive, negative); not both 0."""

    positive: float
    negative: float
    float32_pairs: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True

    @property
    def gain(self) -> float:
        """E[phi(z)^2] for z ~ N(0, 1), computed without overflow: returned as a square root."""
        return math.hypot(self.positive, self.negative) / math.sqrt(2)

    @property
    def gamma(self) -> float:
        """2ab/(a^2 + b^2) in [-1, 1]: 0 for ReLU, 1 for linear, -1 for |x|."""
        norm = math.hypot(self.positive, self.negative)
        return 2 * (self.positive / norm) * (self.negative / norm)

    @property
    def linear(self) -> bool:
        return self.positive == self.negative

    @property
    def flops_per_pair(self) -> float:
        if self.linear:
            return 0.0
        return 34.0 if self.gamma <= 0 else 46.0

    def deviation(self, s: jax.Array) -> jax.Array:
        return s * self.gain

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        return jnp.ones_like(s)

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        import jax.numpy as jnp

        if self.linear:
            return DualPair(pairs, None)
        gamma = self.gamma
        w = pairs.w
        acute, g = arc_cosine_pair(w, degree)  # kappa0(-|rho|), kappa1(-|rho|)
        if pairs.sign > 0:
            derivative = 1 - (1 - gamma) * acute
            return DualPair(Correlation(w - (1 - gamma) * g, None, 1), derivative)
        rho = pairs.signed()
        positive = rho >= 0
        derivative = jnp.where(positive, 1 - (1 - gamma) * acute, gamma + (1 - gamma) * acute)
        w_positive = w - (1 - gamma) * g
        rho_negative = (1 - gamma) * g - gamma * (1 - w)
        if gamma <= 0:  # E >= 0 for every pair
            w_new = jnp.where(positive, w_positive, 1 - rho_negative)
            return DualPair(Correlation(w_new, None, 1), derivative)
        # Where rho < 0 and E < 0: 1 + E/e = (1-gamma)(1+g) + gamma w, a sum of positive terms.
        w_negative = jnp.where(
            rho_negative >= 0, 1 - rho_negative, (1 - gamma) * (1 + g) + gamma * w
        )
        return DualPair(
            Correlation(
                jnp.where(positive, w_positive, w_negative),
                jnp.where(positive, 1 - w_positive, rho_negative),
                0,
            ),
            derivative,
        )
