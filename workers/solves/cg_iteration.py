"""One solve by block conjugate gradients, as a generator that asks for products with K.

It yields `Asked` and is sent K V back, so that whoever drives it decides how products are made:
several solves that ask at the same time share one application (block_cg.py).

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
4. Converged columns are deflated: singular directions of C below a share of the tolerance leave Q,
   and their norms are added to the residual from then on. A narrower block needs more passes, so
   this happens only where it halves a block, or makes it 16 columns narrower.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from dataclasses import dataclass

import numpy as np
from scipy.linalg import qr

from workers.solves.cg_state import CGProgress, CGSettings, CGState, Preconditioner
from workers.solves.errors import SolveInterrupted
from workers.solves.operator import Operator
from workers.solves.solution import Float64, Outcome, SolveStats

DRIFT_FACTOR = 0.1  # measured: drift of the residual ≈ 0.1·eps·‖K‖·‖x‖
DRIFT_SHARE = 0.1  # of the residual (or the tolerance) that drift may reach before a restart
DEFLATED_SHARE = 0.3  # of the tolerance below which singular directions of the residual may leave
PROGRESS = 0.5  # a restart that does not halve the certified residual has not helped
CURVATURE_NOISE = 100.0  # × eps × ‖A‖: float64 curvature below minus this is negative


@dataclass(frozen=True)
class Asked:
    """K V is wanted for `vectors` (m, r); `precise`: all products in float64."""

    vectors: Float64
    precise: bool


Asking = Generator[Asked, Float64, Outcome | None]


class Iteration:
    """The solve of (K + ridge·I) X = B for one ridge."""

    def __init__(
        self,
        operator: Operator,
        rhs: Float64,
        ridge: float,
        settings: CGSettings,
        preconditioner: Preconditioner | None,
        resume: CGState | None,
        norm_estimate: float = 0.0,
    ) -> None:
        self.operator = operator
        self.ridge = ridge
        self.settings = settings
        self.preconditioner = preconditioner
        # Ritz values of a preconditioned block reach ‖A‖ late: the preconditioner damps just the
        # directions of the large eigenvalues.
        self.norm_estimate = norm_estimate
        norms = np.linalg.norm(rhs, axis=0)
        # Columns of zeros keep their zeros: the answer is 0 and its residual is 0.
        self.scale = np.where(norms > 0, norms, 1.0)
        self.b = rhs / self.scale
        self.details: dict[str, float] = {}
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
        return CGState(x, q, c, p, x.copy(), precise=self.settings.precise)

    def solve(
        self,
        on_iteration: Callable[[CGProgress, CGState], None],
        should_stop: Callable[[], bool],
    ) -> Generator[Asked, Float64, Outcome]:
        """Ask for products until an outcome is known, which is the value of the generator.

        A SolveInterrupted thrown in ends it as cancelled.
        """
        try:
            while True:
                outcome = yield from self._examine()
                if outcome is not None:
                    return outcome
                if should_stop():
                    return Outcome.CANCELLED
                outcome = yield from self._step()
                if outcome is not None:
                    return outcome
                self.state.seconds = self.before + time.monotonic() - self.started
                on_iteration(self._progress(), self.state)
        except SolveInterrupted:
            return Outcome.CANCELLED

    def _progress(self) -> CGProgress:
        s = self.state
        certified = max(s.certified, default=None)
        residual = float(self._recursive().max(initial=0.0))
        return CGProgress(s.iteration, s.applications, residual, certified)

    def _examine(self) -> Asking:
        """Decide from the recursive residual whether to certify, restart, stop or go on."""
        s, limits = self.state, self.settings
        recursive = self._recursive()
        worst = float(recursive.max(initial=0.0))
        if not np.isfinite(worst):
            return Outcome.NON_FINITE
        if worst < 0.99 * s.best:
            s.best, s.best_at = worst, s.applications
        if worst <= limits.tolerance:
            return (yield from self._certify_small())
        if limits.refine and not s.precise:
            drift = self._drift(s.x - s.anchor, self.operator.epsilon)
            if np.any(drift > DRIFT_SHARE * np.maximum(recursive, limits.tolerance)):
                outcome = yield from self._restart()
                if outcome is not None:
                    return outcome
        return (yield from self._limits())

    def _certify_small(self) -> Asking:
        """The recursive residual is small enough: is the true one?"""
        s, limits = self.state, self.settings
        outcome = yield from self._restart()
        if outcome is not None or max(s.certified, default=0.0) <= limits.tolerance:
            return outcome or Outcome.CONVERGED
        if not limits.refine:
            at_floor = max(s.certified) <= 10 * self._floor(self.operator.epsilon)
            return Outcome.FLOOR if at_floor else Outcome.STAGNATED
        if s.precise and s.unhelpful >= 3:
            at_floor = max(s.certified) <= 10 * self._floor(np.finfo(np.float64).eps)
            return Outcome.FLOOR if at_floor else Outcome.STAGNATED
        return (yield from self._limits())

    def _limits(self) -> Asking:
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
                return (yield from self._restart())
            stop = Outcome.STAGNATED
        if stop is not None and not self._fresh:
            failed = yield from self._restart()
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

    def _restart(self) -> Asking:
        """Restart at x from b − Ax in float64, and judge the progress since the last time."""
        s = self.state
        residual = self.b - (yield from self._apply(s.x, precise=True))
        if not np.isfinite(residual).all():
            return Outcome.NON_FINITE
        previous = max(s.certified) if s.certified else 1.0
        s.certified = np.linalg.norm(residual, axis=0).tolist()
        s.certified_history.append((s.iteration, max(s.certified)))
        q, c = _orthonormal(residual)
        q, c, dropped = self._deflated(q, c, [])
        p, _ = _orthonormal(self._preconditioned(q))
        s.anchor, s.q, s.c, s.p, s.dropped = s.x.copy(), q, c, p, dropped
        if max(s.certified) > PROGRESS * previous:
            s.unhelpful += 1
            s.precise = s.precise or self.settings.refine
        else:
            s.unhelpful = 0
        return None

    def _step(self) -> Asking:
        s = self.state
        w = yield from self._apply(s.p, precise=s.precise)
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
            self.details["negative_curvature"] = float(ritz[0])
            return Outcome.NOT_POSITIVE_DEFINITE
        keep = ritz > CURVATURE_NOISE * np.finfo(np.float64).eps * s.largest
        s.smallest = min(s.smallest, float(ritz[keep].min(initial=s.smallest)))
        inverse = (basis[:, keep] / ritz[keep]) @ basis[:, keep].T

        step = inverse @ (s.p.T @ s.q)
        q, factor = _orthonormal(s.q - w @ step)
        q, c, dropped = self._deflated(q, factor @ s.c, s.dropped)
        z = self._preconditioned(q)  # may be interrupted: nothing of the state has changed yet
        p, _ = _orthonormal(z - s.p @ (inverse @ (w.T @ z)))
        s.x += s.p @ (step @ s.c)
        s.q, s.c, s.p, s.dropped = q, c, p, dropped
        s.iteration += 1
        s.residual_history.append(float(self._recursive().max(initial=0.0)))
        return None

    def _deflated(
        self, q: Float64, c: Float64, dropped: list[float]
    ) -> tuple[Float64, Float64, list[float]]:
        """Q, C and norms without the directions in which every column has converged."""
        if len(c) == 1:
            return q, c, dropped
        left, sizes, right = np.linalg.svd(c, full_matrices=False)
        needed = int((sizes > DEFLATED_SHARE * self.settings.tolerance).sum())
        kept = _block_width(max(needed, 1))
        if kept >= len(c):
            return q, c, dropped
        lost = np.linalg.norm(sizes[kept:, None] * right[kept:], axis=0)
        norms = np.hypot(lost, np.array(dropped) if dropped else 0.0)
        if np.any(norms > DEFLATED_SHARE * self.settings.tolerance):
            return q, c, dropped  # several small directions add up to too much
        return q @ left[:, :kept], sizes[:kept, None] * right[:kept], norms.tolist()

    def _recursive(self) -> Float64:
        """Norms of the recursive residual per right-hand side, what was deflated included."""
        norms: Float64 = np.linalg.norm(self.state.c, axis=0)
        return np.hypot(norms, self.state.dropped) if self.state.dropped else norms

    def _apply(self, vectors: Float64, *, precise: bool) -> Generator[Asked, Float64, Float64]:
        product = yield Asked(vectors, precise)
        self.state.applications += 1
        self.state.precise_applications += precise
        return product + self.ridge * vectors

    def _preconditioned(self, q: Float64) -> Float64:
        return q if self.preconditioner is None else self.preconditioner(q)

    def _drift(self, moved: Float64, epsilon: float) -> Float64:
        norms: Float64 = np.linalg.norm(moved, axis=0)
        return DRIFT_FACTOR * epsilon * max(self.state.largest, self.norm_estimate) * norms

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
            details=dict(self.details),
        )


def _block_width(needed: int) -> int:
    """Columns that a block keeps when it needs `needed`: 1, 2, 4, 8, 16, 32, 48, ..."""
    if needed <= 8:
        return 1 << (needed - 1).bit_length()
    return -(-needed // 16) * 16


def _orthonormal(block: Float64) -> tuple[Float64, Float64]:
    """Householder QR: q stays orthonormal when columns are dependent or zero."""
    q, r = qr(block, mode="economic", check_finite=False)
    return q, r


def _symmetric(a: Float64) -> Float64:
    return 0.5 * (a + a.T)
