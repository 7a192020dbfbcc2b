"""Block conjugate gradients for (K + λI) X = B with a float64 certificate, for one λ or several.

Solves for several ridges run in step: whenever they ask for products of the same precision, their
blocks of vectors go through one application of K together. The mathematics is in cg_iteration.py.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from workers.solves.cg_iteration import Asked, Iteration
from workers.solves.cg_state import CGProgress, CGSettings, CGState, Preconditioner
from workers.solves.errors import SolveInterrupted
from workers.solves.operator import Operator
from workers.solves.solution import Float64, Outcome, Solution

__all__ = [
    "CGProgress",
    "CGSettings",
    "CGState",
    "Preconditioner",
    "System",
    "block_cg",
    "block_cg_ridges",
    "solve_in_step",
]


def block_cg(
    operator: Operator,
    rhs: Float64,
    *,
    ridge: float = 0.0,
    settings: CGSettings | None = None,
    preconditioner: Preconditioner | None = None,
    norm_estimate: float = 0.0,
    resume: CGState | None = None,
    on_iteration: Callable[[CGProgress, CGState], None] = lambda progress, state: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Solution:
    """Solve (K + ridge·I) X = B for B of shape (m, k), K symmetric positive semi-definite.

    `norm_estimate`: a lower bound of ‖K‖₂ if one is known; with a preconditioner the iteration
    sees the largest eigenvalue late, and it predicts the rounding of its products from it.
    `resume` continues from a state that `on_iteration` was given (copy it or write it out: it is
    updated in place) and ends with the same answer as an uninterrupted solve, if the
    preconditioner is the same one. The value is the last iterate (m, k), float64; the outcome says
    how far to trust it.
    """
    return block_cg_ridges(
        operator,
        rhs,
        (ridge,),
        settings=settings,
        preconditioner=None if preconditioner is None else lambda _: preconditioner,
        norm_estimate=norm_estimate,
        resume=(resume,),
        on_iteration=lambda _, progress, state: on_iteration(progress, state),
        should_stop=should_stop,
    )[0]


def block_cg_ridges(
    operator: Operator,
    rhs: Float64,
    ridges: Sequence[float],
    *,
    settings: CGSettings | None = None,
    preconditioner: Callable[[float], Preconditioner] | None = None,
    norm_estimate: float = 0.0,
    resume: Sequence[CGState | None] | None = None,
    on_iteration: Callable[[int, CGProgress, CGState], None] = lambda number, progress, state: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Solution]:
    """Solve (K + λI) X = B for every λ of `ridges`, each pass over K serving all of them.

    `preconditioner` makes the one for a ridge. `resume` holds a state or None for each ridge, and
    `on_iteration` is told which one advanced. Solutions come in the order of the ridges, each with
    its own outcome and certificate; the passes counted in a solution are those it took part in.
    """
    states = resume if resume is not None else [None] * len(ridges)
    systems = [
        System(rhs, ridge, None if preconditioner is None else preconditioner(ridge), state)
        for ridge, state in zip(ridges, states, strict=True)
    ]
    return solve_in_step(
        operator,
        systems,
        settings=settings,
        norm_estimate=norm_estimate,
        on_iteration=on_iteration,
        should_stop=should_stop,
    )


@dataclass(frozen=True)
class System:
    """(K + ridge·I) X = B, B (m, k). `without`: rows and columns of K that are taken to be zero; B
    must be zero there, and so will X be."""

    rhs: Float64
    ridge: float
    preconditioner: Preconditioner | None = None
    resume: CGState | None = None
    without: NDArray[np.int64] | None = None


def solve_in_step(
    operator: Operator,
    systems: Sequence[System],
    *,
    settings: CGSettings | None = None,
    norm_estimate: float = 0.0,
    on_iteration: Callable[[int, CGProgress, CGState], None] = lambda number, progress, state: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> list[Solution]:
    """Solve all systems, each pass over K serving every one that needs it; as `block_cg_ridges`."""
    runs = [
        Iteration(
            operator,
            system.rhs,
            system.ridge,
            settings or CGSettings(),
            system.preconditioner,
            system.resume,
            norm_estimate,
        )
        for system in systems
    ]

    def told(number: int) -> Callable[[CGProgress, CGState], None]:
        return lambda progress, state: on_iteration(number, progress, state)

    solves = [
        _without(run.solve(told(number), should_stop), system.without)
        for number, (run, system) in enumerate(zip(runs, systems, strict=True))
    ]
    outcomes = _run_in_step(operator, solves)
    return [
        Solution(run.x * run.scale, outcome, run.stats())
        for run, outcome in zip(runs, outcomes, strict=True)
    ]


Solving = Generator[Asked, Float64, Outcome]


def _without(solving: Solving, rows: NDArray[np.int64] | None) -> Solving:
    """The same solve with a matrix whose `rows` and columns are zero.

    Both: search directions may reach into these rows, when they complete a basis that has lost
    rank, and the matrix must stay symmetric for them.
    """
    if rows is None:
        return (yield from solving)
    try:
        asked = next(solving)
        while True:
            vectors = asked.vectors.copy()
            vectors[rows] = 0.0
            try:
                product = yield Asked(vectors, asked.precise)
            except SolveInterrupted as stop:
                asked = solving.throw(stop)
            else:
                product[rows] = 0.0
                asked = solving.send(product)
    except StopIteration as end:
        outcome: Outcome = end.value
        return outcome


def _run_in_step(operator: Operator, solves: Sequence[Solving]) -> list[Outcome]:
    """Serve what the solves ask for, as many as possible with each application, until all end."""
    outcomes: dict[int, Outcome] = {}
    asked: dict[int, Asked] = {}

    def go_on(number: int, advance: Callable[[], Asked]) -> None:
        try:
            asked[number] = advance()
        except StopIteration as end:
            outcomes[number] = end.value

    for number, solve in enumerate(solves):
        go_on(number, lambda solve=solve: next(solve))  # type: ignore[misc]
    while asked:
        # Float32 products first: solves that wait for a certificate then share that as well.
        precise = all(one.precise for one in asked.values())
        batch = {number: one for number, one in asked.items() if one.precise == precise}
        for number in batch:
            del asked[number]
        blocks = [one.vectors for one in batch.values()]
        try:
            product = operator.apply(
                np.hstack(blocks) if len(blocks) > 1 else blocks[0], precise=precise
            )
        except SolveInterrupted:
            for number in [*batch, *asked]:
                go_on(number, lambda n=number: solves[n].throw(SolveInterrupted()))  # type: ignore[misc]
            break
        edges = np.cumsum([block.shape[1] for block in blocks])[:-1]
        for number, part in zip(batch, np.split(product, edges, axis=1), strict=True):
            go_on(number, lambda n=number, p=part: solves[n].send(p))  # type: ignore[misc]
    return [outcomes[number] for number in range(len(solves))]
