"""The phase of a network: what depth does to variances and to small angles between inputs.

Poole et al. 2016; Schoenholz et al. 2017; Hayou et al. 2019. With chi = w_std^2 E[phi'^2] at the
fixed point that the variance approaches: chi < 1 ordered (all inputs become equal), chi > 1
chaotic (inputs keep apart), chi = 1 edge of chaos.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from workers.analyses.errors import InvalidAnalysisError
from workers.kernels.duals.base import ActivationModel
from workers.mean_field.moments import Moments, check_deviations, moments
from workers.mean_field.roots import Search
from workers.mean_field.variance_map import FixedPoint, VarianceDynamics, dynamics_of

Phase = Literal["ordered", "edge-of-chaos", "chaotic", "unbounded"]

CHI_TOLERANCE = 1e-8
"""|chi - 1| up to this counts as the edge of chaos. Published critical values with 4 digits
(tanh (0.2, 1.302): chi = 0.9988) are therefore ordered, as deep networks there are."""

_SETTLING_STEPS = 64
"""Iterations of V before the fixed point is chosen by monotonicity: those with V' < 0 (cos)
have settled by then, and of monotone ones it changes nothing."""


@dataclass(frozen=True)
class PhaseReport:
    """Phase of one (w_std, b_std).

    `variance`, `chi`, `variance_slope` (V') belong to the fixed point that `start_variance`
    leads to; None in phase `unbounded`, where the variance grows without limit (or beyond the
    range searched). `fixed_points` are all of them, stable or not; empty when every variance is
    one (homogeneous activation at its edge), in which case `variance` is `start_variance`.
    """

    activation: str
    w_std: float
    b_std: float
    start_variance: float
    phase: Phase
    variance: float | None
    chi: float | None
    variance_slope: float | None
    fixed_points: tuple[FixedPoint, ...]
    every_variance: bool


def phase(
    activation: str | dict[str, Any] | ActivationModel,
    w_std: float,
    b_std: float,
    *,
    start_variance: float = 1.0,
    chi_tolerance: float = CHI_TOLERANCE,
    search: Search | None = None,
) -> PhaseReport:
    """The phase that a network with first-layer variance `start_variance` is in.

    `start_variance` (w_std^2 |x|^2/d + b_std^2) matters only where several fixed points attract.
    Raises InvalidKernelError for an unknown activation and InvalidAnalysisError for bad numbers.
    """
    return phase_of(
        moments(activation), w_std, b_std, start_variance, chi_tolerance, search or Search()
    )


def phase_of(
    phi: Moments,
    w_std: float,
    b_std: float,
    start_variance: float,
    chi_tolerance: float,
    search: Search,
) -> PhaseReport:
    """`phase` for moments already at hand."""
    check_deviations(w_std, b_std)
    if not (np.isfinite(start_variance) and start_variance > 0):
        raise InvalidAnalysisError(
            f"The start variance {start_variance!r} is not a positive number.",
            advice="Give w_std^2 |x|^2/d + b_std^2 of a typical input.",
        )
    dynamics = dynamics_of(phi, w_std, b_std, search)
    if dynamics.every_variance:
        found = FixedPoint(start_variance, 1.0, 1.0, "neutral")
    else:
        chosen = _attractor(phi, w_std, b_std, start_variance, dynamics)
        if chosen is None:
            return PhaseReport(
                phi.name, w_std, b_std, start_variance, "unbounded",
                None, None, None, dynamics.fixed_points, False,
            )  # fmt: skip
        found = chosen
    return PhaseReport(
        activation=phi.name,
        w_std=w_std,
        b_std=b_std,
        start_variance=start_variance,
        phase=phase_from_chi(found.chi, chi_tolerance),
        variance=found.variance,
        chi=found.chi,
        variance_slope=found.slope,
        fixed_points=dynamics.fixed_points,
        every_variance=dynamics.every_variance,
    )


def phase_from_chi(chi: float, tolerance: float = CHI_TOLERANCE) -> Phase:
    """The phase of a bounded variance with slope `chi`."""
    if abs(chi - 1) <= tolerance:
        return "edge-of-chaos"
    return "ordered" if chi < 1 else "chaotic"


def _attractor(
    phi: Moments, w_std: float, b_std: float, start: float, dynamics: VarianceDynamics
) -> FixedPoint | None:
    """The fixed point that iterating V from `start` leads to; None if it runs away.

    Where V rises, iterates move monotonically to the next fixed point on the side they start to.
    """

    def image(q: float) -> float:
        return b_std**2 + w_std**2 * float(phi.second(np.array([q]))[0])

    q = start
    for _ in range(_SETTLING_STEPS):
        following = image(q)
        if abs(following - q) <= 1e-14 * q:
            break
        q = following
        if q > dynamics.search.highest:
            return None
    near = [p for p in dynamics.fixed_points if abs(p.variance - q) <= 1e-9 * q]
    if near:
        return near[0]
    if image(q) > q:
        above = [p for p in dynamics.fixed_points if p.variance > q]
        return above[0] if above else None
    below = [p for p in dynamics.fixed_points if p.variance < q]
    return below[-1] if below else None
