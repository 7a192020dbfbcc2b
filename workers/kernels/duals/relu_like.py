"""Piecewise linear activations with one kink at 0: phi(x) = a x for x > 0, b x for x <= 0.

With e = (a^2 + b^2)/2 and gamma = 2ab/(a^2 + b^2), unit variances, and the arc-cosine kernels
kappa0, kappa1 of Cho & Saul 2009 (Kernel Methods for Deep Learning, eqs. 3-6):

    E/e    = kappa1(rho) - gamma kappa1(-rho)        (kappa1(rho) - kappa1(-rho) = rho)
    Edot/e = kappa0(rho) + gamma kappa0(-rho)        (kappa0(rho) + kappa0(-rho) = 1)

Everything is written in t = sqrt(1 - |rho|), w = t^2, with kappa1(rho) = max(rho, 0) + g,
g = w t R(w) and kappa0(-|rho|) = t P(w)/pi, so that no step subtracts nearly equal numbers: neither
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
    differentiable: ClassVar[bool] = True
    float32_pairs: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True

    @property
    def gain(self) -> float:
        """sqrt(E[phi(z)^2]) for z ~ N(0, 1)."""
        return math.hypot(self.positive, self.negative) / math.sqrt(2)

    def _relative_slopes(self) -> tuple[float, float, float]:
        """Slopes divided by the larger one, and the sum of their squares: exact for |x| and x."""
        largest = max(abs(self.positive), abs(self.negative))
        a, b = self.positive / largest, self.negative / largest
        return a, b, a * a + b * b

    @property
    def gamma(self) -> float:
        """2ab/(a^2 + b^2) in [-1, 1]: 0 for ReLU, 1 for linear, -1 for |x|."""
        a, b, norm = self._relative_slopes()
        return 2 * a * b / norm

    @property
    def bend(self) -> float:
        """1 - gamma, with relative accuracy."""
        a, b, norm = self._relative_slopes()
        return (a - b) ** 2 / norm

    @property
    def lift(self) -> float:
        """1 + gamma, with relative accuracy."""
        a, b, norm = self._relative_slopes()
        return (a + b) ** 2 / norm

    @property
    def linear(self) -> bool:
        return self.positive == self.negative

    @property
    def flops_per_pair(self) -> float:
        if self.linear:
            return 0.0
        return 32.0 if self.gamma <= 0 else 46.0

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
        gamma, bend = self.gamma, self.bend
        t, w = pairs.root, pairs.w
        acute, kappa = arc_cosine_pair(t, w, degree)
        acute = bend * acute  # of kappa0(-|rho|)
        kappa = bend * kappa  # of kappa1(-|rho|)/w
        if pairs.rho is None:
            return DualPair(Correlation(t * jnp.sqrt(1 - kappa), None), 1 - acute)
        positive = pairs.rho >= 0
        derivative = jnp.where(positive, 1 - acute, gamma + acute)
        g = w * kappa
        if gamma <= 0:  # E >= 0 for every pair
            below = self.lift - gamma * w - g  # 1 - E/e where rho < 0
            w_new = jnp.where(positive, w - g, below)
            return DualPair(Correlation(jnp.sqrt(w_new), None), derivative)
        rho_negative = g - gamma * (1 - w)  # E/e where rho < 0
        above = bend + g + gamma * w  # 1 + E/e there: a sum of positive terms
        w_negative = jnp.where(rho_negative >= 0, 1 - rho_negative, above)
        w_new = jnp.where(positive, w - g, w_negative)
        rho_new = jnp.where(positive, 1 - (w - g), rho_negative)
        return DualPair(Correlation(jnp.sqrt(w_new), rho_new), derivative)
