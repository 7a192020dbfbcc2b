"""Polynomials, and normalised Hermite polynomials He_n/sqrt(n!).

With orthonormal Hermite polynomials h_k and phi(s z) = sum_k a_k(s) h_k(z) (Mehler's formula):

    E = sum_k a_k(s) a_k(s') rho^k,   s s' Edot = sum_k k a_k(s) a_k(s') rho^(k-1)

A monomial has z^j = sum_k j!/(k! i! 2^i) He_k(z), i = (j-k)/2; a Hermite polynomial has
He_n(s z) = sum_k n!/(k! i! 2^i) s^k (s^2-1)^i He_k(z), i = (n-k)/2 (multiplication theorem).
The coefficients are normalised per row, alpha = a/|a|, so that nothing overflows in pairs, and

    1 - rho_E = |alpha - alpha'|^2/2 + sum_k alpha_k alpha'_k (1 - rho^k)
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, field_validator

from workers.kernels.duals.base import ActivationModel, Correlation, Degree, Dual, DualPair

if TYPE_CHECKING:
    from collections.abc import Sequence

    import jax

MAX_DEGREE = 32
"""Largest degree of a polynomial."""

_SOURCE = "Mehler's formula; Daniely et al. 2016, section 4"


class Polynomial(ActivationModel):
    """coefficients[0] + coefficients[1] x + coefficients[2] x^2 + ..."""

    summary: ClassVar[str] = "sum of coefficients[k] * x^k"
    source: ClassVar[str] = _SOURCE

    fn: Literal["polynomial"]
    coefficients: tuple[float, ...] = Field(
        min_length=2, max_length=MAX_DEGREE + 1, description="By rising power; last one non-zero."
    )

    @field_validator("coefficients")
    @classmethod
    def _leading(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if value[-1] == 0:
            raise ValueError("the last coefficient is 0; leave it out")
        return tuple(x + 0.0 for x in value)  # -0.0 and 0.0 are one kernel

    def dual(self) -> Dual:
        return PolynomialDual(self.coefficients)


class Hermite(ActivationModel):
    """He_degree(x)/sqrt(degree!), orthonormal for unit variance (probabilists' convention)."""

    summary: ClassVar[str] = "He_degree(x)/sqrt(degree!)"
    source: ClassVar[str] = _SOURCE

    fn: Literal["hermite"]
    degree: int = Field(ge=1, le=MAX_DEGREE, strict=True)

    def dual(self) -> Dual:
        return HermiteDual(self.degree)


@dataclass(frozen=True)
class PolynomialDual:
    """Dual kernels of a polynomial given by rising powers."""

    coefficients: tuple[float, ...]
    differentiable: ClassVar[bool] = True
    float32_pairs: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False

    @property
    def degree(self) -> int:
        return len(self.coefficients) - 1

    @property
    def parity(self) -> int:
        """1: odd, -1: even, 0: neither."""
        powers = {k % 2 for k, c in enumerate(self.coefficients) if c != 0}
        return 0 if len(powers) == 2 else (1 if powers == {1} else -1)

    @property
    def flops_per_pair(self) -> float:
        return 10.0 * self.degree + 10.0

    def expansion(self, s: jax.Array) -> list[jax.Array]:
        """a_k(s)/max(1, s)^degree for k = 0..degree."""
        import jax.numpy as jnp

        large = s > 1
        safe = jnp.where(large, s, 1)
        scaled = [
            c * jnp.where(large, safe ** (j - self.degree), s**j)
            for j, c in enumerate(self.coefficients)
        ]
        result = []
        for k in range(self.degree + 1):
            total = jnp.zeros_like(s)
            for j in range(k, self.degree + 1, 2):
                half = (j - k) // 2
                weight = math.factorial(j) / (math.factorial(k) * math.factorial(half) * 2**half)
                total = total + math.sqrt(math.factorial(k)) * weight * scaled[j]
            result.append(total)
        return result

    def deviation(self, s: jax.Array) -> jax.Array:
        """+inf where it exceeds the float64 range."""
        return _deviation(self.expansion(s), s, self.degree)

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        return _variance_derivative(self.expansion(s))

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        if s1 is None or s2 is None:
            raise ValueError("polynomial needs the deviations of both rows")
        return series_pair(self.expansion(s1), self.expansion(s2), pairs, self.parity)


@dataclass(frozen=True)
class HermiteDual:
    """Dual kernels of He_degree/sqrt(degree!), for any variances."""

    degree: int
    differentiable: ClassVar[bool] = True
    float32_pairs: ClassVar[bool] = False
    homogeneous: ClassVar[bool] = False

    @property
    def flops_per_pair(self) -> float:
        return 5.0 * self.degree + 10.0

    def expansion(self, s: jax.Array) -> list[jax.Array]:
        """a_k(s)/max(1, s)^degree for k = 0..degree."""
        import jax.numpy as jnp

        n = self.degree
        large = s > 1
        inverse = jnp.where(large, 1 / jnp.where(large, s, 1), 1)
        within = jnp.minimum(s, 1)
        excess = (within - inverse) * (within + inverse)  # s^2 - 1, or 1 - s^-2
        result = []
        for k in range(n + 1):
            if (n - k) % 2:
                result.append(jnp.zeros_like(s))
                continue
            half = (n - k) // 2
            weight = math.sqrt(math.factorial(n) / math.factorial(k)) / (
                math.factorial(half) * 2**half
            )
            result.append(weight * within**k * excess**half)
        return result

    def deviation(self, s: jax.Array) -> jax.Array:
        """+inf where it exceeds the float64 range."""
        return _deviation(self.expansion(s), s, self.degree)

    def variance_derivative(self, s: jax.Array) -> jax.Array:
        return _variance_derivative(self.expansion(s))

    def pair(
        self, pairs: Correlation, s1: jax.Array | None, s2: jax.Array | None, *, degree: Degree
    ) -> DualPair:
        if s1 is None or s2 is None:
            raise ValueError("hermite needs the deviations of both rows")
        parity = 1 if self.degree % 2 else -1
        return series_pair(self.expansion(s1), self.expansion(s2), pairs, parity)


def series_pair(
    expansion1: Sequence[jax.Array],
    expansion2: Sequence[jax.Array],
    pairs: Correlation,
    parity: int,
) -> DualPair:
    """The pair map of finite Hermite expansions, (n1, 1) and (1, n2) per order.

    Rows whose expansion is 0 (variance 0 and phi(0) = 0) get finite values of no meaning: every
    kernel with such a row is 0.
    """
    import jax.numpy as jnp

    alpha1, alpha2 = _normalised(expansion1), _normalised(expansion2)
    signed = pairs.rho is not None and parity == 0
    given = pairs.signed()
    positive = given >= 0
    rho = given if signed else 1 - pairs.w
    below = jnp.where(positive, pairs.w, 1 - given) if signed else pairs.w  # 1 - rho
    apart = jnp.zeros_like(rho)
    tail = jnp.zeros_like(rho)  # sum of alpha_k alpha'_k over the orders met so far
    quotient = jnp.zeros_like(rho)  # sum_k alpha_k alpha'_k (1 - rho^k)/(1 - rho)
    slope = jnp.zeros_like(rho)
    for k in range(len(alpha1) - 1, 0, -1):
        if parity == 0 or (k % 2 == 1) == (parity == 1):
            product = alpha1[k] * alpha2[k]
            tail = tail + product
            apart = apart + (alpha1[k] - alpha2[k]) ** 2
            slope = slope * rho + k * product
        else:
            slope = slope * rho
        quotient = quotient * rho + tail
    if parity != 1:
        apart = apart + (alpha1[0] - alpha2[0]) ** 2
    distance = jnp.clip(0.5 * apart + below * quotient, 0, 2)  # 1 - rho_E
    w_new = jnp.where(distance <= 1, distance, 2 - distance)
    rho_new = 1 - distance
    if pairs.rho is not None and not signed:
        rho_new = jnp.where(positive | (parity == -1), rho_new, -rho_new)
        slope = jnp.where(positive | (parity == 1), slope, -slope)
    return DualPair(Correlation(jnp.sqrt(w_new), rho_new), slope)


def _normalised(expansion: Sequence[jax.Array]) -> list[jax.Array]:
    import jax.numpy as jnp

    norm = _norm(expansion)
    live = norm > 0
    inverse = jnp.where(live, 1 / jnp.where(live, norm, 1), 0)
    return [a * inverse for a in expansion]


def _norm(expansion: Sequence[jax.Array]) -> jax.Array:
    import jax.numpy as jnp

    total = jnp.zeros_like(expansion[0])
    for a in expansion:
        total = jnp.hypot(total, a)
    return total


def _deviation(expansion: Sequence[jax.Array], s: jax.Array, degree: int) -> jax.Array:
    import jax.numpy as jnp

    return _norm(expansion) * jnp.maximum(s, 1) ** degree


def _variance_derivative(expansion: Sequence[jax.Array]) -> jax.Array:
    alpha = _normalised(expansion)
    return sum((k * a * a for k, a in enumerate(alpha)), start=0 * alpha[0])
