"""Activations as functions of a number: what quadrature needs to know of one.

Each has at most one kink, at 0, no jumps, and grows at most linearly. The functions take NumPy
arrays or JAX arrays: `xp` is numpy or jax.numpy.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

Array = Any  # NumPy or JAX, as `xp`

GELU_TANH_CUBIC = 0.044715
"""Hendrycks & Gimpel 2016: sqrt(2/pi) (x + 0.044715 x^3) in the tanh of the approximation."""


@dataclass(frozen=True)
class Function(ABC):
    """Base: phi and its derivative (at the kink, either side)."""

    odd: ClassVar[bool] = False
    nonnegative: ClassVar[bool] = False

    @abstractmethod
    def value(self, x: Array, xp: Any) -> Array:
        """phi(x)."""

    @abstractmethod
    def slope(self, x: Array, xp: Any) -> Array:
        """phi'(x)."""


@dataclass(frozen=True)
class LinearFunction(Function):
    odd: ClassVar[bool] = True

    def value(self, x: Array, xp: Any) -> Array:
        return x

    def slope(self, x: Array, xp: Any) -> Array:
        return xp.ones_like(x)


@dataclass(frozen=True)
class ReluLikeFunction(Function):
    positive: float
    negative: float

    def value(self, x: Array, xp: Any) -> Array:
        return xp.where(x > 0, self.positive, self.negative) * x

    def slope(self, x: Array, xp: Any) -> Array:
        return xp.where(x > 0, self.positive, self.negative) + 0 * x


@dataclass(frozen=True)
class TanhFunction(Function):
    odd: ClassVar[bool] = True

    def value(self, x: Array, xp: Any) -> Array:
        return xp.tanh(x)

    def slope(self, x: Array, xp: Any) -> Array:
        decay = xp.exp(-2 * xp.abs(x))
        return 4 * decay / (1 + decay) ** 2


@dataclass(frozen=True)
class SigmoidFunction(Function):
    nonnegative: ClassVar[bool] = True

    def value(self, x: Array, xp: Any) -> Array:
        return _logistic(x, xp)[0]

    def slope(self, x: Array, xp: Any) -> Array:
        decay = xp.exp(-xp.abs(x))
        return decay / (1 + decay) ** 2


@dataclass(frozen=True)
class SoftplusFunction(Function):
    nonnegative: ClassVar[bool] = True

    def value(self, x: Array, xp: Any) -> Array:
        return xp.maximum(x, 0) + xp.log1p(xp.exp(-xp.abs(x)))

    def slope(self, x: Array, xp: Any) -> Array:
        return _logistic(x, xp)[0]


@dataclass(frozen=True)
class SiluFunction(Function):
    def value(self, x: Array, xp: Any) -> Array:
        return x * _logistic(x, xp)[0]

    def slope(self, x: Array, xp: Any) -> Array:
        up, down = _logistic(x, xp)
        return up * (1 + x * down)


@dataclass(frozen=True)
class MishFunction(Function):
    """x tanh(softplus(x)) = x (1 + 2 e^-x)/(1 + 2 e^-x + 2 e^-2x)."""

    def value(self, x: Array, xp: Any) -> Array:
        return x * self._gate(x, xp)[0]

    def slope(self, x: Array, xp: Any) -> Array:
        gate, rest = self._gate(x, xp)
        return gate + x * rest * _logistic(x, xp)[0]

    def _gate(self, x: Array, xp: Any) -> tuple[Array, Array]:
        """tanh(softplus(x)) and 1 - its square."""
        decay = xp.exp(-xp.abs(x))
        positive = x > 0
        above = xp.where(positive, 1 + 2 * decay, decay * (decay + 2))
        beside = xp.where(positive, 2 * decay * decay, 2)
        total = above + beside
        return above / total, beside * (2 * above + beside) / total**2


@dataclass(frozen=True)
class EluFunction(Function):
    alpha: float
    scale: float

    def value(self, x: Array, xp: Any) -> Array:
        return self.scale * xp.where(x > 0, x, self.alpha * xp.expm1(xp.minimum(x, 0)))

    def slope(self, x: Array, xp: Any) -> Array:
        return self.scale * xp.where(x > 0, 1, self.alpha * xp.exp(xp.minimum(x, 0)))


@dataclass(frozen=True)
class ErfFunction(Function):
    amplitude: float
    scale: float
    odd: ClassVar[bool] = True

    def value(self, x: Array, xp: Any) -> Array:
        return self.amplitude * _erf(self.scale * x, xp)

    def slope(self, x: Array, xp: Any) -> Array:
        scaled = self.scale * x
        return self.amplitude * self.scale * 2 / math.sqrt(math.pi) * xp.exp(-scaled * scaled)


@dataclass(frozen=True)
class GeluFunction(Function):
    def value(self, x: Array, xp: Any) -> Array:
        return x * _normal_cdf(x, xp)

    def slope(self, x: Array, xp: Any) -> Array:
        density = xp.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)
        return _normal_cdf(x, xp) + x * density


@dataclass(frozen=True)
class GeluTanhFunction(Function):
    """x (1 + tanh(a))/2 = x logistic(2 a), a = sqrt(2/pi) (x + 0.044715 x^3)."""

    def value(self, x: Array, xp: Any) -> Array:
        return x * _logistic(self._argument(x)[0], xp)[0]

    def slope(self, x: Array, xp: Any) -> Array:
        argument, growth = self._argument(x)
        up, down = _logistic(argument, xp)
        return up + (x * up) * (down * growth)

    def _argument(self, x: Array) -> tuple[Array, Array]:
        factor = 2 * math.sqrt(2 / math.pi)
        square = x * x
        return (
            factor * x * (1 + GELU_TANH_CUBIC * square),
            factor * (1 + 3 * GELU_TANH_CUBIC * square),
        )


@dataclass(frozen=True)
class ConstantFunction(Function):
    def value(self, x: Array, xp: Any) -> Array:
        return xp.ones_like(x)

    def slope(self, x: Array, xp: Any) -> Array:
        return xp.zeros_like(x)


@dataclass(frozen=True)
class CombinedFunction(Function):
    """Sum of coefficients[k] parts[k](x)."""

    coefficients: tuple[float, ...]
    parts: tuple[Function, ...]

    @property
    def odd(self) -> bool:  # type: ignore[override]
        return all(part.odd for part in self.parts)

    def value(self, x: Array, xp: Any) -> Array:
        terms = zip(self.coefficients, self.parts, strict=True)
        return sum((c * part.value(x, xp) for c, part in terms), start=0 * x)

    def slope(self, x: Array, xp: Any) -> Array:
        terms = zip(self.coefficients, self.parts, strict=True)
        return sum((c * part.slope(x, xp) for c, part in terms), start=0 * x)


def _logistic(x: Array, xp: Any) -> tuple[Array, Array]:
    """1/(1 + e^-x) and 1/(1 + e^x), both with relative accuracy."""
    decay = xp.exp(-xp.abs(x))
    large, small = 1 / (1 + decay), decay / (1 + decay)
    return xp.where(x > 0, large, small), xp.where(x > 0, small, large)


def _normal_cdf(x: Array, xp: Any) -> Array:
    return 0.5 * _erfc(-x / math.sqrt(2), xp)


def _erf(x: Array, xp: Any) -> Array:
    if xp.__name__ == "numpy":
        from scipy import special
    else:
        from jax.scipy import special
    return special.erf(x)


def _erfc(x: Array, xp: Any) -> Array:
    if xp.__name__ == "numpy":
        from scipy import special
    else:
        from jax.scipy import special
    return special.erfc(x)
