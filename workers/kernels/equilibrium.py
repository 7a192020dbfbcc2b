"""The kernel of a ReLU equilibrium network in closed form: one function of one angle.

With c = sigma_w^2 in (0, 1) and the angle phi between (u x, b) and (u y, b), the angle theta of
the fixed point solves (Feng & Kolter 2020, eqs. 8-9, written for any norms and two slopes)

    (1 - c)(1 - cos theta) + c bend (sin theta - theta cos theta)/pi = (1 - c)(1 - cos phi)

where bend is 1 for ReLU (relu_like.py). Both sides grow from 0 like squares of the angles, and
theta/phi is analytic on [0, pi]. So rho = cos theta, 1/(1 - c kappa0(theta)) and their product are
polynomials of phi: interpolated once per c in Chebyshev nodes, at a few operations per pair. Where
c is so close to 1 that no short polynomial is accurate, pairs are solved by Newton's method.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from workers.kernels.duals.arc_cosine import arc_cosine_pair
from workers.kernels.duals.base import Correlation

if TYPE_CHECKING:
    import jax

    from workers.kernels.duals.base import Degree
    from workers.kernels.duals.relu_like import ReluLikeDual

NODES = 96
"""Chebyshev nodes of the interpolation."""

LARGEST_DEGREE = 72
"""Longest polynomial that is used instead of Newton's method."""

TOLERANCE = {"single": 1e-8, "double": 1e-15}
"""Coefficients below this share of the largest one are left out."""

MAX_NEWTON_STEPS = 200
"""Most Newton steps per pair; convergence is monotone and takes 25 for c = 0.99."""

NEWTON_TOLERANCE = 1e-13
"""Relative change of 1 - cos theta below which the next Newton step is exact to rounding."""


class Series(NamedTuple):
    """Chebyshev coefficients in 2 phi/pi - 1."""

    root: tuple[float, ...]  # sqrt(1 - cos theta)/(phi/pi)
    gain: tuple[float, ...]  # (1 - c)/(1 - c kappa0(theta))
    product: tuple[float, ...]  # cos theta times gain


def fixed_angle(contraction: float, bend: float, phi: NDArray[np.float64]) -> NDArray[np.float64]:
    """theta of angles phi in [0, pi], float64 of any shape, to rounding: bisection, then Newton.

    Works on theta/phi, which lies between 1/2 and 1 or so even where phi is tiny.
    """
    low, high = np.zeros_like(phi), phi.copy()
    target = (1 - contraction) * 2 * np.sin(phi / 2) ** 2
    for _ in range(60):
        middle = 0.5 * (low + high)
        below = _left_side(contraction, bend, middle) < target
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * (low + high)


