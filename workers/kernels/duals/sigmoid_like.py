"""Odd activations with an offset: phi(x) = psi(x) + offset with psi odd.

E = E_psi + offset^2 and Edot = Edot_psi, because E[psi(u)] = 0. With e^2 = E_psi(q,q),
h^2 = e^2 + offset^2 and N = h h', using (h h')^2 - (e e' + offset^2)^2 = offset^2 (e - e')^2:

    1 - rho_E = (offset^2 (e - e')^2/(N + e e' + offset^2) + e e' (1 - rho_psi))/N
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from workers.kernels.duals.base import ActivationModel, Correlation, Degree, Dual, DualPair
from workers.kernels.duals.erf import ErfDual

if TYPE_CHECKING:
    import jax

LOGISTIC_SCALE = 2.4020563531719796
"""Deviation that makes (1 + erf(x/scale))/2 closest to the logistic function, as used by
infinite-network libraries; unitless."""


class SigmoidLike(ActivationModel):
    """(1 + erf(x / 2.4020563531719796))/2: a sigmoid with closed-form kernels."""

    summary: ClassVar[str] = "(1 + erf(x/2.40205635))/2"
    source: ClassVar[str] = "Williams 1997, eq. 11, with an offset"

    fn: Literal["sigmoid_like"]

    def dual(self) -> Dual:
        return OffsetDual(ErfDual(0.5, 1 / LOGISTIC_SCALE), 0.5)


@dataclass(frozen=True)
class OffsetDual:
    """Dual kernels of psi(x) + offset; `odd` is the dual of the odd function psi."""

    odd: Dual
    offset: float
    differentiable: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = False

    @property
    def float32_pairs(self) -> bool:
        return self.odd.float32_pairs

    @property
    def flops_per_pair(self) -> float:
        return self.odd.flops_per_pair + 16.0

    def deviation(self, s: jax.Array) -> jax.Array:
        """Overflows (to +inf) only where psi's does."""
        import jax.numpy as jnp

        return jnp.hypot(self.odd.deviation(s), self.offset)

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        e = self.odd.deviation(s)
        share = e / self.deviation(s)
        return self.odd.variance_derivative(s) * share * share

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        import jax.numpy as jnp

        if s1 is None or s2 is None:
            raise ValueError("an activation with an offset needs the deviations of both rows")
        inner = self.odd.pair(pairs, s1, s2, degree=degree)
        e1, e2 = self.odd.deviation(s1), self.odd.deviation(s2)
        h1, h2 = jnp.hypot(e1, self.offset), jnp.hypot(e2, self.offset)
        shares = (e1 / h1) * (e2 / h2)
        constant = (self.offset / h1) * (self.offset / h2)
        apart = constant * ((e1 - e2) / h1) * ((e1 - e2) / h2) / (1 + shares + constant)
        correlation = inner.correlation
        derivative = shares if inner.derivative is None else shares * inner.derivative
        if correlation.rho is None:
            return DualPair(Correlation(jnp.sqrt(shares * correlation.w + apart), None), derivative)
        rho = correlation.rho
        below = jnp.where(rho >= 0, correlation.w, 1 - rho)
        distance = apart + shares * below
        rho_new = shares * rho + constant
        w_new = jnp.where(rho_new >= 0, distance, 1 + rho_new)
        return DualPair(
            Correlation(jnp.sqrt(w_new), jnp.where(rho_new >= 0, 1 - distance, rho_new)), derivative
        )
