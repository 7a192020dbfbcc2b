"""Sine, cosine, and the sine whose kernel is Gaussian.

phi(x) = sin(omega x + b), with p = omega^2 q, kappa = sqrt(pp'), delta = (sqrt p - sqrt p')^2/2
and e-, e+ = exp(-delta - kappa (1 -+ rho)) (characteristic function of a normal pair):

    E = (e- - cos(2b) e+)/2,   Edot = (omega^2/2)(e- + cos(2b) e+)

Near rho = 1, with N^2 = E(q,q) E(q',q'), the differences factor:

    E(rho=1) - E     = -expm1(-kappa(1-rho)) e^-delta (1 + cos(2b) e^(-kappa(1+rho)))/2
    4 (N^2 - E(1)^2) = -expm1(-2 delta) (1 - cos(2b)^2 e^(-p-p'-2 kappa))
                       - cos(2b) (e^-p - e^-p')^2

sqrt(2) sin(sqrt(2 gamma) x + pi/4) has E = exp(-gamma (q + q' - 2c)), the Gaussian kernel of the
pre-activations (Rahimi & Recht 2007: random Fourier features).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from workers.kernels.duals.base import ActivationModel, Correlation, Degree, Dual, DualPair
from workers.kernels.duals.exponential import ExpDual

if TYPE_CHECKING:
    import jax

LARGEST_PHASE = 1e70
"""Deviation of omega x beyond which rows are treated as having this one; keeps squares in range.
Radians."""

_SOURCE = "characteristic function of a normal pair; Pearce et al. 2019"


class Sin(ActivationModel):
    """sin(frequency * x + phase)."""

    summary: ClassVar[str] = "sin(frequency*x + phase)"
    source: ClassVar[str] = _SOURCE

    fn: Literal["sin"]
    frequency: float = Field(default=1.0, gt=0, strict=True)
    phase: float = Field(default=0.0, strict=True, description="Radians.")

    def dual(self) -> Dual:
        sine, cosine = math.sin(self.phase), math.cos(self.phase)
        return SineDual(self.frequency, cosine * cosine, sine * sine)


class Cos(ActivationModel):
    """cos(frequency * x)."""

    summary: ClassVar[str] = "cos(frequency*x)"
    source: ClassVar[str] = _SOURCE

    fn: Literal["cos"]
    frequency: float = Field(default=1.0, gt=0, strict=True)

    def dual(self) -> Dual:
        return SineDual(self.frequency, 0.0, 1.0)


class Rbf(ActivationModel):
    """sqrt(2) sin(sqrt(2 gamma) x + pi/4): its NNGP is exp(-gamma |z - z'|^2)."""

    summary: ClassVar[str] = "sqrt(2)*sin(sqrt(2*gamma)*x + pi/4): Gaussian kernel"
    source: ClassVar[str] = "Rahimi & Recht 2007, theorem 1"

    fn: Literal["rbf"]
    gamma: float = Field(default=1.0, gt=0, strict=True)

    def dual(self) -> Dual:
        return ExpDual(2 * self.gamma, 0.0)


@dataclass(frozen=True)
class SineDual:
    """Dual kernels of sin(frequency x + b).

    `odd` = cos(b)^2 and `even` = sin(b)^2: the weights of sin(frequency x) and cos(frequency x).
    """

    frequency: float
    odd: float
    even: float
    differentiable: ClassVar[bool] = True
    float32_pairs: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    flops_per_pair: ClassVar[float] = 130.0

    @property
    def _mixing(self) -> float:
        """cos(2b)."""
        return self.odd - self.even

    def _scaled(self, s: jax.Array) -> jax.Array:
        """sqrt(p) = omega s."""
        import jax.numpy as jnp

        return jnp.minimum(self.frequency * s, LARGEST_PHASE)

    def _variance(self, p: jax.Array) -> jax.Array:
        """E(q,q) = (1 - cos(2b) e^(-2p))/2, without cancellation."""
        import jax.numpy as jnp

        return self.even * jnp.exp(-2 * p) - 0.5 * jnp.expm1(-2 * p)

    def deviation(self, s: jax.Array) -> jax.Array:
        """At most 1: never overflows."""
        import jax.numpy as jnp

        if self.even == 0:  # ~ omega s for small s, where p underflows first
            scaled = self._scaled(s)
            p = scaled * scaled
            small = p < 1e-18
            exact = jnp.sqrt(self._variance(jnp.where(small, 1, p)))
            return jnp.where(small, scaled, exact)
        return jnp.sqrt(self._variance(self._scaled(s) ** 2))

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        p = self._scaled(s) ** 2
        variance = self._variance(p)
        live = variance > 0
        slope = self.odd * jnp.exp(-2 * p) - 0.5 * jnp.expm1(-2 * p)
        return jnp.where(live, p * slope / jnp.where(live, variance, 1), 1)

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        import jax.numpy as jnp

        if s1 is None or s2 is None:
            raise ValueError("sin needs the deviations of both rows")
        mixing = self._mixing
        signed = pairs.rho is not None and self.odd > 0 and self.even > 0
        rho = pairs.signed()
        positive = rho >= 0
        below = jnp.where(positive, pairs.w, 1 - rho) if signed else pairs.w  # 1 - rho
        t1, t2 = self._scaled(s1), self._scaled(s2)
        p1, p2 = t1 * t1, t2 * t2
        kappa = t1 * t2
        delta = 0.5 * (t1 - t2) ** 2
        variance1, variance2 = self._variance(p1), self._variance(p2)
        norm = jnp.sqrt(variance1) * jnp.sqrt(variance2)
        live = norm > 0
        inverse = jnp.where(live, 1 / jnp.where(live, norm, 1), 0)

        decay = jnp.exp(-delta)
        near = jnp.exp(-kappa * below)
        far = jnp.exp(-kappa * (2 - below))
        covariance = 0.5 * decay * (near - mixing * far)
        slope = 0.5 * kappa * decay * (near + mixing * far) * inverse
        # 1 + cos(2b) e^(-kappa(1+rho)), by parts so that cos(2b) = -1 loses nothing.
        bracket = 2 * self.odd * far - jnp.expm1(-kappa * (2 - below))
        moved = -0.5 * decay * jnp.expm1(-kappa * below) * bracket
        aligned = 0.5 * decay * (2 * self.even * jnp.exp(-2 * kappa) - jnp.expm1(-2 * kappa))
        larger, smaller = jnp.maximum(p1, p2), jnp.minimum(p1, p2)
        squares = (
            -jnp.expm1(-2 * delta)
            * ((1 - mixing * mixing) - mixing * mixing * jnp.expm1(-(p1 + p2 + 2 * kappa)))
            - mixing * (jnp.exp(-smaller) * jnp.expm1(smaller - larger)) ** 2
        )
        apart = 0.25 * squares / jnp.where(live, norm + aligned, 1)
        distance = (jnp.maximum(apart, 0) + moved) * inverse  # 1 - rho_E
        if not signed:
            w_new = jnp.clip(distance, 0, 1)
            w_new = jnp.where(live, w_new, pairs.w)
            slope = jnp.where(live, slope, 1)
            if pairs.rho is None:
                return DualPair(Correlation(jnp.sqrt(w_new), None), slope)
            if self.odd == 0:
                return DualPair(
                    Correlation(jnp.sqrt(w_new), None), jnp.where(positive, slope, -slope)
                )
            rho_new = jnp.where(positive, 1 - w_new, w_new - 1)
            return DualPair(Correlation(jnp.sqrt(w_new), rho_new), slope)
        rho_new = jnp.clip(covariance * inverse, -1, 1)
        w_new = jnp.where(rho_new >= 0, jnp.clip(distance, 0, 1), 1 + rho_new)
        rho_new = jnp.where(rho_new >= 0, 1 - w_new, rho_new)
        return DualPair(Correlation(jnp.sqrt(w_new), rho_new), slope)
