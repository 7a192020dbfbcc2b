"""`dynamics` of a matrix of any size: everything by products with the stored tiles.

The squared loss at finite times and steps by Chebyshev series of what training makes of an
eigenvalue, trained to the end by a certified solve, the other losses by the integrators of
dynamics.py with the operator as their kernel. Products are float64: the integrators' errors are
smaller than those of float32.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from workers.analyses.checks import Floats
from workers.one_worker import Computed
from workers.predictions.chebyshev import apply_functions, coefficients
from workers.predictions.dynamics import Training, integrated_flow, stepped_descent
from workers.predictions.stored_dynamics import (
    DynamicsAsked,
    Moments,
    Outputs,
    Rates,
    by_moment,
    report,
)
from workers.predictions.time_factors import descent_factors, flow_factors
from workers.solves.block_lanczos import top_eigenvalue
from workers.solves.errors import SolveFailedError, SolveInterrupted, require_usable
from workers.solves.operator import Operator
from workers.solves.request import OnProgress, SolveRequest
from workers.solves.solution import Float64
from workers.solves.solve_cluster import SolveCluster
from workers.solves.source import StoredTiles
from workers.solves.task import run_solve

SERIES_TOLERANCE = 1e-12  # of the largest dual that an eigenvalue can have
MOST_PASSES = 20_000  # over K, for the squared loss
DUAL_TOLERANCE = 1e-6  # relative residual at the end of training
ABOVE = 1e-3  # of λ₁: how far beyond the largest Rayleigh quotient eigenvalues may lie


@dataclass(frozen=True)
class LargeDynamics:
    """A request; fields as in `stored_dynamics`. name: of this request, unique."""

    source: StoredTiles
    targets: Float64
    classes: NDArray[np.int64] | None
    asked: DynamicsAsked
    start: Outputs
    cross: StoredTiles | None
    test_targets: NDArray[Any] | None
    name: str


def run_large_dynamics(
    client: Client | None,
    request: LargeDynamics,
    *,
    worker_memory_bytes: int | None,
    on_progress: OnProgress = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Computed | None:
    """The arrays and the summary of `stored_dynamics`; None when told to stop.

    Raises SolveFailedError if training diverges or would take more than MOST_PASSES passes,
    TooLargeError, and what products raise.
    """
    cluster = SolveCluster(client, should_stop, worker_memory_bytes)
    asked, source = request.asked, request.source
    columns = request.targets.shape[1]
    try:
        diagonal = cluster.diagonal(source)
        ridge = asked.ridge * (float(diagonal.mean()) if asked.relative else 1.0)
        zero = np.zeros_like(request.targets)
        start = zero if request.start.train is None else request.start.train
        training = Training(asked.loss, request.targets, start, ridge)
        operator = cluster.operator(source, columns)
        try:
            kernel = _Products(operator, on_progress)
            rates = Rates.of(asked, top_eigenvalue(operator, should_stop=should_stop), ridge)
            duals = _duals(client, cluster, request, training, kernel, rates, on_progress)
            # All moments at once would be the widest block of vectors of the whole job.
            train = np.stack([start + kernel @ dual for dual in duals], axis=1)
        finally:
            operator.close()
        outputs = None
        if request.cross is not None:
            through = cluster.operator(request.cross, columns, placement="stream")
            try:
                parts = [through.apply(dual, precise=True) for dual in duals]
            finally:
                through.close()
            outputs = np.concatenate(parts, axis=1)
    except SolveInterrupted:
        return None
    moments = Moments(train, by_moment(outputs, request.start.test, len(duals)))
    return report(asked, training, moments, rates, request.classes, request.test_targets, [])


class _Products:
    """The operator as a kernel of dynamics.py: float64 products, counted."""

    def __init__(self, operator: Operator, on_progress: OnProgress) -> None:
        self._operator, self._on_progress = operator, on_progress
        self.epsilon = operator.epsilon
        self._done = 0
        self.total: int | None = None  # passes in all, where that is known

    def __matmul__(self, vectors: Floats, /) -> Floats:
        product = self._operator.apply(vectors, precise=True)
        self._done += 1
        self._on_progress({"phase": "training", "done": self._done, "total": self.total})
        return product


def _duals(
    client: Client | None,
    cluster: SolveCluster,
    request: LargeDynamics,
    training: Training,
    kernel: _Products,
    rates: Rates,
    on_progress: OnProgress,
) -> list[Floats]:
    asked = request.asked
    if asked.steps is not None:
        unstable = rates.used >= rates.limit  # grows faster than a series can resolve
        if training.loss != "squared" or unstable:
            if asked.steps[-1] > MOST_PASSES:
                raise _too_long("steps", MOST_PASSES)
            kernel.total = asked.steps[-1]
            return stepped_descent(kernel, training, asked.steps, rates.used, cluster.check_stop)
        factors = [partial(descent_factors, steps=s, rate=rates.used) for s in asked.steps]
        return _by_series(training, kernel, rates, factors)
    finite = [time for time in asked.times if time is not None]
    if training.loss != "squared":
        return integrated_flow(kernel, training, finite, rates.largest, cluster.check_stop)
    factors = [partial(flow_factors, time=time) for time in finite]
    duals = _by_series(training, kernel, rates, factors) if finite else []
    if None in asked.times:
        duals.append(_end(client, cluster, request, training, on_progress))
    return duals


Factor = Callable[[Floats], Floats]  # what training makes of eigenvalues (time_factors.py)


def _by_series(
    training: Training, kernel: _Products, rates: Rates, factors: Sequence[Factor]
) -> list[Floats]:
    """Duals V g(w + ridge) Vᵀ (y − f₀) for each of the factors g, in one run of products."""
    # Below zero by what rounding does to eigenvalues (eigensystem.py); a ridge allows for more.
    rounding = max(kernel.epsilon, len(training.targets) * 2.0**-52) * rates.largest
    interval = -max(rounding, training.ridge / 2), (1 + ABOVE) * rates.largest
    series = []
    for factor in factors:
        found = _series(factor, training.ridge, *interval)
        if found is None:
            raise _too_long("times", _longest_time(training.ridge, *interval))
        series.append(found)
    kernel.total = max((len(one) for one in series), default=1) - 1
    missing = training.targets - training.start
    return apply_functions(kernel.__matmul__, missing, series, *interval)


def _series(factor: Factor, ridge: float, low: float, high: float) -> Floats | None:
    def shifted(values: Floats) -> Floats:
        return factor(values + ridge)

    return coefficients(shifted, low, high, SERIES_TOLERANCE, MOST_PASSES)


def _longest_time(ridge: float, low: float, high: float) -> float:
    """A time of flow that MOST_PASSES passes can follow: within a factor of two of the longest."""
    time = 1.0 / high
    while _series(partial(flow_factors, time=2 * time), ridge, low, high) is not None:
        time *= 2
    return time


def _end(
    client: Client | None,
    cluster: SolveCluster,
    request: LargeDynamics,
    training: Training,
    on_progress: OnProgress,
) -> Floats:
    """Duals of endless training: (Θ + ridge·I)⁻¹ (y − f₀), certified."""
    source = request.source
    solved = run_solve(
        client,
        SolveRequest(
            matrix_id=source.manifest.id,
            array=source.array,
            targets=training.targets - training.start,
            encoding="real",
            ridge=training.ridge,
            tolerance=DUAL_TOLERANCE,
            checkpoint_id=request.name,
        ),
        store_url=source.store_url,
        on_progress=on_progress,
        should_stop=cluster.should_stop,
        worker_memory_bytes=cluster.worker_memory_bytes,
    )
    require_usable(solved.outcome, "Training to the end", solved.summary["advice"])
    return solved.arrays["dual"]


def _too_long(what: str, largest: float) -> SolveFailedError:
    return SolveFailedError(
        f"Training would take more than {MOST_PASSES} passes over the matrix.",
        advice=f"Ask for {what} up to {largest:.3g}, or for the end of training (null in `times`).",
        largest=largest,
    )
