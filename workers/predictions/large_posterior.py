"""`posterior` of a matrix of any size: the covariance is worked out for a batch of test samples at
a time.

Everything follows from the columns of Aᵀ = g(K) K_Xs (posterior_columns.py), a batch of test
samples being as many right-hand sides. Trained to the end the mean is a `solve`
(workers/solves/task.py), else a series like the columns. The covariance of an ensemble,
K_ss − A K_Xs − K_sX Aᵀ + A K Aᵀ, pairs all batches: their columns are kept in the store. Batches
that are finished are kept until the job ends.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from distributed import Client
from numpy.typing import NDArray

from storage.blobs import open_blobs
from storage.matrices import read_slice
from workers.one_worker import Computed
from workers.predictions.posterior import Posterior, clipped
from workers.predictions.posterior_columns import (
    TOLERANCE,
    Columns,
    check_digits,
    columns_in_the_end,
    columns_in_time,
)
from workers.predictions.stored_posterior import Kernels, PosteriorAsked, report
from workers.solves.errors import SolveInterrupted
from workers.solves.operator import Operator
from workers.solves.policy import Method
from workers.solves.request import OnProgress, SolveRequest
from workers.solves.scratch import ROOT, Scratch, sweep_scratch
from workers.solves.solution import Float64
from workers.solves.solve_cluster import SolveCluster
from workers.solves.source import StoredTiles
from workers.solves.state_keeper import CHECKPOINT_SECONDS
from workers.solves.task import run_solve


@dataclass(frozen=True)
class LargePosterior:
    """A request. The kernels of `asked` are stored ones.

    batch: test samples worked on at once. name: of this request, unique.
    method: of solves; `auto` as in workers/solves/policy.py, for as many right-hand sides as test
    samples.
    """

    asked: PosteriorAsked
    targets: Float64  # (m, k)
    classes: NDArray[np.int64] | None
    test_targets: NDArray[Any] | None
    batch: int
    name: str
    method: Method | None = None
    checkpoint_seconds: float = CHECKPOINT_SECONDS

    @property
    def solved(self) -> Kernels:
        """The kernel whose functions are wanted: that of training, if there is one."""
        return self.asked.trained or self.asked.prior


def run_large_posterior(
    client: Client | None,
    request: LargePosterior,
    *,
    worker_memory_bytes: int | None,
    on_progress: OnProgress = lambda progress: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Computed | None:
    """The arrays and the summary of `stored_posterior`; None when told to stop.

    Raises SolveFailedError if K + ridge·I is not positive definite, has no digits or would take too
    many passes, TooLargeError, and what products raise.
    """
    cluster = SolveCluster(client, should_stop, worker_memory_bytes)
    asked, gram = request.asked, stored(request.solved.gram)
    sweep_scratch(open_blobs(gram.store_url))
    kept = Scratch(gram.store_url, f"{ROOT}/{request.name}/batches")
    kept.open()
    try:
        diagonal = cluster.diagonal(gram)
        ridge = asked.ridge * (float(diagonal.mean()) if asked.relative else 1.0)
        with ExitStack() as stack:
            open_columns = _Opening(cluster, request, diagonal, ridge, kept, on_progress, stack)
            found = _mean(cluster, request, ridge, kept, open_columns, on_progress)
            spread, notes = None, found.notes
            if asked.wanted != "mean":
                spread, more = _spread(cluster, request, kept, open_columns, stack, on_progress)
                notes += more
    except SolveInterrupted:
        return None
    kept.remove()
    notes += tuple(open_columns.warnings)
    found = Posterior(found.mean, spread, found.residuals, notes)
    return report(found, asked, ridge, request.classes, request.test_targets)


class _Opening:
    """What makes the columns of Aᵀ, opened when it is first needed."""

    def __init__(
        self,
        cluster: SolveCluster,
        request: LargePosterior,
        diagonal: Float64,
        ridge: float,
        kept: Scratch,
        on_progress: OnProgress,
        stack: ExitStack,
    ) -> None:
        self._cluster, self._request, self._stack = cluster, request, stack
        self._diagonal, self._ridge, self._kept = diagonal, ridge, kept
        self._on_progress = on_progress
        self._columns: Columns | None = None
        self.warnings: list[str] = []

    def __call__(self) -> Columns:
        if self._columns is None:
            self._columns = self._stack.enter_context(self._opened())
        return self._columns

    def _opened(self) -> Any:
        request, gram = self._request, stored(self._request.solved.gram)
        if request.asked.time is not None:
            widths = [request.targets.shape[1]]
            widths += [request.batch] if request.asked.wanted != "mean" else []
            return columns_in_time(
                self._cluster,
                gram,
                time=request.asked.time,
                ridge=self._ridge,
                width=max(widths),
                kept=self._kept,
                on_pass=self._passed,
                checkpoint_seconds=request.checkpoint_seconds,
                warnings=self.warnings,
            )
        return columns_in_the_end(
            self._cluster,
            gram,
            method=request.method,
            samples=stored(request.solved.cross).layout.shape[0],
            ridge=self._ridge,
            diagonal=self._diagonal,
            width=request.batch,
            scratch=Scratch(gram.store_url, f"{ROOT}/{request.name}/spread-factor"),
        )

    def _passed(self, done: int, total: int | None) -> None:
        self._on_progress({"phase": "training", "done": done, "total": total})


def _mean(
    cluster: SolveCluster,
    request: LargePosterior,
    ridge: float,
    kept: Scratch,
    open_columns: Callable[[], Columns],
    on_progress: OnProgress,
) -> Posterior:
    """Without its spread. Raises SolveInterrupted, SolveFailedError."""
    gram, cross = stored(request.solved.gram), stored(request.solved.cross)
    if request.asked.time is not None:
        shape = (cross.layout.shape[0], request.targets.shape[1])
        mean = kept.found("mean", shape, "float64")
        if mean is None:
            mean = cluster.multiply_once(cross, open_columns()(request.targets))
            kept.write("mean", mean)
        return Posterior(mean, None, None, ())
    solved = run_solve(
        cluster.client,
        SolveRequest(
            matrix_id=gram.manifest.id,
            array=gram.array,
            targets=request.targets,
            encoding="real",
            ridge=ridge,
            tolerance=TOLERANCE,
            cross_matrix_id=cross.manifest.id,
            checkpoint_id=request.name,
        ),
        store_url=gram.store_url,
        on_progress=on_progress,
        should_stop=cluster.should_stop,
        worker_memory_bytes=cluster.worker_memory_bytes,
    )
    certified = solved.summary["stats"]["certified"]
    check_digits(solved.outcome, max(certified or [0.0]), solved.summary["advice"])
    notes = tuple(solved.summary["warnings"])
    return Posterior(solved.arrays["predictions"], None, certified, notes)


def _spread(
    cluster: SolveCluster,
    request: LargePosterior,
    kept: Scratch,
    open_columns: Callable[[], Columns],
    stack: ExitStack,
    on_progress: OnProgress,
) -> tuple[Float64, tuple[str, ...]]:
    """Variances (n,) or covariance (n, n), and notes. Raises SolveInterrupted, SolveFailedError."""
    asked = request.asked
    assert asked.test is not None
    test = stored(asked.test)
    n, each = test.layout.shape[0], request.batch
    whole = asked.wanted == "covariance"
    parts: list[Float64] = []
    carry: _Carry | None = None
    for first in range(0, n, each):
        cluster.check_stop()
        rows = slice(first, min(first + each, n))
        shape = (rows.stop - first, n) if whole else (rows.stop - first,)
        part = kept.found(str(first), shape, "float64")
        if part is None:
            carry = carry or _Carry(cluster, request, kept, open_columns(), stack)
            part = carry(rows)
            kept.write(str(first), part)
        parts.append(part)
        on_progress({"phase": "spread", "done": rows.stop, "total": n})
    reduction = np.concatenate(parts)
    if whole:
        covariance = _rows(test, slice(0, n)) - reduction
        return 0.5 * (covariance + covariance.T), ()
    prior = cluster.diagonal(test)
    return clipped(prior - reduction, prior)


class _Carry:
    """What the targets take from the prior of some test samples: of each, or with all others."""

    def __init__(
        self,
        cluster: SolveCluster,
        request: LargePosterior,
        kept: Scratch,
        columns: Columns,
        stack: ExitStack,
    ) -> None:
        asked = request.asked
        self._kept, self._columns, self._batch = kept, columns, request.batch
        self._solved_cross = stored(request.solved.cross)
        self._prior_cross = stored(asked.prior.cross)
        self._trained = asked.trained is not None
        self._whole = asked.wanted == "covariance"

        def streamed(source: StoredTiles) -> Operator:
            operator = cluster.operator(source, request.batch, placement="stream")
            stack.callback(operator.close)
            return operator

        # Covariances with all test samples, and of what training carries along.
        self._with_all = streamed(self._prior_cross) if self._whole else None
        self._among = streamed(stored(asked.prior.gram)) if self._trained else None

    def __call__(self, rows: slice) -> Float64:
        """(b,) or (b, n) for test samples `rows`; of the latter the symmetric part counts."""
        x = self._of(rows)
        if self._among is None:
            if self._with_all is None:
                taken: Float64 = np.einsum("ij,ji->i", _rows(self._solved_cross, rows), x)
                return taken
            return np.ascontiguousarray(self._with_all.apply(x, precise=True).T)
        product = self._among.apply(x, precise=True)
        # 2 A K_Xs − A K Aᵀ with A = xᵀ (posterior.py)
        if self._with_all is None:
            taken = 2 * np.einsum("ij,ji->i", _rows(self._prior_cross, rows), x)
            taken -= np.einsum("ji,ji->i", x, product)
            return taken
        whole: Float64 = np.ascontiguousarray(2 * self._with_all.apply(x, precise=True).T)
        for first in range(0, rows.start, self._batch):
            before = slice(first, first + self._batch)
            # Once for the pair of batches, and so twice in the half that has it.
            whole[:, before] -= 2 * (product.T @ self._of(before))
        whole[:, rows] -= product.T @ x
        return whole

    def _of(self, rows: slice) -> Float64:
        """Columns (m, b) of Aᵀ; kept where other batches need them."""
        pairs = self._trained and self._whole
        name, shape = f"columns-{rows.start}", (self._solved_cross.layout.shape[1],)
        if pairs:
            kept = self._kept.found(name, (*shape, rows.stop - rows.start), "float64")
            if kept is not None:
                return kept
        cross = _rows(self._solved_cross, rows)
        x = self._columns(np.ascontiguousarray(cross.T))
        if pairs:
            self._kept.write(name, x)
        return x


def stored(source: Any) -> StoredTiles:
    """The kernels of this request lie in the store."""
    assert isinstance(source, StoredTiles)
    return source


def _rows(source: StoredTiles, rows: slice) -> Float64:
    blobs = open_blobs(source.store_url)
    return read_slice(blobs, source.manifest, source.array, rows).astype(np.float64)
