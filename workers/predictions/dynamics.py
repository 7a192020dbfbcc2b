"""Training with a constant kernel Θ: f_t = f₀ + Θ a_t, the duals a_t from the training set alone.

Gradient flow on L(f, y) + (λ/2)‖θ − θ₀‖² moves them as ȧ = −∂L/∂f − λ a; descent makes steps
of a learning rate. Exact for the squared loss (survey (7)-(9)); for the others by integration with
a local relative error of 1e-8, or by taking the steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from scipy.integrate import DOP853
from scipy.sparse.linalg import eigsh

from workers.analyses.checks import Floats
from workers.predictions.eigensystem import Eigensystem
from workers.predictions.losses import CURVATURE, Loss, slope
from workers.predictions.time_factors import descent_factors, flow_factors
from workers.solves.errors import SolveFailedError
from workers.solves.state_keeper import State

RELATIVE_ERROR, ABSOLUTE_ERROR = 1e-8, 1e-10  # of one step of the integrator, of a dual
MAX_EVALUATIONS = 200_000  # products with the kernel in one integration
# DOP853 is stable to |step·rate| ~ 6 with 12 evaluations a step.
EVALUATIONS_PER_UNIT = 2.0


class Kernel(Protocol):
    """Θ (m, m), as an array or as something that multiplies like one."""

    def __matmul__(self, vectors: Floats, /) -> Floats: ...


@dataclass(frozen=True)
class Training:
    """What is trained: `targets` (m, k), outputs `start` (m, k) at time 0, `ridge` in units of the
    kernel."""

    loss: Loss
    targets: Floats
    start: Floats
    ridge: float


def exact_flow(
    system: Eigensystem, training: Training, times: Sequence[float | None]
) -> list[Floats]:
    """Duals (m, k) of the squared loss at each time; None: trained to the end.

    Raises SolveFailedError for None if Θ + ridge·I is not positive definite, and where an
    indefinite kernel has made them overflow.
    """
    if None in times:
        system.require_definite(training.ridge)
    values, missing = system.values + training.ridge, training.targets - training.start
    return _finite([system.apply(flow_factors(values, t), missing) for t in times])


def exact_descent(
    system: Eigensystem, training: Training, steps: Sequence[int], rate: float
) -> list[Floats]:
    """Duals (m, k) of the squared loss after each number of steps. Raises SolveFailedError where
    an unstable rate has made them overflow."""
    values, missing = system.values + training.ridge, training.targets - training.start
    return _finite([system.apply(descent_factors(values, s, rate), missing) for s in steps])


def integrated_flow(
    kernel: Kernel,
    training: Training,
    times: Sequence[float],
    largest: float,
    check_stop: Callable[[], None] = lambda: None,
    *,
    resume: State | None = None,
    on_state: Callable[[State], None] = lambda state: None,
) -> list[Floats]:
    """Duals (m, k) at ascending finite times, for any loss. `largest`: eigenvalue of the kernel.

    An explicit method of order 8: its steps are bound by the fastest mode, so the work grows as
    time · λ₁. `resume`: a state that `on_state` was given after a step, of the same arguments.
    Raises SolveFailedError where that is more than MAX_EVALUATIONS.
    """
    shape = training.targets.shape
    found = [np.zeros(shape) for time in times if time == 0]
    if len(found) == len(times):
        return found
    fastest = CURVATURE[training.loss] * largest + training.ridge
    if evaluations(times[-1], fastest) > MAX_EVALUATIONS:
        limit = MAX_EVALUATIONS / (EVALUATIONS_PER_UNIT * fastest)
        raise SolveFailedError(
            f"Flow to time {times[-1]:.6g} would need about"
            f" {evaluations(times[-1], fastest):.2g} products with the kernel; the limit"
            f" is {MAX_EVALUATIONS}.",
            advice=f"Ask for times up to {limit:.3g}, or use the squared loss, which is exact.",
            largest_time=limit,
        )

    def motion(_: float, flat: Floats) -> Floats:
        check_stop()
        return _motion(kernel, training, flat.reshape(shape)).ravel()

    start, dual, step = 0.0, np.zeros(training.targets.size), None
    if resume is not None:
        start, dual, found = resume.facts["time"], resume.arrays["dual"], _found(resume)
        step = min(resume.facts["step"], times[-1] - start)
    solver = DOP853(
        motion,
        start,
        dual,
        times[-1],
        first_step=step,
        rtol=RELATIVE_ERROR,
        atol=ABSOLUTE_ERROR,
    )
    while len(found) < len(times):
        message = solver.step()
        if solver.status == "failed":
            raise SolveFailedError(
                f"The integration stopped: {message}", advice="Ask for earlier times."
            )
        reached = [time for time in times[len(found) :] if time <= solver.t]
        if reached:
            between = solver.dense_output()
            found += [between(time).reshape(shape) for time in reached]
        facts = {"time": float(solver.t), "step": float(solver.h_abs)}
        on_state(_state(facts, np.asarray(solver.y), found))
    return found


def evaluations(time: float, fastest: float) -> float:
    """Products with the kernel that `integrated_flow` takes, about; `fastest`: CURVATURE · λ₁ +
    ridge."""
    return time * fastest * EVALUATIONS_PER_UNIT


def stepped_descent(
    kernel: Kernel,
    training: Training,
    steps: Sequence[int],
    rate: float,
    check_stop: Callable[[], None] = lambda: None,
    *,
    resume: State | None = None,
    on_state: Callable[[State], None] = lambda state: None,
) -> list[Floats]:
    """Duals (m, k) after each of the ascending numbers of steps, for any loss, step by step.

    `resume`: a state that `on_state` was given after a step, of the same arguments. Raises
    SolveFailedError where they overflow."""
    dual, done, found = np.zeros(training.targets.shape), 0, []
    if resume is not None:
        dual, done, found = resume.arrays["dual"], resume.facts["done"], _found(resume)
    for wanted in steps[len(found) :]:
        while done < wanted:
            check_stop()
            dual = dual + rate * _motion(kernel, training, dual)
            done += 1
            on_state(_state({"done": done}, dual, found))
        found.append(dual)
    return _finite(found)


def _state(facts: dict[str, Any], dual: Floats, found: Sequence[Floats]) -> State:
    moments = {f"found-{number}": one for number, one in enumerate(found)}
    return State({**facts, "found": len(found)}, {"dual": dual, **moments})


def _found(state: State) -> list[Floats]:
    return [state.arrays[f"found-{number}"] for number in range(state.facts["found"])]


def largest_eigenvalue(kernel: Floats) -> float:
    """λ₁ of a symmetric matrix (m, m) to 1e-6, by Lanczos from a fixed start."""
    if len(kernel) < 3:  # too small for Lanczos
        return float(np.linalg.eigvalsh(kernel)[-1])
    start = np.random.default_rng(0).standard_normal(len(kernel))
    found = eigsh(kernel, k=1, which="LA", tol=1e-6, v0=start, return_eigenvectors=False)
    return float(found[0])


def rate_limit(loss: Loss, largest: float, ridge: float) -> float:
    """Learning rates below this are stable: 2/(curvature·λ₁ + ridge)."""
    return 2.0 / (CURVATURE[loss] * largest + ridge)


def _motion(kernel: Kernel, training: Training, dual: Floats) -> Floats:
    outputs = training.start + kernel @ dual
    return -slope(training.loss, outputs, training.targets) - training.ridge * dual


def _finite(duals: list[Floats]) -> list[Floats]:
    if not all(np.isfinite(dual).all() for dual in duals):
        raise SolveFailedError(
            "Training diverged beyond what numbers can hold.",
            advice="Use a learning rate below the limit, a larger ridge, or earlier times.",
        )
    return duals
