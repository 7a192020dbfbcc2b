"""What a solve returns: a value, a named outcome with advice, and what it cost.

Failure is a value here, not an exception: a solve that stops early still says how good its last
iterate is. Exceptions are for requests that make no sense and for machines that are gone.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


class Outcome(Enum):
    """How a solve ended. The value is the stable name used in JSON."""

    CONVERGED = "converged"
    MAX_APPLICATIONS = "max-applications"
    TIME_LIMIT = "time-limit"
    STAGNATED = "stagnated"
    FLOOR = "floor"
    NOT_POSITIVE_DEFINITE = "not-positive-definite"
    NON_FINITE = "non-finite"
    CANCELLED = "cancelled"

    @property
    def advice(self) -> str:
        """What to do next, in one or two sentences."""
        return _ADVICE[self]

    @property
    def usable(self) -> bool:
        """Whether the value may be used, at the accuracy that its certificate states."""
        return self not in _UNUSABLE


_UNUSABLE = frozenset({Outcome.NOT_POSITIVE_DEFINITE, Outcome.NON_FINITE, Outcome.CANCELLED})

_ADVICE = {
    Outcome.CONVERGED: "The certified residual is at or below the tolerance.",
    Outcome.MAX_APPLICATIONS: (
        "The limit on applications of K was reached first. Raise max_applications (the checkpoint"
        " is kept), raise the ridge, or use method 'cholesky' if the matrix is small enough."
    ),
    Outcome.TIME_LIMIT: (
        "The time limit was reached first. Submit again with the same checkpoint to go on, or"
        " loosen the tolerance: 1e-3 is enough for predictions."
    ),
    Outcome.STAGNATED: (
        "The residual stopped falling. The system is too ill-conditioned for its ridge: raise the"
        " ridge, or use method 'cholesky'."
    ),
    Outcome.FLOOR: (
        "The residual reached the rounding floor of this arithmetic, above the tolerance. Loosen"
        " the tolerance, raise the ridge, or store the Gram matrix in float64."
    ),
    Outcome.NOT_POSITIVE_DEFINITE: (
        "K + ridge has a direction of negative curvature. Raise the ridge above the size of the"
        " most negative eigenvalue, or recompute the Gram matrix in float64."
    ),
    Outcome.NON_FINITE: (
        "A product with K contained NaN or infinity. Look for non-finite entries in the stored"
        " matrix, and recompute it in float64 if the kernel overflowed."
    ),
    Outcome.CANCELLED: "The solve was cancelled; submit again with the same checkpoint to go on.",
}


@dataclass
class SolveStats:
    """What a solve did and how good its answer is. Every residual is relative to ‖b‖ per column.

    `certified` holds ‖b − (K+λI)x‖₂/‖b‖₂ per right-hand side from a fresh float64 application to
    the returned x; None when the solve was cancelled before one could be made.
    """

    method: str
    applications: int = 0  # passes over K, certificates included
    precise_applications: int = 0  # those in float64 products
    iterations: int = 0
    residual_history: list[float] = field(default_factory=list)  # recursive, max over columns
    certified_history: list[tuple[int, float]] = field(default_factory=list)  # (iteration, max)
    certified: list[float] | None = None
    predicted_floor: float | None = None  # 0.1·eps·‖K‖·‖x‖/‖b‖, max over columns
    largest_ritz: float | None = None
    smallest_ritz: float | None = None
    condition_estimate: float | None = None  # a lower bound, often a few times too low
    seconds: float = 0.0
    placement: str = "local"
    bytes_read: int = 0  # from the store
    bytes_moved: int = 0  # between this process and the workers
    lost_workers: int = 0
    resumed_at: int = 0  # iteration of the checkpoint that the solve went on from
    details: dict[str, Any] = field(default_factory=dict)  # facts of one method, JSON-able

    @property
    def certified_max(self) -> float | None:
        return max(self.certified, default=0.0) if self.certified is not None else None

    def to_json(self) -> dict[str, Any]:
        document = asdict(self)
        document["certified_max"] = self.certified_max
        return document


@dataclass(frozen=True)
class Solution:
    """`value`: (m, k) float64, the last iterate; None when there is none to use."""

    value: Float64 | None
    outcome: Outcome
    stats: SolveStats
