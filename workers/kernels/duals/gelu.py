"""GELU, exactly: x Phi(x) = x/2 + (x/2) erf(x/sqrt 2). Not its approximation by tanh.

With y = 1 - rho^2, kappa = s s', D = 1 + q + q' + qq' y, h = 1/(1+q) + 1/(1+q') and Williams'
angle a = atan2(|c|, sqrt D) (williams.py), the integrals of Williams 1997 give

    4 E/kappa = rho + (2/pi) (P + |rho| a),             P = kappa (h + (1 - h) y)/sqrt D
    4 Edot    = 1 +- (2/pi) (a + |c| (h + 1/D)/sqrt D)  (the sign of rho)

With F = 4 E/kappa, and F_s, F_s' its values at c = q, c = q', the normalised kernel is
F/sqrt(F_s F_s'), and

    2 (sqrt(F_s F_s') - F) = (F_s - F) + (F_s' - F) - (sqrt F_s - sqrt F_s')^2

in which every difference is factored: angles by williams.py, P - P(|rho|=1) by y, and at |rho| = 1

    P_s^2 - P^2 = q (q - q') B/((1+q)^2 (1+2q) (1+q')^2 (1+q+q'))
    B           = 4 (1 + q + q') - q' (q - q') - 2qq' (q + q')

Two terms of size sqrt(y) cancel to their third power where s is large (GELU is then a ReLU): the
relative error of 1 - rho_E is at most about 1e-16 (1 + s).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from workers.kernels.duals.base import ActivationModel, Correlation, Degree, Dual, DualPair
from workers.kernels.duals.williams import angle_side, diagonal_angle, mean_deficit, pair_angle

if TYPE_CHECKING:
    import jax

LARGEST_DEVIATION = 1e12
"""Deviation beyond which rows have the pair map of this one: GELU is ReLU to 24 digits there, and
the products of variances stay below the float64 maximum."""


class Gelu(ActivationModel):
    """x * Phi(x), Phi the normal distribution function (not the tanh approximation)."""

    summary: ClassVar[str] = "x*Phi(x), exact"
    source: ClassVar[str] = "Hendrycks & Gimpel 2016; integrals of Williams 1997"

    fn: Literal["gelu"]

    def dual(self) -> Dual:
        return GeluDual()


@dataclass(frozen=True)
class GeluDual:
    """Dual kernels of GELU."""

    differentiable: ClassVar[bool] = True
    float32_pairs: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    flops_per_pair: ClassVar[float] = 190.0

    def deviation(self, s: jax.Array) -> jax.Array:
        """At most s: never overflows."""
        import jax.numpy as jnp

        return 0.5 * s * jnp.sqrt(_aligned(_variance(s)))

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        q = _variance(s)
        root = jnp.sqrt(1 + 2 * q)
        slope = diagonal_angle(q) + (q / root) * (2 / (1 + q) + 1 / (1 + 2 * q))
        return (1 + 2 / math.pi * slope) / _aligned(q)

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        import jax.numpy as jnp

        if s1 is None or s2 is None:
            raise ValueError("gelu needs the deviations of both rows")
        q1, q2 = _variance(s1), _variance(s2)
        left, right = angle_side(q1), angle_side(q2)
        f1, f2 = _aligned(q1), _aligned(q2)
        inverse_norm = 1 / (jnp.sqrt(f1) * jnp.sqrt(f2))
        w = pairs.w
        size = 1 - w if pairs.rho is None else jnp.abs(pairs.rho)
        y = w * (2 - w)
        kappa = left.root * right.root
        inverse1, inverse2 = 1 / (1 + q1), 1 / (1 + q2)
        h = inverse1 + inverse2
        one_minus_h = (kappa * kappa - 1) * (inverse1 * inverse2)
        d_aligned = 1 + q1 + q2
        root_aligned = jnp.sqrt(d_aligned)
        root_d = jnp.sqrt(d_aligned + kappa * kappa * y)
        inverse_root = 1 / root_d

        angle = pair_angle(left, right, size, root_d)
        direct = 0.5 * (left.angle + right.angle) - angle
        turned = jnp.where(direct < 0.5, mean_deficit(left, right, y, size, root_d), direct)
        growth = kappa / root_aligned * (kappa / (root_aligned + root_d)) * y
        moved = kappa * inverse_root * (h * growth - one_minus_h * y)  # P(|rho|=1) - P
        parallel = kappa * h / root_aligned
        apart = 0.5 * (_product_deficit(q1, q2, parallel) + _product_deficit(q2, q1, parallel))
        change = (2 / math.pi) * (apart + moved + turned + w * angle)
        change = change - 0.5 * (jnp.sqrt(f1) - jnp.sqrt(f2)) ** 2
        size_d = kappa * size * inverse_root
        slope = (2 / math.pi) * (angle + size_d * (h + inverse_root * inverse_root))
        if pairs.rho is None:
            w_new = jnp.clip((w + change) * inverse_norm, 0, 1)
            return DualPair(Correlation(jnp.sqrt(w_new), None), (1 + slope) * inverse_norm)
        positive = pairs.rho >= 0
        distance = (jnp.where(positive, w, 1 - pairs.rho) + change) * inverse_norm
        distance = jnp.clip(distance, 0, 2)
        w_new = jnp.where(distance <= 1, distance, 2 - distance)
        derivative = (1 + jnp.where(positive, slope, -slope)) * inverse_norm
        return DualPair(Correlation(jnp.sqrt(w_new), 1 - distance), derivative)


def _variance(s: jax.Array) -> jax.Array:
    import jax.numpy as jnp

    capped = jnp.minimum(s, LARGEST_DEVIATION)
    return capped * capped


def _aligned(q: jax.Array) -> jax.Array:
    """F_s = 4 E(q,q)/q, between 1 (q = 0) and 2."""
    return 1 + 2 / math.pi * (_product(q) + diagonal_angle(q))


def _product(q: jax.Array) -> jax.Array:
    """P_s = 2q/((1+q) sqrt(1+2q)): P at c = q."""
    import jax.numpy as jnp

    return 2 * (q / (1 + q)) / jnp.sqrt(1 + 2 * q)


def _product_deficit(q: jax.Array, other: jax.Array, parallel: jax.Array) -> jax.Array:
    """P_s - P for rows of variances q, `other` at |rho| = 1, where P is `parallel`."""
    import jax.numpy as jnp

    total = _product(q) + parallel
    factor = 4 * (1 + q + other) - other * (q - other) - 2 * q * other * (q + other)
    below = (1 + q) ** 2 * ((1 + 2 * q) * (1 + q + other)) * (1 + other) ** 2
    squares = q * (q - other) * (factor / below)
    return jnp.where(total > 0, squares / jnp.where(total > 0, total, 1), 0)
