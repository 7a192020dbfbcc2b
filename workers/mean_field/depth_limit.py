"""What NNGP and NTK tend to with depth, and what to divide them by.

T^L is the NTK of L affine layers, q the variance of the fixed point, chi its slope, c* the
correlation that two inputs approach. Hayou et al. 2019 (Mean-field behaviour of neural tangent
kernel), propositions 1-3, with these corrections, which numbers confirm:

* chaotic: only x != x' has a limit; on the diagonal T^L grows as chi^L (proposition 1 claims a
  constant kernel; normalised, the limit is the identity matrix);
* ordered: the rate is exponential, but chi^(L/2), not chi^L, for activations with a kink;
* edge of chaos: T^L(x,x')/L tends to q/4 at the rate ln(L)/L for ReLU-like activations too
  (proposition 2 claims 1/L);
* residual: T^L grows as L A^(L-1), A = 1 + w_std^2 E[phi(z)^2], for every w_std (proposition 3
  has other normalisers).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from workers.analyses.errors import InvalidAnalysisError
from workers.kernels.duals.base import ActivationModel
from workers.mean_field.correlation_map import (
    SlowContraction,
    chaotic_distance,
    slow_contraction,
    step,
)
from workers.mean_field.deep import residual_growth
from workers.mean_field.moments import Moments, check_deviations, moments
from workers.mean_field.phase import CHI_TOLERANCE, PhaseReport, phase_of
from workers.mean_field.roots import Search

Normaliser = Literal["1", "depth", "depth*growth^(depth-1)"]


@dataclass(frozen=True)
class DepthLimit:
    """Limits of K^L / growth^(L-1) and of T^L / `normaliser`; `growth` is 1 unless residual.

    `equal`: x = x'; `distinct`: x != x', and x' != -x where phi is even or odd. Limits
    are for inputs of variance `variance`; where every variance is a fixed point, and for residual
    networks, multiply by sqrt(q q')/variance. `ntk_equal` is None in the chaotic phase, where it
    grows as chi^L. `log_slope`: rates on the edge of chaos, see SlowContraction; `decay` in the
    other phases: d ln|T^L - limit| / dL for x != x', up to powers of L.
    """

    phase: PhaseReport | None
    normaliser: Normaliser
    growth: float
    variance: float
    correlation: float
    nngp_equal: float
    nngp_distinct: float
    ntk_equal: float | None
    ntk_distinct: float
    decay: float | None
    log_slope: float | None
    notes: tuple[str, ...]


def depth_limit(
    activation: str | dict[str, Any] | ActivationModel,
    w_std: float,
    b_std: float,
    *,
    start_variance: float = 1.0,
    chi_tolerance: float = CHI_TOLERANCE,
    search: Search | None = None,
) -> DepthLimit:
    """The limit for a fully connected network with the same (w_std, b_std) in every layer.

    `start_variance`: of the first affine layer, w_std^2 |x|^2/d + b_std^2. Raises
    InvalidKernelError, and InvalidAnalysisError where the variance is unbounded or angles are
    kept forever (linear activations), so that no limit exists.
    """
    phi = moments(activation)
    return limit_of(phi, w_std, b_std, start_variance, chi_tolerance, search or Search())


def limit_of(
    phi: Moments,
    w_std: float,
    b_std: float,
    start_variance: float,
    chi_tolerance: float,
    search: Search,
) -> DepthLimit:
    """`depth_limit` for moments already at hand."""
    report = phase_of(phi, w_std, b_std, start_variance, chi_tolerance, search)
    if report.variance is None or report.chi is None or report.variance_slope is None:
        raise InvalidAnalysisError(
            f"The variance of {phi.name} with w_std = {w_std:g}, b_std = {b_std:g} is unbounded, "
            "so its kernels have no limit.",
            advice="Choose a smaller w_std.",
        )
    if report.variance == 0:
        return _vanishing(report)
    if report.phase == "ordered":
        return _ordered(phi, report)
    if report.phase == "chaotic":
        return _chaotic(phi, report)
    return _critical(phi, report)


def residual_depth_limit(
    activation: str | dict[str, Any] | ActivationModel, w_std: float, *, start_variance: float = 1.0
) -> DepthLimit:
    """The limit for y^l = y^(l-1) + (w_std/sqrt(n)) W phi(y^(l-1)), homogeneous phi, no bias.

    `start_variance`: of the first affine layer. Raises InvalidAnalysisError for other phi.
    """
    check_deviations(w_std, 0.0)
    return residual_limit_of(moments(activation), w_std, start_variance)


def residual_limit_of(phi: Moments, w_std: float, start_variance: float) -> DepthLimit:
    """`residual_depth_limit` for moments already at hand."""
    growth = residual_growth(phi, w_std)
    branch = 1 - 1 / growth
    # The distance map is the shortcut's identity plus the branch's, at its own edge of chaos.
    contraction = _contraction(phi, growth, start_variance)
    return DepthLimit(
        phase=None,
        normaliser="depth*growth^(depth-1)",
        growth=growth,
        variance=start_variance,
        correlation=1.0,
        nngp_equal=start_variance,
        nngp_distinct=start_variance,
        ntk_equal=branch * start_variance,
        ntk_distinct=contraction.ntk_ratio * branch * start_variance,
        decay=None,
        log_slope=contraction.log_slope,
        notes=(),
    )


def _contraction(phi: Moments, growth: float, variance: float) -> SlowContraction:
    edge = 1 / math.sqrt(float(phi.second(np.ones(1))[0]))
    found = slow_contraction(phi, edge, 0.0, variance)
    if found is None:
        raise _angles_kept(phi)
    branch = 1 - 1 / growth
    return SlowContraction(found.exponent, branch * found.coefficient, branch * found.correction)


def _angles_kept(phi: Moments) -> InvalidAnalysisError:
    return InvalidAnalysisError(
        f"{phi.name} keeps all angles between inputs, so its kernels have no limit that is the "
        "same for all pairs.",
        advice="Use an activation that is not linear.",
    )


def _vanishing(report: PhaseReport) -> DepthLimit:
    """Variances decay to 0, and the kernels with them: K^L ~ chi^L, T^L ~ L chi^L."""
    chi = report.chi
    return DepthLimit(
        phase=report,
        normaliser="1" if report.phase == "ordered" else "depth",
        growth=1.0,
        variance=0.0,
        correlation=1.0,
        nngp_equal=0.0,
        nngp_distinct=0.0,
        ntk_equal=0.0,
        ntk_distinct=0.0,
        decay=math.log(chi) if chi and report.phase == "ordered" else None,
        log_slope=None,
        notes=("The variance decays to 0 with depth, and so do the kernels.",),
    )


def _ordered(phi: Moments, report: PhaseReport) -> DepthLimit:
    """1 - c_l ~ chi^l, and chi(c) differs from chi by (1 - c)^p: a kink halves the rate."""
    q, chi, slope = _numbers(report)
    contraction = slow_contraction(phi, report.w_std, report.b_std, q)
    exponent = 1.0 if contraction is None else contraction.exponent
    return DepthLimit(
        phase=report,
        normaliser="1",
        growth=1.0,
        variance=q,
        correlation=1.0,
        nngp_equal=q,
        nngp_distinct=q,
        ntk_equal=q / (1 - chi),
        ntk_distinct=q / (1 - chi),
        decay=math.log(max(chi**exponent, abs(slope))),
        log_slope=None,
        notes=(),
    )


def _chaotic(phi: Moments, report: PhaseReport) -> DepthLimit:
    q, _, slope = _numbers(report)
    distance = chaotic_distance(phi, report.w_std, report.b_std, q)
    chi_distinct = float(step(phi, report.w_std, report.b_std, q, np.array([distance])).chi[0])
    nngp = q * (1 - distance)
    rate = max(chi_distinct, abs(slope))
    return DepthLimit(
        phase=report,
        normaliser="1",
        growth=1.0,
        variance=q,
        correlation=1 - distance,
        nngp_equal=q,
        nngp_distinct=nngp,
        ntk_equal=None,
        ntk_distinct=nngp / (1 - chi_distinct),
        decay=math.log(rate) if rate > 0 else None,
        log_slope=None,
        notes=(
            "For x = x' the NTK grows as chi^depth; divided by its diagonal, the NTK matrix tends "
            "to the identity.",
        ),
    )


def _critical(phi: Moments, report: PhaseReport) -> DepthLimit:
    q, _, _ = _numbers(report)
    contraction = slow_contraction(phi, report.w_std, report.b_std, q)
    if contraction is None:
        raise _angles_kept(phi)
    return DepthLimit(
        phase=report,
        normaliser="depth",
        growth=1.0,
        variance=q,
        correlation=1.0,
        nngp_equal=q,
        nngp_distinct=q,
        ntk_equal=q,
        ntk_distinct=contraction.ntk_ratio * q,
        decay=None,
        log_slope=contraction.log_slope,
        notes=(),
    )


def _numbers(report: PhaseReport) -> tuple[float, float, float]:
    """Variance, chi and V' of a bounded phase."""
    if report.variance is None or report.chi is None or report.variance_slope is None:
        raise ValueError("an unbounded phase has no fixed point")
    return report.variance, report.chi, report.variance_slope
