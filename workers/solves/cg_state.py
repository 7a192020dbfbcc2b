"""What block conjugate gradients are told, what they remember, and what they report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from workers.solves.solution import Float64

Preconditioner = Callable[[Float64], Float64]  # (m, r) -> (m, r), symmetric positive definite


@dataclass(frozen=True)
class CGSettings:
    """When to stop.

    tolerance: certified ‖b − Ax‖₂/‖b‖₂, maximum over right-hand sides.
    max_applications: passes over K, certificates included.
    stagnation_applications: passes without the best residual falling by 1 %. Residuals of CG may
        rise for a long while on ill-conditioned systems, so this is generous.
    refine: restart from float64 residuals, and change to float64 products where float32 ones have
        no more digits. Without it the solve stops at the float32 floor, after one certificate.
    precise: float64 products from the start, for preconditioners that leave only a few passes.
    """

    tolerance: float = 1e-6
    max_applications: int = 1000
    stagnation_applications: int = 300
    time_limit_seconds: float | None = None
    refine: bool = True
    precise: bool = False


@dataclass
class CGState:
    """Everything the iteration needs to go on, after whole iterations only (checkpoint.py).

    Right-hand sides are scaled to norm 1; `x` is the scaled solution. Residual = q @ c + what was
    deflated, of norms `dropped` per right-hand side.
    """

    x: Float64  # (m, k)
    q: Float64  # (m, r) orthonormal, r <= min(m, k)
    c: Float64  # (r, k)
    p: Float64  # (m, r') orthonormal search directions
    anchor: Float64  # (m, k) the x at which the residual was last computed afresh
    iteration: int = 0
    applications: int = 0
    precise_applications: int = 0
    precise: bool = False  # all further products in float64
    largest: float = 0.0  # extreme Ritz values of A = K + λI so far
    smallest: float = float("inf")
    best: float = float("inf")  # smallest recursive residual, and when it last fell by 1 %
    best_at: int = 0
    unhelpful: int = 0  # restarts in a row that did not halve the certified residual
    seconds: float = 0.0
    dropped: list[float] = field(default_factory=list)  # empty: nothing was deflated
    certified: list[float] = field(default_factory=list)  # at `anchor`; empty before the first
    residual_history: list[float] = field(default_factory=list)
    certified_history: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class CGProgress:
    """One iteration, as reported to whoever watches."""

    iteration: int
    applications: int
    residual: float  # recursive, max over right-hand sides
    certified: float | None  # the last fresh one, max over right-hand sides
