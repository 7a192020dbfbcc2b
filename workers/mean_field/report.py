"""Mean-field questions as one call each, with answers that are plain data: what jobs run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.kernels.duals.base import ActivationModel
from workers.mean_field.convergence import (
    DepthConvergence,
    ExponentialFit,
    LogarithmicFit,
    depth_convergence,
)
from workers.mean_field.deep import Architecture, check_architecture
from workers.mean_field.depth_limit import DepthLimit, depth_limit, residual_depth_limit
from workers.mean_field.edge_of_chaos import EdgeOfChaos, edge_of_chaos
from workers.mean_field.moments import check_range
from workers.mean_field.phase import CHI_TOLERANCE, PhaseReport, phase
from workers.mean_field.plot import convergence_plot
from workers.mean_field.roots import HIGHEST_VARIANCE as HIGHEST
from workers.mean_field.roots import LOWEST_VARIANCE as LOWEST
from workers.mean_field.roots import Search

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ConvergenceReport:
    """`table`: the rows of DepthConvergence, one per depth. `plot`: a Vega-Lite document."""

    architecture: Architecture
    limit: DepthLimit
    table: list[dict[str, float]]
    local_rates: Floats  # (depths - 1,)
    fit: ExponentialFit | LogarithmicFit | None
    diagonal_growth: float | None
    plot: dict[str, Any]
    notes: tuple[str, ...]


def edge_report(
    *,
    activation: str | dict[str, Any] | ActivationModel,
    b_std: float,
    lowest_variance: float = LOWEST,
    highest_variance: float = HIGHEST,
) -> EdgeOfChaos:
    """`edge_of_chaos` between two variances. Raises as it does."""
    return edge_of_chaos(activation, b_std, search=_search(lowest_variance, highest_variance))


def phase_report(
    *,
    activation: str | dict[str, Any] | ActivationModel,
    w_std: float,
    b_std: float,
    start_variance: float = 1.0,
    chi_tolerance: float = CHI_TOLERANCE,
    lowest_variance: float = LOWEST,
    highest_variance: float = HIGHEST,
) -> PhaseReport:
    """`phase` with fixed points looked for between two variances. Raises as it does."""
    return phase(
        activation,
        w_std,
        b_std,
        start_variance=start_variance,
        chi_tolerance=chi_tolerance,
        search=_search(lowest_variance, highest_variance),
    )


def limit_report(
    *,
    activation: str | dict[str, Any] | ActivationModel,
    w_std: float,
    b_std: float = 0.0,
    start_variance: float = 1.0,
    architecture: Architecture = "dense",
    chi_tolerance: float = CHI_TOLERANCE,
    lowest_variance: float = LOWEST,
    highest_variance: float = HIGHEST,
) -> DepthLimit:
    """`depth_limit`, or `residual_depth_limit`, which has no bias and every variance. Raises as
    they do."""
    check_architecture(architecture, b_std)
    if architecture == "residual":
        return residual_depth_limit(activation, w_std, start_variance=start_variance)
    return depth_limit(
        activation,
        w_std,
        b_std,
        start_variance=start_variance,
        chi_tolerance=chi_tolerance,
        search=_search(lowest_variance, highest_variance),
    )


def convergence_report(
    x: Floats,
    *,
    activation: str | dict[str, Any] | ActivationModel,
    depths: Sequence[int],
    w_std: float,
    b_std: float = 0.0,
    architecture: Architecture = "dense",
    chi_tolerance: float = CHI_TOLERANCE,
    lowest_variance: float = LOWEST,
    highest_variance: float = HIGHEST,
) -> ConvergenceReport:
    """`depth_convergence` of rows `x` (m, d), with its table and its picture. Raises as it does."""
    found: DepthConvergence = depth_convergence(
        activation,
        x,
        [*depths],
        w_std=w_std,
        b_std=b_std,
        architecture=architecture,
        chi_tolerance=chi_tolerance,
        search=_search(lowest_variance, highest_variance),
    )
    return ConvergenceReport(
        architecture=found.architecture,
        limit=found.limit,
        table=found.rows(),
        local_rates=found.local_rates,
        fit=found.fit,
        diagonal_growth=found.diagonal_growth,
        plot=convergence_plot(found),
        notes=found.notes,
    )


def _search(lowest: float, highest: float) -> Search:
    check_range(lowest, highest)
    return Search(lowest=lowest, highest=highest)
