"""Block conjugate gradients for (K + λI) X = B with a float64 certificate.

All right-hand sides share one search space, so k of them need far fewer passes over K than k
separate solves. The formulation follows Dubrulle's BCGrQ (Retooling the method of block conjugate
gradients, ETNA 12, 2001): residuals are kept as R = Q C with orthonormal Q, so dependent,
duplicate or converged right-hand sides cannot make a small system singular. It differs in:

1. The search directions P are orthonormalised too, which makes the eigenvalues of PᵀAP Ritz values
   of A: negative curvature, ‖A‖ and a condition estimate come for free.
2. Step and conjugation coefficients are explicit projections, (PᵀAP)⁻¹PᵀQ and (PᵀAP)⁻¹(AP)ᵀZ, so
   each step stays optimal on its block when Q holds arbitrary completion vectors and when
   products are rounded to float32.
3. The recursive residual drifts from the true one by about 0.1·eps·‖A‖·‖x − x₀‖. The drift is
   predicted every iteration; when it would spoil the next digits, the solve restarts at the
   present x from a fresh float64 residual (iterative refinement). Keeping the old directions
   across that replacement was measured to be far worse: the new residual is not in their Krylov
   space. No answer is returned as converged on the recursive residual alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import qr

from workers.solves.errors import SolveInterrupted
from workers.solves.operator import Operator
from workers.solves.solution import Float64, Outcome, Solution, SolveStats

Preconditioner = Callable[[Float64], Float64]  # (m, r) -> (m, r), symmetric positive definite

DRIFT_FACTOR = 0.1  # measured: drift of the residual ≈ 0.1·eps·‖K‖·‖x‖
DRIFT_SHARE = 0.1  # of the residual (or the tolerance) that drift may reach before a restart
PROGRESS = 0.5  # a restart that does not halve the certified residual has not helped
CURVATURE_NOISE = 100.0  # × eps × ‖A‖: float64 curvature below minus this is negative


@dataclass(frozen=True)
class CGSettings:
    """When to stop.

    tolerance: certified ‖b − Ax‖₂/‖b‖₂, maximum over right-hand sides.
    max_applications: passes over K, certificates included.
    stagnation_applications: passes without the best residual falling by 1 %. Residuals of CG may
        rise for a long while on ill-conditioned systems, so this is generous.
    refine: restart from float64 residuals, and change to float64 products where float32 ones have
        no more digits. Without it the solve stops at the float32 floor, after one certificate.
    """

    tolerance: float = 1e-6
    max_applications: int = 1000
    stagnation_applications: int = 300
    time_limit_seconds: float | None = None
    refine: bool = True


@dataclass
class CGState:
    """Everything the iteration needs to go on, after whole iterations only (checkpoint.py).

    Right-hand sides are scaled to norm 1; `x` is the scaled solution. Residual = q @ c.
    """

    x: Float64  # (m, k)
    q: Float64  # (m, r) orthonormal, r = min(m, k)
    c: Float64  # (r, k)
    p: Float64  # (m, r) orthonormal search directions
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


def block_cg(
    operator: Operator,
    rhs: Float64,
    *,
    ridge: float = 0.0,
    settings: CGSettings | None = None,
    preconditioner: Preconditioner | None = None,
    resume: CGState | None = None,
    on_iteration: Callable[[CGProgress, CGState], None] = lambda progress, state: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Solution:
    """Solve (K + ridge·I) X = B for B of shape (m, k), K symmetric positive semi-definite.

    `resume` continues from a state that `on_iteration` was given (copy it or write it out: it is
    updated in place) and ends with the same answer as an uninterrupted solve. The value is the
    last iterate (m, k), float64; the outcome says how far to trust it.
    """
    run = _Run(operator, rhs, ridge, settings or CGSettings(), preconditioner, resume)
    outcome = run.solve(on_iteration, should_stop)
    return Solution(run.x * run.scale, outcome, run.stats())


class _Run:
    def __init__(
        self,
        operator: Operator,
        rhs: Float64,
        ridge: float,
        settings: CGSettings,
        preconditioner: Preconditioner | None,
        resume: CGState | None,
    ) -> None:
        self.operator = operator
        self.ridge = ridge
        self.settings = settings
        self.preconditioner = preconditioner
        norms = np.linalg.norm(rhs, axis=0)
        # Columns of zeros keep their zeros: the answer is 0 and its residual is 0.
        self.scale = np.where(norms > 0, norms, 1.0)
        self.b = rhs / self.scale
        self.started = time.monotonic()
        self.resumed_at = resume.iteration if resume else 0
        self.state = resume or self._initial()
        self.before = self.state.seconds

    @property
    def x(self) -> Float64:
        return self.state.x

    def _initial(self) -> CGState:
        x = np.zeros_like(self.b)
        q, c = _orthonormal(self.b)
        p, _ = _orthonormal(self._preconditioned(q))
        return CGState(x, q, c, p, x.copy())

    def solve(
        self,
        on_iteration: Callable[[CGProgress, CGState], None],
        should_stop: Callable[[], bool],
    ) -> Outcome:
        try:
            while True:
                outcome = self._examine()
                if outcome is not None:
                    return outcome
                if should_stop():
                    return Outcome.CANCELLED
                outcome = self._step()
                if outcome is not None:
                    return outcome
                self.state.seconds = self.before + time.monotonic() - self.started
                on_iteration(self._progress(), self.state)
        except SolveInterrupted:
            return Outcome.CANCELLED

    def _progress(self) -> CGProgress:
        s = self.state
        certified = max(s.certified, default=None)
        return CGProgress(s.iteration, s.applications, _largest_norm(s.c), certified)

    def _examine(self) -> Outcome | None:
        """Decide from the recursive residual whether to certify, restart, stop or go on."""
        s, limits = self.state, self.settings
        recursive = np.linalg.norm(s.c, axis=0)
        worst = float(recursive.max(initial=0.0))
        if not np.isfinite(worst):
            return Outcome.NON_FINITE
        if worst < 0.99 * s.best:
            s.best, s.best_at = worst, s.applications
        if worst <= limits.tolerance:
            return self._certify_small()
        if limits.refine and not s.precise:
            drift = self._drift(s.x - s.anchor, self.operator.epsilon)
            if np.any(drift > DRIFT_SHARE * np.maximum(recursive, limits.tolerance)):
                outcome = self._restart()
                if outcome is not None:
                    return outcome
        return self._limits()

    def _certify_small(self) -> Outcome | None:
        """The recursive residual is small enough: is the true one?"""
        s, limits = self.state, self.settings
        outcome = self._restart()
        if outcome is not None or max(s.certified, default=0.0) <= limits.tolerance:
            return outcome or Outcome.CONVERGED
        if not limits.refine:
            at_floor = max(s.certified) <= 10 * self._floor(self.operator.epsilon)
            return Outcome.FLOOR if at_floor else Outcome.STAGNATED
        if s.precise and s.unhelpful >= 3:
            at_floor = max(s.certified) <= 10 * self._floor(np.finfo(np.float64).eps)
            return Outcome.FLOOR if at_floor else Outcome.STAGNATED
        return self._limits()

    def _limits(self) -> Outcome | None:
        s, limits = self.state, self.settings
        stop: Outcome | None = None
        elapsed = time.monotonic() - self.started
        if limits.time_limit_seconds is not None and elapsed > limits.time_limit_seconds:
            stop = Outcome.TIME_LIMIT
        elif s.applications >= limits.max_applications - 1:  # one is kept for the certificate
            stop = Outcome.MAX_APPLICATIONS
        elif s.applications - s.best_at >= limits.stagnation_applications:
            if limits.refine and not s.precise:
                s.precise, s.best_at = True, s.applications
                return self._restart()
            stop = Outcome.STAGNATED
        if stop is not None and not self._fresh:
            failed = self._restart()
            if failed is not None:
                return failed
            if max(s.certified, default=0.0) <= limits.tolerance:
                return Outcome.CONVERGED
        return stop

    @property
    def _fresh(self) -> bool:
        """Whether the residual belongs to a fresh application to the present x."""
        s = self.state
        return bool(s.certified) and np.array_equal(s.x, s.anchor)

    def _restart(self) -> Outcome | None:
        """Restart at x from b − Ax in float64, and judge the progress since the last time."""
        s = self.state
        residual = self.b - self._apply(s.x, precise=True)
        if not np.isfinite(residual).all():
            return Outcome.NON_FINITE
        previous = max(s.certified) if s.certified else 1.0
        s.certified = np.linalg.norm(residual, axis=0).tolist()
        s.certified_history.append((s.iteration, max(s.certified)))
        s.anchor = s.x.copy()
        s.q, s.c = _orthonormal(residual)
        if max(s.certified) > PROGRESS * previous:
            s.unhelpful += 1
            s.precise = s.precise or self.settings.refine
        else:
            s.unhelpful = 0
        s.p, _ = _orthonormal(self._preconditioned(s.q))
        return None

    def _step(self) -> Outcome | None:
        s = self.state
        w = self._apply(s.p, precise=s.precise)
        if not np.isfinite(w).all():
            return Outcome.NON_FINITE
        ritz, basis = np.linalg.eigh(_symmetric(s.p.T @ w))
        epsilon = np.finfo(np.float64).eps if s.precise else self.operator.epsilon
        s.largest = max(s.largest, float(ritz[-1]))
        if not s.precise and self.settings.refine and ritz[0] <= epsilon * s.largest:
            # Curvature below the noise of float32 products: look again in float64.
            s.precise = True
            return None
        if ritz[0] < -CURVATURE_NOISE * epsilon * s.largest or s.largest <= 0:
            return Outcome.NOT_POSITIVE_DEFINITE
        keep = ritz > CURVATURE_NOISE * np.finfo(np.float64).eps * s.largest
        s.smallest = min(s.smallest, float(ritz[keep].min(initial=s.smallest)))
        inverse = (basis[:, keep] / ritz[keep]) @ basis[:, keep].T

        step = inverse @ (s.p.T @ s.q)
        s.x += s.p @ (step @ s.c)
        s.q, factor = _orthonormal(s.q - w @ step)
        s.c = factor @ s.c
        z = self._preconditioned(s.q)
        s.p, _ = _orthonormal(z - s.p @ (inverse @ (w.T @ z)))
        s.iteration += 1
        s.residual_history.append(_largest_norm(s.c))
        return None

    def _apply(self, vectors: Float64, *, precise: bool) -> Float64:
        product = self.operator.apply(vectors, precise=precise)
        self.state.applications += 1
        self.state.precise_applications += precise
        return product + self.ridge * vectors

    def _preconditioned(self, q: Float64) -> Float64:
        return q if self.preconditioner is None else self.preconditioner(q)

    def _drift(self, moved: Float64, epsilon: float) -> Float64:
        norms: Float64 = np.linalg.norm(moved, axis=0)
        return DRIFT_FACTOR * epsilon * self.state.largest * norms

    def _floor(self, epsilon: float) -> float:
        return float(self._drift(self.state.x, epsilon).max(initial=0.0))

    def stats(self) -> SolveStats:
        s, traffic = self.state, self.operator.traffic
        epsilon = np.finfo(np.float64).eps if self.settings.refine else self.operator.epsilon
        seen = s.iteration > 0 and s.smallest > 0 and np.isfinite(s.smallest)
        return SolveStats(
            method="cg",
            applications=s.applications,
            precise_applications=s.precise_applications,
            iterations=s.iteration,
            residual_history=list(s.residual_history),
            certified_history=list(s.certified_history),
            certified=list(s.certified) if self._fresh else None,
            predicted_floor=self._floor(epsilon),
            largest_ritz=s.largest if seen else None,
            smallest_ritz=s.smallest if seen else None,
            condition_estimate=s.largest / s.smallest if seen else None,
            seconds=self.before + time.monotonic() - self.started,
            placement=self.operator.placement,
            bytes_read=traffic.bytes_read,
            bytes_moved=traffic.bytes_moved,
            lost_workers=traffic.lost_workers,
            resumed_at=self.resumed_at,
        )


def _orthonormal(block: Float64) -> tuple[Float64, Float64]:
    """Householder QR: q stays orthonormal when columns are dependent or zero."""
    q, r = qr(block, mode="economic", check_finite=False)
    return q, r


def _largest_norm(block: Float64) -> float:
    return float(np.linalg.norm(block, axis=0).max(initial=0.0))


def _symmetric(a: Float64) -> Float64:
    return 0.5 * (a + a.T)
