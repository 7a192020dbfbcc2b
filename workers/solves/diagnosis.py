"""What ridge to advise when a solve failed: the number that goes with the advice of an outcome."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.solves.block_lanczos import top_eigenpairs
from workers.solves.operator import Operator, Traffic
from workers.solves.solution import Float64, Outcome, SolveStats

LANCZOS_PASSES = 40  # over K, to find its smallest eigenvalue
LANCZOS_TOLERANCE = 1e-6  # of the residual of that, relative to the largest
ROUNDING_FACTOR = 10.0  # × eps × λ_max: what the rounding of the entries may have done
RAISE_FACTOR = 10.0  # by which a ridge is raised that was above all rounding

_UNFINISHED = frozenset({Outcome.STAGNATED, Outcome.FLOOR, Outcome.MAX_APPLICATIONS})


def diagnose(
    operator: Operator,
    outcome: Outcome,
    stats: SolveStats,
    ridge: float,
    should_stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """`suggested_ridge` and a `hint` for the advice; empty where there is nothing to add.

    A matrix that is not positive definite costs up to LANCZOS_PASSES passes, other outcomes none.
    """
    if outcome is Outcome.NOT_POSITIVE_DEFINITE:
        return _indefinite(operator, ridge, should_stop)
    if outcome not in _UNFINISHED or not stats.largest_ritz:
        return {}
    noise = operator.epsilon * stats.largest_ritz
    if ridge < noise:
        return {
            "suggested_ridge": noise,
            "hint": f"Rounding of the stored entries moves eigenvalues by up to {noise:.3g}, more"
            f" than the ridge of {ridge:.3g}: a ridge of {noise:.3g} or float64 entries would give"
            " the answer digits.",
        }
    raised = RAISE_FACTOR * ridge
    return {
        "suggested_ridge": raised,
        "hint": f"A ridge of {raised:.3g} makes the system up to {RAISE_FACTOR:.0f} times better"
        " conditioned.",
    }


def _indefinite(
    operator: Operator, ridge: float, should_stop: Callable[[], bool]
) -> dict[str, Any]:
    options: dict[str, Any] = {
        "tolerance": LANCZOS_TOLERANCE,
        "max_applications": LANCZOS_PASSES,
        "should_stop": should_stop,
    }
    top = top_eigenpairs(operator, 1, **{**options, "tolerance": 1e-2})
    if not top.values.size:
        return {}
    largest = float(np.abs(top.values).max())
    bottom = top_eigenpairs(_Reflected(operator, largest), 1, **options)
    if not bottom.values.size or bottom.residuals is None:
        return {}
    smallest = largest - float(bottom.values[0])
    below = smallest - float(bottom.residuals[0])  # the residual bounds the error
    needed = 2 * max(-below, 0.0) + ROUNDING_FACTOR * operator.epsilon * largest
    suggested = max(needed, 2 * ridge)
    return {
        "smallest_eigenvalue": smallest,
        "largest_eigenvalue": largest,
        "suggested_ridge": suggested,
        "hint": f"The smallest eigenvalue of K is about {smallest:.3g}; "
        f"a ridge of {suggested:.3g} makes the system solvable.",
    }


class _Reflected:
    """scale·I − K, whose largest eigenvalue belongs to the smallest of K."""

    def __init__(self, operator: Operator, scale: float) -> None:
        self._operator, self._scale = operator, scale

    @property
    def shape(self) -> tuple[int, int]:
        return self._operator.shape

    @property
    def tile_rows(self) -> int:
        return self._operator.tile_rows

    @property
    def epsilon(self) -> float:
        return self._operator.epsilon

    @property
    def placement(self) -> str:
        return self._operator.placement

    @property
    def traffic(self) -> Traffic:
        return self._operator.traffic

    def apply(self, vectors: Float64, *, precise: bool = False) -> Float64:
        return self._scale * vectors - self._operator.apply(vectors, precise=precise)

    def columns(self, indices: NDArray[np.int64]) -> NDArray[np.floating]:
        values = -self._operator.columns(indices)
        values[indices, np.arange(indices.size)] += self._scale
        return values

    def close(self) -> None:
        """The matrix belongs to whoever made it."""
