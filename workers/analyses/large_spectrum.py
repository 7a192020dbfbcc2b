"""The spectrum of a stored Gram matrix of any size, in passes over its tiles.

The largest eigenvalues with certified residuals (block Lanczos), and what the others add up to
(stochastic Lanczos quadrature, the largest counted exactly): effective dimension, log-determinant,
how many eigenvalues lie between which values. The smallest eigenvalue is not found: the condition
number is known with a ridge only, as a bound.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client

from workers.analyses.checks import Floats
from workers.analyses.eigenvalues import not_a_kernel
from workers.analyses.kernel_pca import oriented
from workers.one_worker import Computed
from workers.solves.block_lanczos import block_columns, top_eigenpairs
from workers.solves.errors import SolveInterrupted, require_usable
from workers.solves.lanczos_quadrature import Quadrature, lanczos_quadrature
from workers.solves.operator import Products
from workers.solves.request import OnProgress
from workers.solves.solution import Float64, Outcome
from workers.solves.solve_cluster import SolveCluster
from workers.solves.source import StoredTiles
from workers.solves.spectrum import Spectrum

DENSITY_BINS = 48
"""Bins of equal width in the logarithm, from the noise floor to the largest eigenvalue."""


@dataclass(frozen=True)
class LargeSpectrum:
    """A request. `largest` eigenvalues are wanted; `ridge` as of `stored_spectrum`. Of the rest,
    `probes` random vectors follow `steps` passes each. `components` (0: none), at most `largest`
    unless `centred`."""

    source: StoredTiles
    largest: int
    ridge: float
    relative: bool
    components: int
    centred: bool
    probes: int
    steps: int
    seed: int


def columns_of(request: LargeSpectrum) -> int:
    """Vectors that are multiplied at once."""
    wanted = max(request.largest, request.components)
    return max(block_columns(wanted), request.probes)


def run_large_spectrum(
    client: Client | None,
    request: LargeSpectrum,
    *,
    worker_memory_bytes: int | None,
    on_progress: OnProgress = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Computed | None:
    """`eigenvalues` (largest,), descending; with `components` c > 0 also `components` and `scores`,
    both (m, c). None when told to stop.

    Raises InvalidAnalysisError if the matrix is no Gram matrix, SolveFailedError where the
    eigenvalues do not converge or are not finite, TooLargeError, and what products raise.
    """
    cluster = SolveCluster(client, should_stop, worker_memory_bytes)
    try:
        diagonal = cluster.diagonal(request.source)
        operator = cluster.operator(request.source, columns_of(request))
    except SolveInterrupted:
        return None
    try:
        return _spectrum(operator, request, diagonal, on_progress, should_stop)
    except SolveInterrupted:
        return None
    finally:
        operator.close()


def _spectrum(
    operator: Products,
    request: LargeSpectrum,
    diagonal: Float64,
    on_progress: OnProgress,
    should_stop: Callable[[], bool],
) -> Computed:
    top = _top(operator, request.largest, "eigenvalues", request.seed, on_progress, should_stop)
    quadrature = lanczos_quadrature(
        operator,
        probes=request.probes,
        steps=request.steps,
        seed=request.seed,
        deflate=top,
        on_progress=lambda done, total: on_progress(
            {"phase": "density", "done": done, "total": total}
        ),
        should_stop=should_stop,
    )
    _require_whole(quadrature.outcome, "The density of eigenvalues")
    rows, trace = len(diagonal), float(diagonal.sum())
    ridge = request.ridge * (trace / rows if request.relative else 1.0)
    summary = _summary(top, quadrature, rows, trace, ridge, operator.epsilon)
    arrays = {"eigenvalues": top.values}
    if request.components:
        found, total = top, trace
        if request.centred:
            centred = _Centred(operator)
            total = centred.trace(diagonal)
            found = _top(
                centred, request.components, "components", request.seed, on_progress, should_stop
            )
        arrays |= _components(found, request.components)
        summary["kernel_pca"] = {
            "centred": request.centred,
            "eigenvalues": (found.values[: request.components] / rows).tolist(),
            "explained": (found.values[: request.components] / total).tolist(),
            "noise_floor": summary["noise_floor"] / rows,
            "notes": [],
        }
    return Computed(summary, arrays)


def _top(
    operator: Products,
    count: int,
    phase: str,
    seed: int,
    on_progress: OnProgress,
    should_stop: Callable[[], bool],
) -> Spectrum:
    found = top_eigenpairs(
        operator,
        count,
        seed=seed,
        on_progress=lambda done, residual: on_progress(
            {"phase": phase, "applications": done, "residual": residual}
        ),
        should_stop=should_stop,
    )
    _require_whole(found.outcome, "The largest eigenvalues")
    return found


def _require_whole(outcome: Outcome, what: str) -> None:
    """Raises SolveInterrupted and SolveFailedError."""
    if outcome is Outcome.CANCELLED:
        raise SolveInterrupted
    require_usable(outcome, what)


def _summary(
    top: Spectrum, quadrature: Quadrature, rows: int, trace: float, ridge: float, epsilon: float
) -> dict[str, Any]:
    largest = float(top.values[0])
    assert top.residuals is not None
    # Entries were rounded to their dtype: ||E|| <= eps || |K| || ~ eps lambda_1.
    floor = max(epsilon, rows * float(np.finfo(np.float64).eps)) * largest
    smallest = float(np.min(quadrature.nodes[quadrature.weights > 0], initial=top.values[-1]))
    if smallest < -rows * epsilon * largest:
        raise not_a_kernel(smallest, "an eigenvalue of at most")
    edges = np.geomspace(floor, largest * (1 + 1e-9), DENSITY_BINS + 1)
    shares = quadrature.density(edges)
    summary: dict[str, Any] = {
        "method": "lanczos",
        "rows": rows,
        "trace": trace,
        "noise_floor": floor,
        "largest": {
            "count": len(top.values),
            "share_of_trace": float(top.values.sum()) / trace,
            "residual": float(top.residuals.max()) / largest,
            "applications": top.stats.applications,
        },
        "density": {
            "edges": edges.tolist(),
            "share_of_eigenvalues": shares.tolist(),
            "share_below": max(0.0, 1 - float(shares.sum())),
        },
        "learning_rates": {
            "half_sum": 2 / largest,
            "sum": 1 / largest,
            "half_mean": 2 * rows / largest,
            "mean": rows / largest,
        },
        "notes": [
            "The smallest eigenvalue is not known; method dense finds it where one worker holds "
            "the matrix."
        ],
    }
    if ridge > 0:
        dimension = quadrature.effective_dimension(ridge)
        summary["ridge"] = ridge
        summary["condition_number_with_ridge_at_most"] = (largest + ridge) / ridge
        summary["effective_dimension"] = {
            "value": dimension.value,
            "standard_error": dimension.standard_error,
        }
        determinant = quadrature.log_determinant(ridge)
        if determinant is not None:
            summary["log_determinant"] = {
                "value": determinant.value,
                "standard_error": determinant.standard_error,
            }
    return summary


def _components(found: Spectrum, count: int) -> dict[str, Floats]:
    """As kernel_pca.py gives them."""
    assert found.vectors is not None
    vectors = oriented(found.vectors[:, :count])
    return {
        "components": np.ascontiguousarray(vectors),
        "scores": np.ascontiguousarray(vectors * np.sqrt(np.maximum(found.values[:count], 0.0))),
    }


class _Centred:
    """P K P with P = I - 11^T/m."""

    def __init__(self, operator: Products) -> None:
        self._operator = operator
        self.shape = operator.shape
        self.epsilon = operator.epsilon
        self.placement = operator.placement

    def apply(self, vectors: Float64, *, precise: bool = False) -> Float64:
        image = self._operator.apply(vectors - vectors.mean(axis=0), precise=precise)
        centred: Float64 = image - image.mean(axis=0)
        return centred

    def trace(self, diagonal: Float64) -> float:
        """tr K - 1^T K 1/m."""
        ones = np.ones((len(diagonal), 1))
        total = float(self._operator.apply(ones, precise=True).sum())
        return float(diagonal.sum()) - total / len(diagonal)
