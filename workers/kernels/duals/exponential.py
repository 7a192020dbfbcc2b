"""Exponentials: exp(rate x), and the Gaussian bump exp(-rate x^2).

exp(ax), with u, v jointly normal (moment generating function):

    E = exp(a^2 (q + q' + 2c)/2),   Edot = a^2 E

so that rho_E = exp(-a^2 ((s - s')^2/2 + s s' (1 - rho))): normalised, nothing overflows but
sqrt(E(q,q)) = exp(a^2 q) itself. exp(-ax^2), with p = 2aq and D = (1+p)(1+p') - pp' rho^2:

    E = 1/sqrt(D),   Edot = 4 a^2 c D^-1.5

(theory of Gaussian integrals; Williams 1997, section 4, has E for the bump).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from workers.kernels.duals.base import ActivationModel, Correlation, Degree, Dual, DualPair

if TYPE_CHECKING:
    import jax

LARGEST_EXPONENT_ROOT = 1e150
"""Deviation a*s beyond which rows of exp(ax) have the pair map of this one, so that products stay
finite: distinct rows are then orthogonal. Unitless."""

LARGEST_SCALED_DEVIATION = 1e70
"""Scaled deviation s*sqrt(rate) beyond which the bump has its limiting pair map; keeps fourth
powers below the float64 maximum. Unitless."""


class Exp(ActivationModel):
    """exp(rate * x)."""

    summary: ClassVar[str] = "exp(rate*x)"
    source: ClassVar[str] = "moment generating function of a normal pair"

    fn: Literal["exp"]
    rate: float = Field(default=1.0, strict=True, description="Non-zero; may be negative.")

    def dual(self) -> Dual:
        return ExpDual(self.rate**2, 1.0)


class Gaussian(ActivationModel):
    """exp(-rate * x^2)."""

    summary: ClassVar[str] = "exp(-rate*x^2)"
    source: ClassVar[str] = "Williams 1997, section 4"

    fn: Literal["gaussian"]
    rate: float = Field(default=1.0, gt=0, strict=True)

    def dual(self) -> Dual:
        return GaussianDual(self.rate)


@dataclass(frozen=True)
class ExpDual:
    """Dual kernels with rho_E = exp(-curvature ((s - s')^2/2 + s s' (1 - rho))).

    `growth`: sqrt(E(q,q)) = exp(growth curvature q): 1 for exp(ax), and 0 for the RBF activation,
    whose kernel is the same but for its scale.
    """

    curvature: float
    growth: float
    differentiable: ClassVar[bool] = True
    float32_pairs: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    flops_per_pair: ClassVar[float] = 40.0

    def deviation(self, s: jax.Array) -> jax.Array:
        """exp(growth * curvature * s^2): +inf where that exceeds the float64 range."""
        import jax.numpy as jnp

        if self.growth == 0:
            return jnp.ones_like(s)
        return jnp.exp(self.growth * self.curvature * s * s)

    def _scaled(self, s: jax.Array) -> jax.Array:
        """a s."""
        import jax.numpy as jnp

        return jnp.minimum(self.curvature**0.5 * s, LARGEST_EXPONENT_ROOT)

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        return self._scaled(s) ** 2

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        import jax.numpy as jnp

        if s1 is None or s2 is None:
            raise ValueError("exp needs the deviations of both rows")
        below = pairs.w if pairs.rho is None else jnp.where(pairs.rho >= 0, pairs.w, 1 - pairs.rho)
        t1, t2 = self._scaled(s1), self._scaled(s2)
        product = t1 * t2
        exponent = 0.5 * (t1 - t2) ** 2 + product * below
        return DualPair(
            Correlation(jnp.sqrt(-jnp.expm1(-exponent)), None), product * jnp.exp(-exponent)
        )


@dataclass(frozen=True)
class GaussianDual:
    """Dual kernels of exp(-rate x^2)."""

    rate: float
    differentiable: ClassVar[bool] = True
    float32_pairs: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    flops_per_pair: ClassVar[float] = 60.0

    def _scaled(self, s: jax.Array) -> jax.Array:
        """p = 2 rate q, the only combination that enters."""
        import jax.numpy as jnp

        capped = jnp.minimum((2 * self.rate) ** 0.5 * s, LARGEST_SCALED_DEVIATION)
        return capped * capped

    def deviation(self, s: jax.Array) -> jax.Array:
        """(1 + 4 rate s^2)^(-1/4), at most 1: never overflows."""
        return (1 + 2 * self._scaled(s)) ** -0.25

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        p = self._scaled(s)
        return p * (p / (1 + 2 * p))

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        """rho_E^4 = (1+2p)(1+2p')/D^2, and D^2 minus that numerator, written with
        D = 1 + p + p' + pp'(1 - rho^2), is (p - p')^2 + pp'(1-rho^2)(2(1+p+p') + pp'(1-rho^2))."""
        import jax.numpy as jnp

        if s1 is None or s2 is None:
            raise ValueError("gaussian needs the deviations of both rows")
        p1, p2 = self._scaled(s1), self._scaled(s2)
        aligned = 1 + p1 + p2  # D at rho = 1
        apart = p1 * p2 * (pairs.w * (2 - pairs.w))
        d = aligned + apart
        rho_new = jnp.sqrt(jnp.sqrt(1 + 2 * p1) * jnp.sqrt(1 + 2 * p2) / d)
        gap = ((p1 - p2) / d) ** 2 + (apart / d) * ((aligned + d) / d)  # 1 - rho_E^4
        w_new = jnp.clip(gap / ((1 + rho_new) * (1 + rho_new * rho_new)), 0, 1)
        rho = pairs.signed()
        # p1 * p2 / d is the larger of the factors: dividing first keeps it in range.
        return DualPair(Correlation(jnp.sqrt(w_new), None), p1 * (p2 / d) * rho * rho_new)
