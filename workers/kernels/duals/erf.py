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

if TYPE_CHECKING:
    import jax

_LARGEST_DEVIATION = 1e70
"""erf(scale*s*z) is a sign function to 70 digits beyond this scaled deviation; capping it keeps
the squares below the float64 maximum. Unitless (scale * s)."""


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
    flops_per_pair: ClassVar[float] = 160.0

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
        """See the module. Where |rho_E| is near 1, 1 - |rho_E| comes from the sines of the
        differences of angles, in which q - c is written through w and q - q'."""
        import jax.numpy as jnp

        if s1 is None or s2 is None:
            raise ValueError("erf needs the deviations of both rows")
        t1, t2 = self._scaled(s1), self._scaled(s2)  # (n1, 1), (1, n2)
        angle1, angle2 = self._angle(t1), self._angle(t2)
        root = jnp.sqrt(t1) * jnp.sqrt(t2)
        w = pairs.w
        gap = w * (2 - w)  # 1 - rho^2
        root_d = jnp.sqrt(1 + t1 + t2 + t1 * t2 * gap)
        scale1, scale2 = jnp.sqrt(angle1), jnp.sqrt(angle2)
        norm = scale1 * scale2
        inverse_norm = jnp.where(norm > 0, 1 / jnp.where(norm > 0, norm, 1), 0)
        # For zero variances phi is linear: E/sqrt(EE') -> rho and the derivative factor -> 1.
        live = norm > 0
        derivative = jnp.where(live, root * inverse_norm / root_d, 1)
        # 2 B |c|; rho itself keeps its digits near 0, where 1 - w loses them.
        magnitude = root * (1 - w if pairs.rho is None else jnp.abs(pairs.rho))
        angle = jnp.arctan2(magnitude, root_d)  # of |rho|
        size = angle * inverse_norm
        w_near = self._near_one(t1, t2, gap, root_d, magnitude, scale1, scale2) * inverse_norm
        w_new = jnp.where(live, jnp.clip(jnp.where(size > 0.75, w_near, 1 - size), 0, 1), w)
        root_new = jnp.sqrt(w_new)
        rho = pairs.rho
        if rho is None:
            return DualPair(Correlation(root_new, None), derivative)
        rho_new = jnp.where(live, jnp.copysign(size, rho), rho)
        return DualPair(Correlation(root_new, rho_new), derivative)

    @staticmethod
    def _near_one(
        t1: jax.Array,
        t2: jax.Array,
        gap: jax.Array,
        root_d: jax.Array,
        magnitude: jax.Array,
        scale1: jax.Array,
        scale2: jax.Array,
    ) -> jax.Array:
        """sqrt(a1 a2) - a_c = (a1 - a_c + a2 - a_c - (sqrt(a1) - sqrt(a2))^2)/2 for the angles
        a1, a2 at c = q, c = q' and a_c at |c|, all in [0, pi/2]."""
        import jax.numpy as jnp

        hypotenuse = jnp.sqrt(1 + t1) * jnp.sqrt(1 + t2)  # sqrt(D + 4B^2 c^2)
        half1, half2 = jnp.sqrt(1 + 2 * t1), jnp.sqrt(1 + 2 * t2)

        def sine_cosine(
            t: jax.Array, other: jax.Array, half: jax.Array
        ) -> tuple[jax.Array, jax.Array]:
            # sin(a - a_c) = (t sqrt(D) - 2B|c| sqrt(1+2t)) / ((1+t) hypotenuse), multiplied by
            # its conjugate: t^2 D - 4B^2c^2(1+2t) = t (1+t) ((t - t') + t' (1+t) (1-rho^2)).
            product = (1 + t) * hypotenuse
            numerator = t * (1 + t) * ((t - other) + other * (1 + t) * gap)
            denominator = t * root_d + magnitude * half
            safe = jnp.where(denominator > 0, denominator, 1)
            return (
                jnp.where(denominator > 0, numerator / safe, 0) / product,
                (half * root_d + t * magnitude) / product,
            )

        sine1, cosine1 = sine_cosine(t1, t2, half1)
        sine2, cosine2 = sine_cosine(t2, t1, half2)
        both = jnp.arctan2(sine1 * cosine2 + cosine1 * sine2, cosine1 * cosine2 - sine1 * sine2)
        return 0.5 * (both - (scale1 - scale2) ** 2)
