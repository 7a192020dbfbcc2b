"""The variance map V(q) = b_std^2 + w_std^2 E[phi(sqrt(q) z)^2] and its fixed points.

Poole et al. 2016, eq. 3; Hayou et al. 2019 (The impact of the activation function). A fixed
point q* attracts iff |V'(q*)| < 1. chi = w_std^2 E[phi'(sqrt(q*) z)^2] is what a small angle
between two inputs, and the NTK, are multiplied by per layer there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from workers.kernels.duals.base import ActivationModel
from workers.mean_field.moments import Moments, check_deviations, moments
from workers.mean_field.roots import Search, all_roots

Floats = NDArray[np.float64]
Stability = Literal["stable", "neutral", "unstable"]

NEUTRAL_SLOPE = 1e-9
"""|V'| closer than this to 1 is neutral: rounding decides on which side it lies."""


@dataclass(frozen=True)
class FixedPoint:
    """One q* = V(q*)."""

    variance: float
    slope: float  # V'(q*)
    chi: float
    stability: Stability


@dataclass(frozen=True)
class VarianceDynamics:
    """All fixed points of V found in `search`, by rising variance.

    `every_variance`: V(q) = q for all q (homogeneous activation, no bias, w_std^2 E[phi^2] = q);
    then `fixed_points` is empty. `diverges`: V(q) > q at the upper end of the search, so that
    large variances grow beyond it.
    """

    fixed_points: tuple[FixedPoint, ...]
    every_variance: bool
    diverges: bool
    search: Search


def variance_map(
    activation: str | dict[str, Any] | ActivationModel, w_std: float, b_std: float, q: Floats
) -> Floats:
    """V(q) for variances `q` of any shape, float64."""
    check_deviations(w_std, b_std)
    return _map(moments(activation), w_std, b_std, np.asarray(q, float))


def variance_slope(
    activation: str | dict[str, Any] | ActivationModel, w_std: float, q: Floats
) -> Floats:
    """V'(q) for variances `q` (n,), float64, relative accuracy about 1e-12."""
    check_deviations(w_std, 0.0)
    return slopes(moments(activation), w_std, np.atleast_1d(np.asarray(q, float)))


def variance_dynamics(
    activation: str | dict[str, Any] | ActivationModel,
    w_std: float,
    b_std: float,
    *,
    search: Search | None = None,
) -> VarianceDynamics:
    """The fixed points of V, with V' and chi of each."""
    check_deviations(w_std, b_std)
    return dynamics_of(moments(activation), w_std, b_std, search or Search())


def dynamics_of(phi: Moments, w_std: float, b_std: float, search: Search) -> VarianceDynamics:
    """`variance_dynamics` for moments already at hand."""
    if phi.homogeneous:
        return _homogeneous(phi, w_std, b_std, search)
    origin = float(_map(phi, w_std, b_std, np.zeros(1))[0])
    # A fixed point is at least of the size of V(0), which may lie below the usual range.
    lowest = min(search.lowest, origin / 10) if origin > 0 else search.lowest
    ranged = Search(lowest, search.highest, search.points, search.noise)
    roots = all_roots(lambda q: _map(phi, w_std, b_std, q) / q - 1, ranged)
    points = [fixed_point(phi, w_std, root) for root in roots]
    if origin == 0:
        points.insert(0, fixed_point(phi, w_std, 0.0))
    top = np.array([search.highest])
    return VarianceDynamics(
        fixed_points=tuple(points),
        every_variance=False,
        diverges=bool(_map(phi, w_std, b_std, top)[0] > top[0]),
        search=ranged,
    )


def fixed_point(phi: Moments, w_std: float, variance: float) -> FixedPoint:
    """What is known of the fixed point at `variance`."""
    at = np.array([variance])
    slope = float(slopes(phi, w_std, at)[0])
    return FixedPoint(variance, slope, w_std**2 * float(phi.slope(at)[0]), stability(slope))


def stability(slope: float) -> Stability:
    """Whether a fixed point with V' = `slope` attracts."""
    if abs(abs(slope) - 1) <= NEUTRAL_SLOPE:
        return "neutral"
    return "stable" if abs(slope) < 1 else "unstable"


def slopes(phi: Moments, w_std: float, q: Floats) -> Floats:
    """V'(q) = w_std^2 (E[phi^2]/q) d ln E[phi^2]/d ln q, (n,); at 0, where phi(0) = 0, its limit
    w_std^2 phi'(0)^2."""
    zero = q == 0
    safe = np.where(zero, 1.0, q)
    inside = w_std**2 * phi.second(safe) / safe * phi.elasticity(safe)
    return np.asarray(np.where(zero, w_std**2 * phi.slope(q), inside))


def _map(phi: Moments, w_std: float, b_std: float, q: Floats) -> Floats:
    return np.asarray(b_std**2 + w_std**2 * phi.second(q))


def _homogeneous(phi: Moments, w_std: float, b_std: float, search: Search) -> VarianceDynamics:
    """V(q) = b^2 + chi q, exactly."""
    chi = w_std**2 * float(phi.second(np.ones(1))[0])
    # w_std = sqrt(2) gives chi = 1 only up to rounding.
    critical = math.isclose(chi, 1, rel_tol=1e-14)
    if critical:
        chi = 1.0
    points: tuple[FixedPoint, ...] = ()
    if b_std == 0 and not critical:
        points = (FixedPoint(0.0, chi, chi, stability(chi)),)
    elif chi < 1:
        points = (FixedPoint(b_std**2 / (1 - chi), chi, chi, stability(chi)),)
    return VarianceDynamics(
        fixed_points=points,
        every_variance=critical and b_std == 0,
        diverges=chi > 1 or (critical and b_std > 0),
        search=search,
    )
