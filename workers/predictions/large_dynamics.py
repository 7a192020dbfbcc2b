"""`dynamics` of a matrix of any size: everything by products with the stored tiles.

The squared loss at finite times and steps by Chebyshev series (kernel_series.py), trained to the
end by a certified solve, the other losses by the integrators of dynamics.py with the operator as
their kernel. Products are float64: the integrators' errors are smaller than those of float32. All
of them keep their state in the store and go on from there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from storage.blobs import open_blobs
from workers.analyses.checks import Floats
from workers.one_worker import Computed
from workers.predictions.dynamics import Training, integrated_flow, stepped_descent
from workers.predictions.kernel_series import MOST_PASSES, KernelSeries, fingerprint, too_long
from workers.predictions.stored_dynamics import (
    DynamicsAsked,
    Moments,
    Outputs,
    Rates,
    by_moment,
    report,
)
from workers.predictions.time_factors import descent_factors, flow_factors
from workers.solves.block_lanczos import block_columns
from workers.solves.errors import SolveInterrupted, require_usable
from workers.solves.request import OnProgress, SolveRequest
from workers.solves.scratch import ROOT, Scratch, sweep_scratch
from workers.solves.solution import Float64
from workers.solves.solve_cluster import SolveCluster
from workers.solves.source import StoredTiles
from workers.solves.state_keeper import CHECKPOINT_SECONDS, State
from workers.solves.task import run_solve

DUAL_TOLERANCE = 1e-6  # relative residual at the end of training


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
    checkpoint_seconds: float = CHECKPOINT_SECONDS


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
    sweep_scratch(open_blobs(source.store_url))
    kept = Scratch(source.store_url, f"{ROOT}/{request.name}/training")
    kept.open()
    try:
        diagonal = cluster.diagonal(source)
        ridge = asked.ridge * (float(diagonal.mean()) if asked.relative else 1.0)
        zero = np.zeros_like(request.targets)
        start = zero if request.start.train is None else request.start.train
        training = Training(asked.loss, request.targets, start, ridge)
        # As wide as the block in which the largest eigenvalue is looked for.
        operator = cluster.operator(source, max(columns, block_columns(1)))
        try:
            series = KernelSeries(
                cluster,
                operator,
                source,
                kept,
                on_pass=lambda done, total: on_progress(
                    {"phase": "training", "done": done, "total": total}
                ),
                checkpoint_seconds=request.checkpoint_seconds,
            )
            rates = Rates.of(asked, series.largest(), ridge)
            duals = _duals(cluster, request, training, series, rates, on_progress)
            # All moments at once would be the widest block of vectors of the whole job.
            train = np.stack([start + series.multiply(dual) for dual in duals], axis=1)
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
    kept.remove()
    moments = Moments(train, by_moment(outputs, request.start.test, len(duals)))
    notes = series.keeper.warnings
    return report(asked, training, moments, rates, request.classes, request.test_targets, notes)


def _duals(
    cluster: SolveCluster,
    request: LargeDynamics,
    training: Training,
    series: KernelSeries,
    rates: Rates,
    on_progress: OnProgress,
) -> list[Floats]:
    asked, missing = request.asked, training.targets - training.start
    if asked.steps is not None:
        unstable = rates.used >= rates.limit  # grows faster than a series can resolve
        if training.loss == "squared" and not unstable:
            descents = [partial(descent_factors, steps=s, rate=rates.used) for s in asked.steps]
            return series.apply(descents, missing, training.ridge, what="steps")
        if asked.steps[-1] > MOST_PASSES:
            raise too_long("steps", MOST_PASSES)
        return _stepped(request, training, series, on_progress, rates)
    finite = [time for time in asked.times if time is not None]
    if training.loss != "squared":
        return _integrated(request, training, series, on_progress, finite)
    flows = [partial(flow_factors, time=time) for time in finite]
    duals = series.apply(flows, missing, training.ridge) if finite else []
    if None in asked.times:
        duals.append(_end(cluster, request, training, on_progress))
    return duals


def _stepped(
    request: LargeDynamics,
    training: Training,
    series: KernelSeries,
    on_progress: OnProgress,
    rates: Rates,
) -> list[Floats]:
    steps = request.asked.steps
    assert steps is not None

    def step(state: State) -> None:
        series.keeper.offer(state)
        on_progress({"phase": "training", "done": state.facts["done"], "total": steps[-1]})

    facts = ["steps", str(steps), rates.used.hex()]
    with _resumed(request, training, series, facts) as resume:
        return stepped_descent(
            _Products(series),
            training,
            steps,
            rates.used,
            resume=resume,
            on_state=step,
        )


def _integrated(
    request: LargeDynamics,
    training: Training,
    series: KernelSeries,
    on_progress: OnProgress,
    times: list[float],
) -> list[Floats]:
    def told(done: int) -> None:
        on_progress({"phase": "training", "done": done, "total": None})

    with _resumed(request, training, series, ["times", str(times)]) as resume:
        return integrated_flow(
            _Products(series, told),
            training,
            times,
            series.largest(),
            resume=resume,
            on_state=series.keeper.offer,
        )


@contextmanager
def _resumed(
    request: LargeDynamics, training: Training, series: KernelSeries, facts: list[str]
) -> Iterator[State | None]:
    """The state that a training step by step goes on from; kept on every way out."""
    system = fingerprint(
        request.source,
        [training.loss, training.ridge.hex(), *facts],
        [training.targets, training.start],
    )
    try:
        yield series.keeper.resume(system)
    finally:
        series.keeper.save()


class _Products:
    """The operator as a kernel of dynamics.py, whose products are counted."""

    def __init__(
        self, series: KernelSeries, on_product: Callable[[int], None] = lambda done: None
    ) -> None:
        self._series, self._on_product, self._done = series, on_product, 0

    def __matmul__(self, vectors: Floats, /) -> Floats:
        product = self._series.multiply(vectors)
        self._done += 1
        self._on_product(self._done)
        return product


def _end(
    cluster: SolveCluster,
    request: LargeDynamics,
    training: Training,
    on_progress: OnProgress,
) -> Floats:
    """Duals of endless training: (Θ + ridge·I)⁻¹ (y − f₀), certified."""
    source = request.source
    solved = run_solve(
        cluster.client,
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
