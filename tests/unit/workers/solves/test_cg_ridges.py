"""Several ridges in one run: each answer that of its own system, passes shared."""

from __future__ import annotations

import copy

import numpy as np

from support.grams import kernel_like, ridge_solution, spd
from workers.solves.block_cg import CGSettings, CGState, block_cg, block_cg_ridges
from workers.solves.cg_solver import PreconditionerSettings, solve_ridges
from workers.solves.operator import LocalOperator
from workers.solves.solution import Outcome
from workers.solves.source import ArrayTiles

RIDGES = (1e-2, 1.0, 30.0)


def targets(rows: int, count: int = 4) -> np.ndarray:
    return np.random.default_rng(1).standard_normal((rows, count))


def test_every_ridge_gets_the_answer_of_its_own_system() -> None:
    k, b = spd(150, condition=300), targets(150)
    operator = LocalOperator(ArrayTiles(k, 64))
    settings = CGSettings(tolerance=1e-9)
    together = block_cg_ridges(operator, b, RIDGES, settings=settings)
    for ridge, solution in zip(RIDGES, together, strict=True):
        assert solution.outcome is Outcome.CONVERGED
        exact = ridge_solution(k, b, ridge)
        assert np.abs(solution.value - exact).max() < 1e-6 * np.abs(exact).max()
        alone = block_cg(LocalOperator(ArrayTiles(k, 64)), b, ridge=ridge, settings=settings)
        assert abs(solution.stats.applications - alone.stats.applications) <= 3
    # The hardest ridge sets the number of passes; the others ride along.
    counts = [solution.stats.applications for solution in together]
    assert operator.traffic.applications < max(counts) + 4 * len(RIDGES) < sum(counts)


def test_a_ridge_that_fails_does_not_stop_the_others() -> None:
    k = spd(100, condition=50, dtype="float64") - 5.0 * np.eye(100)
    outcomes = [
        solution.outcome
        for solution in block_cg_ridges(LocalOperator(ArrayTiles(k, 64)), targets(100), (0.0, 5.0))
    ]
    assert outcomes == [Outcome.NOT_POSITIVE_DEFINITE, Outcome.CONVERGED]


def test_ridges_share_one_preconditioner_and_resume_to_the_same_bits() -> None:
    k, _, labels, _ = kernel_like(700, 1, features=3)
    b = np.where(labels[:, None] == np.arange(3), 0.9, -0.1)
    ridges = [1e-3, 1e-1]
    states: list[list[CGState | None]] = []
    latest: list[CGState | None] = [None, None]

    def remember(number: int, progress: object, state: CGState) -> None:
        latest[number] = copy.deepcopy(state)
        states.append(list(latest))

    def solve(resume: list[CGState | None] | None = None) -> list[np.ndarray]:
        operator = LocalOperator(ArrayTiles(k, 128))
        solutions = solve_ridges(
            operator,
            b,
            ridges,
            diagonal=np.diagonal(k).astype(np.float64),
            settings=CGSettings(tolerance=1e-8),
            preconditioner=PreconditionerSettings(rank=100),
            resume=resume,
            on_iteration=remember,
        )
        assert [s.outcome for s in solutions] == [Outcome.CONVERGED] * 2
        facts = [s.stats.details["preconditioner"] for s in solutions]
        assert facts[0]["kind"] == "rpcholesky"
        assert facts[0]["columns"] == 100
        assert solutions[0].stats.details["shared_applications"] == operator.traffic.applications
        return [s.value for s in solutions]

    whole = solve()
    exact = [ridge_solution(k, b, ridge) for ridge in ridges]
    for value, truth in zip(whole, exact, strict=True):
        np.testing.assert_allclose(value, truth, atol=1e-5 * np.abs(truth).max())
    for resumed, value in zip(solve(states[len(states) // 2]), whole, strict=True):
        np.testing.assert_array_equal(resumed, value)
