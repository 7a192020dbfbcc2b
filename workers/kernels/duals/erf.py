"""erf: phi(x) = amplitude * erf(scale * x). Williams 1997 (Computing with infinite networks).

With B = scale^2 and D = 1 + 2B(q + q') + 4B^2 (qq' - c^2):

    E    = (2 amplitude^2/pi) atan2(2Bc, sqrt(D))
    Edot = (4 amplitude^2 B/pi) / sqrt(D)

atan2 replaces Williams' asin(2Bc/sqrt((1+2Bq)(1+2Bq'))): the same angle, but its argument cannot
exceed 1 and nothing cancels when the variances are large.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, NamedTuple

from pydantic import Field

from workers.kernels.duals.arc_tangent import double_arc_tangent
from workers.kernels.duals.base import (
    ActivationModel,
    Correlation,
    Degree,
    Dual,
    DualPair,
)

if TYPE_CHECKING:
    import jax

_LARGEST_DEVIATION = 1e30
"""erf(scale*s*z) is a sign function to 30 digits beyond this scaled deviation; capping it keeps
products of four variances below the float64 maximum. Unitless (scale * s)."""


class Erf(ActivationModel):
    """amplitude * erf(scale * x)."""

    summary: ClassVar[str] = "amplitude*erf(scale*x)"
    source: ClassVar[str] = "Williams 1997, eq. 11"

    fn: Literal["erf"]
    amplitude: float = Field(default=1.0, gt=0, strict=True)
    scale: float = Field(default=1.0, gt=0, strict=True)

    def dual(self) -> Dual:
        return ErfDual(self.amplitude, self.scale)


@dataclass(frozen=True)
class ErfDual:
    """Dual kernels of amplitude * erf(scale * x)."""

    amplitude: float
    scale: float
    float32_pairs: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    flops_per_pair: ClassVar[float] = 130.0

    def _scaled(self, s: jax.Array) -> jax.Array:
        """t = 2 B q, the only combination that enters."""
        import jax.numpy as jnp

        capped = jnp.minimum(self.scale * s, _LARGEST_DEVIATION)
        return 2 * capped * capped

    def _angle(self, t: jax.Array) -> jax.Array:
        """asin(t/(1+t)), the angle at c = q."""
        import jax.numpy as jnp

        return jnp.arctan2(t, jnp.sqrt(1 + 2 * t))

    def deviation(self, s: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        return self.amplitude * jnp.sqrt(2 / math.pi * self._angle(self._scaled(s)))

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        t = self._scaled(s)
        angle = self._angle(t)
        return jnp.where(t > 0, t / jnp.where(t > 0, angle, 1) / jnp.sqrt(1 + 2 * t), 1)

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        """With t = 2Bq and rho: D = 1 + t + t' + tt'(1 - rho^2), 2B|c| = sqrt(tt') |rho|, and
        D + 4B^2 c^2 = (1 + t)(1 + t'). Where |rho_E| is near 1, 1 - |rho_E| comes from the
        differences of angles, in which q - c is written through 1 - |rho| and q - q'."""
        import jax.numpy as jnp

        if s1 is None or s2 is None:
            raise ValueError("erf needs the deviations of both rows")
        left, right = self._side(s1), self._side(s2)  # (n1, 1), (1, n2)
        w = pairs.w
        gap = w * (2 - w)  # 1 - rho^2
        # |rho| itself keeps its digits near 0, where 1 - w loses them.
        size = 1 - w if pairs.rho is None else jnp.abs(pairs.rho)
        root = left.root * right.root
        root_d = jnp.sqrt(1 + left.t + right.t + left.t * right.t * gap)
        hypotenuse = left.hypotenuse * right.hypotenuse
        magnitude = root * size  # 2 B |c|
        inverse_norm = left.inverse * right.inverse
        # For zero variances phi is linear: E/sqrt(EE') -> rho and the derivative factor -> 1.
        live = inverse_norm > 0
        derivative = jnp.where(live, root * inverse_norm / root_d, 1)
        new_size = double_arc_tangent(magnitude / (root_d + hypotenuse)) * inverse_norm
        near = _near_one(left, right, gap, size, root_d, hypotenuse) * inverse_norm
        w_new = jnp.clip(jnp.where(new_size > 0.75, near, 1 - new_size), 0, 1)
        root_new = jnp.where(live, jnp.sqrt(w_new), pairs.root)
        if pairs.rho is None:
            return DualPair(Correlation(root_new, None), derivative)
        rho_new = jnp.where(live, jnp.copysign(new_size, pairs.rho), pairs.rho)
        return DualPair(Correlation(root_new, rho_new), derivative)

    def _side(self, s: jax.Array) -> _Side:
        import jax.numpy as jnp

        t = self._scaled(s)
        scale = jnp.sqrt(self._angle(t))
        live = scale > 0
        root = jnp.sqrt(t)
        return _Side(
            t=t,
            root=root,
            inverse_root=jnp.where(live, 1 / jnp.where(live, root, 1), 0),
            half=jnp.sqrt(1 + 2 * t),
            hypotenuse=jnp.sqrt(1 + t),
            inverse=jnp.where(live, 1 / jnp.where(live, scale, 1), 0),
            scale=scale,
        )


class _Side(NamedTuple):
    """Per-row numbers of one side, float64, shaped to broadcast."""

    t: jax.Array  # 2 B q
    root: jax.Array  # sqrt(t)
    inverse_root: jax.Array  # 1/sqrt(t), 0 for zero rows
    half: jax.Array  # sqrt(1 + 2t)
    hypotenuse: jax.Array  # sqrt(1 + t)
    scale: jax.Array  # sqrt of the angle a at c = q
    inverse: jax.Array  # 1/scale, 0 for zero rows


def _near_one(
    left: _Side,
    right: _Side,
    gap: jax.Array,
    size: jax.Array,
    root_d: jax.Array,
    hypotenuse: jax.Array,
) -> jax.Array:
    """sqrt(a a') - a_c = ((a - a_c) + (a' - a_c) - (sqrt(a) - sqrt(a'))^2)/2 for the angles a, a'
    at c = q, c = q' and a_c at |c|.

    sin(a - a_c) = (t sqrt(D) - 2B|c| sqrt(1+2t))/((1+t) h), h^2 = (1+t)(1+t'); multiplying by
    its conjugate leaves (t - t') + t'(1+t)(1 - rho^2) over sqrt(D) + 2B|c| sqrt(1+2t)/t, where
    nothing cancels but t - t', which is a property of the rows.
    """
    sines, cosines, conjugates = [], [], []
    for one, other in ((left, right), (right, left)):
        sines.append((one.t - other.t) + other.t * (1 + one.t) * gap)
        cosines.append((one.half * root_d + one.t * (one.root * other.root) * size) / (1 + one.t))
        conjugates.append(root_d + one.half * (other.root * one.inverse_root) * size)
    # tan of half the sum of the two differences, from sin/(1 + cos) of the sum; all over h^2.
    numerator = sines[0] * cosines[1] * conjugates[1] + sines[1] * cosines[0] * conjugates[0]
    both = conjugates[0] * conjugates[1]
    denominator = both * (hypotenuse * hypotenuse + cosines[0] * cosines[1]) - sines[0] * sines[1]
    # Used near |rho_E| = 1 only, where the quotient is small; elsewhere it may be anything.
    return 0.5 * (_signed_angle(numerator / denominator) - (left.scale - right.scale) ** 2)


def _signed_angle(tangent: jax.Array) -> jax.Array:
    """2 atan(tangent) for |tangent| <= 1."""
    import jax.numpy as jnp

    return jnp.copysign(double_arc_tangent(jnp.minimum(jnp.abs(tangent), 1)), tangent)