def _left_side(contraction: float, bend: float, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    # sin t - t cos t = t^3/3 - t^5/30 + t^7/840 - t^9/45360 where the difference would cancel
    square = theta * theta
    series = theta * square * (1 / 3 - square * (1 / 30 - square * (1 / 840 - square / 45360)))
    lune = np.where(theta < 0.1, series, np.sin(theta) - theta * np.cos(theta))
    left: NDArray[np.float64] = (1 - contraction) * 2 * np.sin(theta / 2) ** 2
    return left + contraction * bend * lune / math.pi


@functools.lru_cache(maxsize=64)
def chebyshev_series(contraction: float, bend: float, degree: Degree) -> Series | None:
    """The three functions of phi as short series, or None where they are not short."""
    # T_k at the nodes, with angles reduced as integers: cos of large ones would lose digits.
    quarters = np.outer(np.arange(NODES), 2 * np.arange(NODES) + 1) % (4 * NODES)
    waves = np.cos(math.pi / (2 * NODES) * quarters)
    phi = 0.5 * math.pi * (1 + waves[1])
    theta = fixed_angle(contraction, bend, phi)
    gain = (1 - contraction) / (1 - contraction * (1 - bend * theta / math.pi))
    shortened = []
    for values in (math.sqrt(2) * np.sin(theta / 2) / (phi / math.pi), gain, np.cos(theta) * gain):
        coefficients = 2 / NODES * (waves @ values)
        coefficients[0] /= 2
        large = np.abs(coefficients) > TOLERANCE[degree] * np.max(np.abs(coefficients))
        length = int(np.flatnonzero(large)[-1]) + 1
        if length > LARGEST_DEGREE + 1:
            return None
        shortened.append(tuple(float(c) for c in coefficients[:length]))
    return Series(*shortened)


def equilibrium_pairs(
    dual: ReluLikeDual,
    contraction: float,
    start: Correlation,
    shares: list[jax.Array],
    scales: list[float] | None,
    degree: Degree,
) -> tuple[Correlation, jax.Array]:
    """Correlation and normalised NTK of the fixed point.

    `start` has cos phi as its correlation, and `shares` are the injection's and the bias's parts
    of it. `scales` says how much weights, injection and bias count in the NTK (None: once each).
    """
    series = chebyshev_series(contraction, dual.bend, degree)
    if series is None:
        correlation, theta = _newton(dual, contraction, start, degree)
        gain = (1 - contraction) / (1 - contraction * (1 - dual.bend * theta))
        product = correlation.signed() * gain
    else:
        angle = _half_turns(start, degree)
        z = 2 * angle - 1
        root = angle * _clenshaw(series.root, z)
        gap = root * root
        correlation = Correlation(_root(gap, root), 1 - gap)
        gain, product = _clenshaw(series.gain, z), _clenshaw(series.product, z)
    if scales is None:
        return correlation, product / (1 - contraction)
    # Sigma = c E + (1 - c) cos phi: what the weights add is what the fixed point has beyond that.
    weights, injection, bias = scales
    rest = 1 - contraction
    own = weights * (correlation.signed() - rest * sum(shares[1:], shares[0]))
    for scale, share in zip((injection, bias), shares, strict=False):
        own = own + rest * scale * share
    return correlation, own * gain / rest


def _half_turns(correlation: Correlation, degree: Degree) -> jax.Array:
    """phi/pi in [0, 1]."""
    import jax.numpy as jnp

    acute, _ = arc_cosine_pair(correlation.root, correlation.w, degree)
    return acute if correlation.rho is None else jnp.where(correlation.rho >= 0, acute, 1 - acute)


def _root(gap: jax.Array, root: jax.Array) -> jax.Array:
    """sqrt(1 - |rho|) from gap = 1 - rho and its root."""
    import jax.numpy as jnp

    return jnp.where(gap <= 1, root, jnp.sqrt(jnp.clip(2 - gap, 0, 1)))


def _clenshaw(coefficients: tuple[float, ...], z: jax.Array) -> jax.Array:
    """Chebyshev series at z in [-1, 1]."""
    import jax.numpy as jnp

    first, *others = coefficients
    later, latest = jnp.zeros_like(z), jnp.zeros_like(z)
    for coefficient in reversed(others):
        later, latest = coefficient + 2 * z * later - latest, later
    return first + z * later - latest


def _newton(
    dual: ReluLikeDual, contraction: float, start: Correlation, degree: Degree
) -> tuple[Correlation, jax.Array]:
    """The fixed point and theta/pi, by Newton's method on gamma = 1 - rho from above, where the
    equation is increasing and convex: convergence is monotone."""
    import jax.numpy as jnp
    from jax import lax

    rest, bend = 1 - contraction, dual.bend
    distance = start.below()

    def parts(gamma: jax.Array) -> tuple[jax.Array, jax.Array]:
        """(sin theta - theta cos theta)/pi and theta/pi of cos theta = 1 - gamma."""
        w = jnp.where(gamma <= 1, gamma, 2 - gamma)
        acute, kappa = arc_cosine_pair(jnp.sqrt(w), w, degree)
        lune = w * kappa
        return (
            jnp.where(gamma <= 1, lune, lune + 1 - w),
            jnp.where(gamma <= 1, acute, 1 - acute),
        )

    def step(carry: tuple[Any, ...]) -> tuple[Any, ...]:
        gamma, _, count = carry
        lune, theta = parts(gamma)
        value = rest * gamma + contraction * bend * lune - rest * distance
        slope = rest + contraction * bend * theta
        new = jnp.clip(gamma - value / slope, 0, 2)
        change = jnp.max(jnp.abs(new - gamma) / jnp.where(new > 0, new, 1))
        return new, change, count + 1

    def moving(carry: tuple[Any, ...]) -> Any:
        _, change, count = carry
        return (change > NEWTON_TOLERANCE) & (count < MAX_NEWTON_STEPS)

    first: tuple[Any, ...] = (distance, jnp.asarray(jnp.inf, distance.dtype), jnp.int32(0))
    gamma, _, _ = lax.while_loop(moving, step, first)
    root = jnp.sqrt(gamma)
    return Correlation(_root(gamma, root), 1 - gamma), parts(gamma)[1]
