"""Rectified powers max(0, x)^n, and their degree-0 member and its odd twin: step and sign.

With t = acos(rho) and unit variances, E[max(0,u)^n max(0,v)^n] = J_n(t)/(2 pi) (Cho & Saul 2009,
eqs. 3-6). Normalised, kappa_n = J_n(t)/J_n(0), and

    kappa_n' = n^2/(2n-1) kappa_(n-1)                                   (derivative in rho)
    kappa_n(rho) + (-1)^n kappa_n(-rho) = M_n(rho) = E[u^n v^n]/E[u^2n]  (x^n = x_+^n + (-x_-)^n)
    kappa_n(-(1-w)) = w^(n+1/2) G_n(w)

G_n is analytic for |w| < 2: integrating the series of kappa_0(-(1-w)) = acos(1-w)/pi n times
gives its Taylor series, which is economised to a short polynomial on [0, 1]. M_n has positive
coefficients, so 1 - M_n = sum h_k (1 - rho^k) keeps relative accuracy near rho = 1.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from workers.kernels.duals.arc_cosine import arc_cosine_pair
from workers.kernels.duals.base import ActivationModel, Correlation, Degree, Dual, DualPair

if TYPE_CHECKING:
    import jax

MAX_POWER = 16
"""Largest power: its deviation already spans 1e+-308 for inputs of size 1e+-19."""

_SOURCE = "Cho & Saul 2009, eqs. 3-6"


class Sign(ActivationModel):
    """sign(x); sign(0) = 0. Has no NTK: its derivative vanishes almost everywhere."""

    summary: ClassVar[str] = "sign(x); NNGP only"
    source: ClassVar[str] = "Cho & Saul 2009, eq. 3 (degree 0)"

    fn: Literal["sign"]

    def dual(self) -> Dual:
        return StepDual(odd=True)


class Step(ActivationModel):
    """1 for x > 0, else 0. Has no NTK: its derivative vanishes almost everywhere."""

    summary: ClassVar[str] = "1 for x > 0, else 0; NNGP only"
    source: ClassVar[str] = "Cho & Saul 2009, eq. 3 (degree 0)"

    fn: Literal["step"]

    def dual(self) -> Dual:
        return StepDual(odd=False)


class RectifiedPower(ActivationModel):
    """max(0, x)^power."""

    summary: ClassVar[str] = "max(0, x)^power"
    source: ClassVar[str] = _SOURCE

    fn: Literal["rectified_power"]
    power: int = Field(default=2, ge=1, le=MAX_POWER, strict=True)

    def dual(self) -> Dual:
        return RectifiedPowerDual(self.power)


@dataclass(frozen=True)
class StepDual:
    """Dual kernels of sign (`odd`) and of the unit step.

    E = (2/pi) asin(rho), respectively (pi - t)/(2 pi). dE/dc grows like (1-rho)^(-1/2) towards
    rho = 1 and is infinite there: the NTK does not exist (`differentiable` is False).
    """

    odd: bool
    differentiable: ClassVar[bool] = False
    float32_pairs: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True
    flops_per_pair: ClassVar[float] = 24.0

    def deviation(self, s: jax.Array) -> jax.Array:
        """1, or sqrt(1/2) for the step; 0 for s = 0 (both are 0 at 0). Never overflows."""
        import jax.numpy as jnp

        return jnp.where(s > 0, 1.0 if self.odd else math.sqrt(0.5), 0.0)

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        """Infinite."""
        import jax.numpy as jnp

        return jnp.full_like(s, jnp.inf)

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        """`derivative` is dE/dc normalised as always: +inf where rho = +-1."""
        import jax.numpy as jnp

        w = pairs.w
        acute, _ = arc_cosine_pair(pairs.root, w, degree)  # acos(|rho|)/pi
        slope = 1 / (math.pi * jnp.sqrt(w * (2 - w)))
        if self.odd:
            w_new = jnp.minimum(2 * acute, 1)
            if pairs.rho is None:
                return DualPair(Correlation(jnp.sqrt(w_new), None), 2 * slope)
            rho_new = jnp.where(pairs.rho >= 0, 1 - w_new, w_new - 1)
            return DualPair(Correlation(jnp.sqrt(w_new), rho_new), 2 * slope)
        if pairs.rho is not None:
            acute = jnp.where(pairs.rho >= 0, acute, 1 - acute)
        return DualPair(Correlation(jnp.sqrt(acute), None), slope)


@dataclass(frozen=True)
class RectifiedPowerDual:
    """Dual kernels of max(0, x)^power."""

    power: int
    differentiable: ClassVar[bool] = True
    float32_pairs: ClassVar[bool] = True
    homogeneous: ClassVar[bool] = True

    @property
    def flops_per_pair(self) -> float:
        return 44.0 + 4.0 * self.power

    @property
    def gain(self) -> float:
        """sqrt(E[max(0,z)^2n]) = sqrt((2n-1)!!/2)."""
        return math.sqrt(math.prod(range(1, 2 * self.power, 2)) / 2)

    def deviation(self, s: jax.Array) -> jax.Array:
        """gain * s^power: +inf where that exceeds the float64 range."""
        return self.gain * s**self.power

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        import jax.numpy as jnp

        return jnp.full_like(s, self.power**2 / (2 * self.power - 1))

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        import jax.numpy as jnp

        n = self.power
        root, w = pairs.root, pairs.w
        below = _opposite(n, root, w, degree)  # kappa_n(-|rho|)
        below_slope = _opposite(n - 1, root, w, degree)
        gain = n * n / (2 * n - 1)
        w_near = _one_minus_moment(n, w) + (-1) ** n * below  # 1 - kappa_n(|rho|)
        slope_near = 1 - _one_minus_moment(n - 1, w) - (-1) ** (n - 1) * below_slope
        if pairs.rho is None:
            return DualPair(Correlation(jnp.sqrt(w_near), None), gain * slope_near)
        positive = pairs.rho >= 0
        return DualPair(
            Correlation(jnp.sqrt(jnp.where(positive, w_near, 1 - below)), None),
            gain * jnp.where(positive, slope_near, below_slope),
        )


def moment_coefficients(n: int) -> dict[int, float]:
    """h_k with E[u^n v^n]/E[u^2n] = sum_k h_k rho^k; positive, of sum 1."""
    # Hermite expansion of x^n: coefficient of He_k is n!/(k! ((n-k)/2)! 2^((n-k)/2)).
    norm = math.prod(range(1, 2 * n, 2))
    coefficients = {}
    for k in range(n % 2, n + 1, 2):
        half = (n - k) // 2
        hermite = math.factorial(n) / (math.factorial(k) * math.factorial(half) * 2**half)
        coefficients[k] = math.factorial(k) * hermite**2 / norm
    return coefficients


def _one_minus_moment(n: int, w: jax.Array) -> jax.Array:
    """1 - M_n(1 - w), by 1 - rho^k = w (1 + rho + ... + rho^(k-1)): Horner over tail sums."""
    coefficients = moment_coefficients(n)
    rho = 1 - w
    total = 0.0 * w
    tail = 0.0
    for k in range(n, 0, -1):
        tail += coefficients.get(k, 0.0)
        total = total * rho + tail
    return w * total


def _opposite(n: int, root: jax.Array, w: jax.Array, degree: Degree) -> jax.Array:
    """kappa_n(-(1-w)), root = sqrt(w)."""
    import jax.numpy as jnp

    coefficients = opposite_coefficients(n, degree)
    total = jnp.full_like(w, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * w + coefficient
    for _ in range(n):
        root = root * w
    return root * total


@functools.lru_cache(maxsize=64)
def opposite_coefficients(n: int, degree: Degree) -> tuple[float, ...]:
    """G_n on [0, 1] by rising power of w; relative error 1e-16 (double) or 3e-8 (single)."""
    import numpy as np

    gain = math.prod(k * k / (2 * k - 1) for k in range(1, n + 1))
    taylor = []
    term = math.sqrt(2) / math.pi * gain  # of w^(1/2): acos(1-w) = sqrt(2w) sum (2j)!/(j!^2 ...)
    for j in range(80):
        rising = math.prod(j + 0.5 + i for i in range(1, n + 1))
        taylor.append(term / ((2 * j + 1) * rising))
        term *= (2 * j + 1) / (4 * (j + 1))
    terms = 23 if degree == "double" else 10
    angles = (np.arange(64) + 0.5) * (np.pi / 64)
    values = np.polynomial.polynomial.polyval((np.cos(angles) + 1) / 2, taylor) / taylor[0]
    series = [float(np.mean(values * np.cos(k * angles))) * (2 if k else 1) for k in range(terms)]
    return tuple(x * taylor[0] for x in _by_powers(series))


def _by_powers(series: list[float]) -> list[float]:
    """Sum of series[k] T_k(2x - 1) by rising power of x; exact until the last rounding, because
    the powers' coefficients are large and cancel."""
    total = [Fraction(0)] * len(series)
    before, current = [Fraction(1)], [Fraction(-1), Fraction(2)]
    for coefficient in series:
        for power, x in enumerate(before):
            total[power] += Fraction(coefficient) * x
        following = [-2 * x for x in current] + [Fraction(0)]
        for power, x in enumerate(current):
            following[power + 1] += 4 * x
        for power, x in enumerate(before):
            following[power] -= x
        before, current = current, following
    return [float(x) for x in total]
