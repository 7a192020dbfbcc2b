"""The edge of chaos: (b_std, w_std) whose variance map has a fixed point with chi = 1.

Schoenholz et al. 2017; Hayou et al. 2019. Along the edge w_std^2 = 1/E[phi'^2] and
b_std^2 = q - E[phi^2]/E[phi'^2] at the fixed point's variance q, so all of it is found by
scanning the one number q. A fixed point with V'(q) >= 1 is on the edge but never reached.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.kernels.duals.base import ActivationModel
from workers.mean_field.moments import Moments, check_deviations, moments
from workers.mean_field.roots import Search, all_roots
from workers.mean_field.variance_map import Stability, slopes, stability

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class CriticalPoint:
    """One point of the edge. `variance` is None where every variance is a fixed point.

    `variance_slope` is V'(variance); only `stable` points attract, `neutral` ones keep the
    variance or approach it slower than exponentially.
    """

    b_std: float
    w_std: float
    variance: float | None
    variance_slope: float
    stability: Stability


@dataclass(frozen=True)
class EdgeOfChaos:
    """All critical points at one b_std with variances in the range searched."""

    activation: str
    b_std: float
    points: tuple[CriticalPoint, ...]
    search: Search
    notes: tuple[str, ...]

    @property
    def stable(self) -> tuple[CriticalPoint, ...]:
        """The points that a deep network can be at: not unstable."""
        return tuple(point for point in self.points if point.stability != "unstable")


def edge_of_chaos(
    activation: str | dict[str, Any] | ActivationModel,
    b_std: float,
    *,
    search: Search | None = None,
) -> EdgeOfChaos:
    """Every critical w_std for bias deviation `b_std`, by rising variance.

    Raises InvalidKernelError for an unknown activation, InvalidAnalysisError if b_std is not a
    deviation or the activation has no NTK.
    """
    check_deviations(1.0, b_std)
    phi = moments(activation)
    within = search or Search()
    if phi.homogeneous:
        return _homogeneous(phi, b_std, within)
    roots = all_roots(lambda q: 1 - 1 / phi.ratio(q) - b_std**2 / q, within)
    points = [_critical(phi, b_std, root) for root in roots]
    notes = []
    if b_std == 0 and phi.linear_at_origin:
        points.insert(0, _critical(phi, b_std, 0.0))
        notes.append("At variance 0 the edge is reached only as the variance decays to 0.")
    if not points:
        notes.append(
            f"No edge of chaos at b_std = {b_std:g} with a variance in "
            f"[{within.lowest:g}, {within.highest:g}]."
        )
    elif all(point.stability == "unstable" for point in points):
        notes.append("Every critical point here is unstable: deep networks do not stay at it.")
    return EdgeOfChaos(phi.name, b_std, tuple(points), within, tuple(notes))


def edge_at_variance(
    activation: str | dict[str, Any] | ActivationModel, q: Floats
) -> tuple[Floats, Floats]:
    """The edge as a curve: (b_std^2, w_std) for fixed-point variances `q` (n,) > 0, each (n,).

    b_std^2 < 0 means that no network has its edge at that variance.
    """
    phi = moments(activation)
    variances = np.asarray(q, float)
    return variances * (1 - 1 / phi.ratio(variances)), 1 / np.sqrt(phi.slope(variances))


def _critical(phi: Moments, b_std: float, variance: float) -> CriticalPoint:
    at = np.array([variance])
    w_std = 1 / math.sqrt(float(phi.slope(at)[0]))
    slope = float(slopes(phi, w_std, at)[0])
    return CriticalPoint(b_std, w_std, variance, slope, stability(slope))


def _homogeneous(phi: Moments, b_std: float, search: Search) -> EdgeOfChaos:
    """V(q) = b^2 + chi q: chi = 1 has fixed points only without bias, and then every q is one."""
    w_std = 1 / math.sqrt(float(phi.second(np.ones(1))[0]))
    if b_std > 0:
        note = f"{phi.name} is homogeneous: its edge of chaos is b_std = 0, w_std = {w_std:.17g}."
        return EdgeOfChaos(phi.name, b_std, (), search, (note,))
    point = CriticalPoint(0.0, w_std, None, 1.0, "neutral")
    return EdgeOfChaos(phi.name, b_std, (point,), search, ("Every variance is a fixed point.",))
