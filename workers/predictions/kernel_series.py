"""What training makes of a stored kernel, by Chebyshev series with checkpoints.

The interval of a series reaches from what rounding does to an eigenvalue of 0 to a little above
λ₁, which a few passes of Lanczos find. λ₁ and the state of the series are kept in the store, so a
job that dies goes on after the last product that was kept, with the same final result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from storage.blobs import open_blobs
from workers.analyses.checks import Floats
from workers.predictions.chebyshev import SeriesState, apply_functions, coefficients
from workers.predictions.eigensystem import kernel_rounding
from workers.predictions.time_factors import flow_factors
from workers.solves.block_lanczos import top_eigenvalue
from workers.solves.errors import SolveFailedError
from workers.solves.operator import Operator
from workers.solves.scratch import Scratch
from workers.solves.solve_cluster import SolveCluster
from workers.solves.source import StoredTiles
from workers.solves.state_keeper import CHECKPOINT_SECONDS, State, StateKeeper

SERIES_TOLERANCE = 1e-12  # of the largest value that an eigenvalue can have
MOST_PASSES = 20_000  # over K in one run of products
ABOVE = 1e-3  # of λ₁: how far beyond the largest Rayleigh quotient eigenvalues may lie

Factor = Callable[[Floats], Floats]  # what training makes of eigenvalues (time_factors.py)
OnPass = Callable[[int, int | None], None]  # passes done, passes in all if that is known


@dataclass(frozen=True)
class SeriesBounds:
    """`low` <= w <= `high` for all eigenvalues w of a kernel. A factor is applied to w + ridge."""

    low: float
    high: float
    ridge: float

    @classmethod
    def of(cls, epsilon: float, rows: int, largest: float, ridge: float) -> SeriesBounds:
        """Of a kernel (rows, rows) with entries of relative accuracy `epsilon`, λ₁ <= `largest`."""
        # Below zero by what rounding does to eigenvalues; a ridge allows for more.
        low = -max(kernel_rounding(epsilon, rows, largest), ridge / 2)
        return cls(low, (1 + ABOVE) * largest, ridge)

    def series(self, factor: Factor) -> Floats | None:
        """Coefficients of `factor`; None if they are more than MOST_PASSES."""
        if self.high <= 0:  # the kernel is zero
            return np.asarray(factor(np.array([self.ridge])))

        def shifted(values: Floats) -> Floats:
            return factor(values + self.ridge)

        return coefficients(shifted, self.low, self.high, SERIES_TOLERANCE, MOST_PASSES)

    def passes(self, factor: Factor) -> int | None:
        """Products that a series of `factor` takes; None if they are more than MOST_PASSES."""
        found = self.series(factor)
        return None if found is None else len(found) - 1

    def longest_time(self) -> float:
        """A time of flow that MOST_PASSES can follow: within a factor of two of the longest."""
        time = 1.0 / self.high
        while self.series(partial(flow_factors, time=2 * time)) is not None:
            time *= 2
        return time


class KernelSeries:
    """Functions of the kernel of `source`, by float64 products of `operator`.

    `kept`: a folder of this job in the store, which its owner removes in the end. `on_pass` hears
    of every product. What is kept of one call of `apply` lasts until the next.
    """

    def __init__(
        self,
        cluster: SolveCluster,
        operator: Operator,
        source: StoredTiles,
        kept: Scratch,
        *,
        on_pass: OnPass,
        checkpoint_seconds: float = CHECKPOINT_SECONDS,
    ) -> None:
        self._cluster, self._operator, self._source = cluster, operator, source
        self._kept, self._on_pass = kept, on_pass
        key = f"{kept.folder}/state"
        self.keeper = StateKeeper(open_blobs(kept.store_url), key, every_seconds=checkpoint_seconds)
        self._largest: float | None = None

    @property
    def epsilon(self) -> float:
        """Relative accuracy of the stored entries."""
        return self._operator.epsilon

    def largest(self) -> float:
        """λ₁, the same number for as long as the job lasts. Raises SolveInterrupted,
        SolveFailedError."""
        if self._largest is None:
            found = self._kept.found("largest", (1,), "float64")
            if found is None:
                value = top_eigenvalue(self._operator, should_stop=self._cluster.should_stop)
                if value < 0:
                    raise SolveFailedError(
                        f"The largest eigenvalue of the matrix is {value:.3g}: it is no Gram"
                        " matrix.",
                        advice="Name a Gram matrix, or recompute it in float64.",
                    )
                found = np.array([value])
                self._kept.write("largest", found)
            self._largest = float(found[0])
        return self._largest

    def multiply(self, vectors: Floats) -> Floats:
        """K times (m, k), in float64."""
        return self._operator.apply(vectors, precise=True)

    def bounds(self, ridge: float) -> SeriesBounds:
        """Where the eigenvalues are."""
        return SeriesBounds.of(self.epsilon, self._operator.shape[0], self.largest(), ridge)

    def apply(
        self, factors: Sequence[Factor], vectors: Floats, ridge: float, *, what: str = "times"
    ) -> list[Floats]:
        """g(K + ridge·I) B for each of the factors g and B (m, k), in one run of products.

        Raises SolveFailedError if that takes more than MOST_PASSES (`what` names what to shorten)
        or an eigenvalue is negative; SolveInterrupted, its state kept; and what products raise.
        """
        bounds = self.bounds(ridge)
        series = []
        for factor in factors:
            found = bounds.series(factor)
            if found is None:
                raise too_long(what, bounds.longest_time())
            series.append(found)
        total = max((len(one) for one in series), default=1) - 1
        kept = self.keeper.resume(self._fingerprint(vectors, series, bounds))

        def done(state: SeriesState) -> None:
            self.keeper.offer(_packed(state))
            self._on_pass(state.degree, total)

        try:
            return apply_functions(
                self.multiply,
                vectors,
                series,
                bounds.low,
                bounds.high,
                resume=None if kept is None else _unpacked(kept),
                on_product=done,
            )
        finally:
            self.keeper.save()

    def _fingerprint(self, vectors: Floats, series: Sequence[Floats], bounds: SeriesBounds) -> str:
        return fingerprint(
            self._source,
            ["series", bounds.low.hex(), bounds.high.hex()],
            [vectors, *series],
        )


def fingerprint(source: StoredTiles, facts: list[str], arrays: Sequence[Floats]) -> str:
    """Hex digest of what an iteration over the kernel of `source` depends on."""
    shapes = [one.shape for one in arrays]
    header = json.dumps([source.manifest.id, source.array, facts, shapes])
    digest = hashlib.sha256(header.encode())
    for one in arrays:
        digest.update(np.ascontiguousarray(one, dtype="<f8").data)
    return digest.hexdigest()


def too_long(what: str, largest: float) -> SolveFailedError:
    """Training that MOST_PASSES do not reach; `largest` would be possible."""
    return SolveFailedError(
        f"Training would take more than {MOST_PASSES} passes over the matrix.",
        advice=f"Ask for {what} up to {largest:.3g}, or for the end of training (null).",
        largest=largest,
    )


def _packed(state: SeriesState) -> State:
    sums = {f"sum-{number}": one for number, one in enumerate(state.sums)}
    facts = {"degree": state.degree, "sums": len(sums)}
    return State(facts, {"before": state.before, "current": state.current, **sums})


def _unpacked(state: State) -> SeriesState:
    arrays = state.arrays
    sums = tuple(arrays[f"sum-{number}"] for number in range(state.facts["sums"]))
    return SeriesState(state.facts["degree"], arrays["before"], arrays["current"], sums)
