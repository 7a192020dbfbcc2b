"""Ridges of a matrix of any size tried leaving one sample out, exactly.

y_i − f^{(−i)}(x_i) = α_i/(G⁻¹)_ii with G = K + ridge·I and α = G⁻¹y (ridge.py) for all samples from
one float64 Cholesky factor in blocks in the store (workers/solves/tiled_cholesky.py): α by CG with
the factor as its preconditioner, certified, and the diagonal of the inverse at the price of the
factorisation (inverse_diagonal.py). A ridge has a factor of its own, which is removed before the
next; tiles that workers hold serve all of them.

float64 whatever is stored: a float32 factor is refined away from α, but not from the diagonal.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from workers.predictions.folded_ridge import lost_digits
from workers.predictions.ridge import LOST_RESIDUAL
from workers.predictions.ridge_trial import Fit, LargeRidge, Trial, name_of
from workers.solves.block_lanczos import block_columns, top_eigenvalue
from workers.solves.cg_state import CGSettings
from workers.solves.errors import SolveFailedError, SolveInterrupted
from workers.solves.inverse_diagonal import inverse_diagonal
from workers.solves.policy import left_out_worker_bytes
from workers.solves.request import OnProgress
from workers.solves.scratch import ROOT, Scratch
from workers.solves.solution import Float64, Outcome
from workers.solves.solve_cluster import SolveCluster
from workers.solves.tiled_solver import TiledSettings, factor_in, solve_tiled

DUAL_TOLERANCE = 1e-10  # relative residual: what one application of a float64 factor gives


class LeftOutTrials:
    """`Trials` that leave one out. `diagonal` and `ridges` are what every kind is given."""

    def __init__(
        self,
        cluster: SolveCluster,
        request: LargeRidge,
        diagonal: Float64,
        ridges: list[float],
        on_progress: OnProgress,
    ) -> None:
        del diagonal, ridges  # a factor needs neither
        self._cluster, self._request, self._on_progress = cluster, request, on_progress
        columns = max(request.targets.shape[1], block_columns(1))  # those of `top_eigenvalue`
        reserved = left_out_worker_bytes(request.source.layout, rhs=columns, base_bytes=0)
        self._largest: float | None = None  # eigenvalue of K
        self._operator = cluster.operator(request.source, columns, reserved_bytes=reserved)

    def __call__(self, ridge: float, place: dict[str, Any]) -> Trial | None:
        request, cluster = self._request, self._cluster
        source, folder = request.source, f"{ROOT}/{request.name}/left-out-{name_of(ridge)}"
        scratch = Scratch(source.store_url, folder)

        def told(phase: str, done: int, total: int | None) -> None:
            self._on_progress({"phase": phase, "done": done, "total": total, **place})

        solution = solve_tiled(
            cluster.client,
            self._operator,
            source,
            request.targets,
            ridge,
            scratch=scratch,
            tiled=TiledSettings("float64", request.block_rows),
            settings=CGSettings(tolerance=DUAL_TOLERANCE),
            on_factor=lambda done, total: told("factor", done, total),
            on_iteration=lambda progress, _: told("solve", progress.applications, None),
            should_stop=cluster.should_stop,
        )
        outcome, stats = solution.outcome, solution.stats
        if outcome is Outcome.CANCELLED:
            raise SolveInterrupted
        if outcome is Outcome.NOT_POSITIVE_DEFINITE:
            scratch.remove()
            return None
        if outcome is Outcome.NON_FINITE:
            raise SolveFailedError(
                "The matrix has entries that are not finite.", advice=outcome.advice
            )
        residual = stats.certified_max
        if solution.value is None or residual is None or residual > LOST_RESIDUAL:
            raise lost_digits(ridge, outcome, residual)
        inverse = inverse_diagonal(
            cluster.client,
            factor_in(scratch, source, "float64", request.block_rows),
            should_stop=cluster.should_stop,
            check_stop=cluster.check_stop,
            on_done=lambda done, total: told("inverse", done, total),
        )
        assert stats.certified is not None
        if self._largest is None:
            self._largest = top_eigenvalue(self._operator, should_stop=cluster.should_stop)
        # 1/(G⁻¹)_ii is a Rayleigh quotient of G⁻¹, turned over.
        smallest = min(stats.smallest_ritz or np.inf, 1.0 / float(inverse.max()))
        scratch.remove()
        return Trial(
            request.targets - solution.value / inverse[:, None],
            Fit(solution.value, stats.certified, smallest, self._largest + ridge),
        )

    def close(self) -> None:
        self._operator.close()
