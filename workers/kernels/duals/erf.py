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
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from workers.kernels.duals.base import (
    ActivationModel,
    Correlation,
    Degree,
    Dual,
    DualPair,
)
from workers.kernels.duals.williams import (
    angle_side,
    diagonal_angle,
    mean_deficit,
    pair_angle,
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
    differentiable: ClassVar[bool] = True
    float32_pairs: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False
    flops_per_pair: ClassVar[float] = 130.0

    def _scaled(self, s: jax.Array) -> jax.Array:
        """t = 2 B q, the only combination that enters."""
        import jax.numpy as jnp

        capped = jnp.minimum(self.scale * s, _LARGEST_DEVIATION)
        return 2 * capped * capped

    def deviation(self, s: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        return self.amplitude * jnp.sqrt(2 / math.pi * diagonal_angle(self._scaled(s)))

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        t = self._scaled(s)
        angle = diagonal_angle(t)
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
        left, right = angle_side(self._scaled(s1)), angle_side(self._scaled(s2))
        w = pairs.w
        gap = w * (2 - w)  # 1 - rho^2
        # |rho| itself keeps its digits near 0, where 1 - w loses them.
        size = 1 - w if pairs.rho is None else jnp.abs(pairs.rho)
        root_d = jnp.sqrt(1 + left.t + right.t + left.t * right.t * gap)
        scale1, scale2 = jnp.sqrt(left.angle), jnp.sqrt(right.angle)
        inverse_norm = _inverse(scale1) * _inverse(scale2)
        # For zero variances phi is linear: E/sqrt(EE') -> rho and the derivative factor -> 1.
        live = inverse_norm > 0
        derivative = jnp.where(live, left.root * right.root * inverse_norm / root_d, 1)
        new_size = pair_angle(left, right, size, root_d) * inverse_norm
        # sqrt(a a') - a_c = ((a - a_c) + (a' - a_c) - (sqrt(a) - sqrt(a'))^2)/2
        unlike = (scale1 - scale2) ** 2
        near = (mean_deficit(left, right, gap, size, root_d) - 0.5 * unlike) * inverse_norm
        # Rounding of the difference is of size `unlike`: of very unlike rows 1 - rho_E has more
        # digits, and cannot be tiny.
        digits_kept = (new_size > 0.75) & (unlike * inverse_norm < 1)
        w_new = jnp.clip(jnp.where(digits_kept, near, 1 - new_size), 0, 1)
        root_new = jnp.where(live, jnp.sqrt(w_new), pairs.root)
        if pairs.rho is None:
            return DualPair(Correlation(root_new, None), derivative)
        rho_new = jnp.where(live, jnp.copysign(new_size, pairs.rho), pairs.rho)
        return DualPair(Correlation(root_new, rho_new), derivative)


def _inverse(scale: jax.Array) -> jax.Array:
    """1/scale, 0 for 0."""
    import jax.numpy as jnp

    live = scale > 0
    return jnp.where(live, 1 / jnp.where(live, scale, 1), 0)
