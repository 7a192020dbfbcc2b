"""Block CG against dense float64 solutions, on the systems where CG usually goes wrong."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from support.grams import ridge_solution, spd
from workers.solves.block_cg import CGProgress, CGSettings, CGState, block_cg
from workers.solves.cg_iteration import _block_width
from workers.solves.operator import LocalOperator
from workers.solves.solution import Outcome, Solution
from workers.solves.source import ArrayTiles


def operator(k: np.ndarray, tile_rows: int = 128) -> LocalOperator:
    return LocalOperator(ArrayTiles(k, tile_rows))


def right_hand_sides(rows: int, count: int = 5, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((rows, count))


def true_residual(k: np.ndarray, x: np.ndarray, b: np.ndarray, ridge: float) -> np.ndarray:
    r = b - k.astype(np.float64) @ x - ridge * x
    return np.linalg.norm(r, axis=0) / np.linalg.norm(b, axis=0)


@pytest.mark.parametrize("condition", [1e1, 1e3])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equals_the_dense_solution(condition: float, dtype: str) -> None:
    k, b = spd(150, condition=condition, dtype=dtype), right_hand_sides(150)
    solution = block_cg(operator(k), b, ridge=0.3, settings=CGSettings(tolerance=1e-10))
    assert solution.outcome is Outcome.CONVERGED
    exact = ridge_solution(k, b, 0.3)
    assert np.abs(solution.value - exact).max() <= 1e-9 * condition * np.abs(exact).max()


def test_certificate_tells_the_truth_where_the_recursive_residual_lies() -> None:
    k, b = spd(200, condition=3e4), right_hand_sides(200)
    tolerance = 1e-7
    plain = block_cg(operator(k), b, settings=CGSettings(tolerance=tolerance, refine=False))
    truth = true_residual(k, plain.value, b, 0.0)
    assert plain.stats.residual_history[-1] <= tolerance < truth.max() / 10
    np.testing.assert_allclose(plain.stats.certified, truth, rtol=1e-6)
    assert plain.outcome is Outcome.FLOOR
    # The predicted floor is the order of magnitude that was found.
    assert truth.max() / 30 < plain.stats.predicted_floor < truth.max() * 30

    refined = block_cg(operator(k), b, settings=CGSettings(tolerance=tolerance))
    assert refined.outcome is Outcome.CONVERGED
    assert true_residual(k, refined.value, b, 0.0).max() <= tolerance * 1.001
    # Float64 accuracy for a few float64 passes, not for a float64 solve.
    assert refined.stats.precise_applications <= 6
    assert refined.stats.applications <= 1.5 * plain.stats.applications


def test_reaches_small_residuals_on_a_condition_number_beyond_float32() -> None:
    k, b = spd(120, condition=1e8), right_hand_sides(120)
    ridge = 1.0  # the rounding of the entries alone has made K indefinite
    solution = block_cg(operator(k), b, ridge=ridge, settings=CGSettings(tolerance=1e-6))
    worst = true_residual(k, solution.value, b, ridge).max()
    np.testing.assert_allclose(solution.stats.certified_max, worst, rtol=1e-3)
    assert (solution.outcome is Outcome.CONVERGED) == (worst <= 1e-6)


def test_one_search_space_for_all_columns_needs_fewer_passes() -> None:
    k, b = spd(300, condition=1e3, dtype="float64"), right_hand_sides(300, 8)
    together = block_cg(operator(k), b).stats.applications
    alone = [block_cg(operator(k), b[:, [c]]).stats.applications for c in (0, 4)]
    assert together < min(alone) < sum(alone)


def test_widths_to_which_a_block_is_narrowed() -> None:
    # One column at a time doubled the passes over the NTK of 20000 images: 578 instead of 245.
    widths = [_block_width(needed) for needed in (1, 2, 3, 5, 8, 9, 16, 17, 33)]
    assert widths == [1, 2, 4, 8, 8, 16, 16, 32, 48]


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param([0, 0, 0], id="duplicates"),
        pytest.param([0, 1, 2, 0, 1], id="pairs"),
        pytest.param([-1, 0, -1], id="zeros among others"),
    ],
)
def test_dependent_right_hand_sides(columns: list[int]) -> None:
    k, basis = spd(90, condition=50), right_hand_sides(90, 3)
    b = np.column_stack([basis[:, c] if c >= 0 else np.zeros(90) for c in columns])
    solution = block_cg(operator(k), b, settings=CGSettings(tolerance=1e-9))
    assert solution.outcome is Outcome.CONVERGED
    np.testing.assert_allclose(solution.value, ridge_solution(k, b, 0.0), atol=1e-8)


def test_linear_combination_of_right_hand_sides() -> None:
    k, b = spd(90, condition=50), right_hand_sides(90, 3)
    b = np.column_stack([b, b @ [1.0, -2.0, 0.5], 1e-9 * b[:, 0], 1e9 * b[:, 1]])
    solution = block_cg(operator(k), b, settings=CGSettings(tolerance=1e-9))
    exact = ridge_solution(k, b, 0.0)
    errors = np.linalg.norm(solution.value - exact, axis=0) / np.linalg.norm(exact, axis=0)
    assert errors.max() < 1e-7


def test_more_right_hand_sides_than_rows() -> None:
    k, b = spd(7, condition=9), right_hand_sides(7, 20)
    solution = block_cg(operator(k, 3), b, settings=CGSettings(tolerance=1e-12))
    assert solution.outcome is Outcome.CONVERGED
    np.testing.assert_allclose(solution.value, ridge_solution(k, b, 0.0), atol=1e-10)


def test_one_row() -> None:
    solution = block_cg(operator(np.array([[4.0]])), np.array([[2.0, 6.0]]), ridge=1.0)
    np.testing.assert_allclose(solution.value, [[0.4, 1.2]])


def test_zero_right_hand_side_has_a_zero_answer() -> None:
    solution = block_cg(operator(spd(40)), np.zeros((40, 3)))
    assert solution.outcome is Outcome.CONVERGED
    assert not solution.value.any()
    assert solution.stats.certified == [0.0, 0.0, 0.0]


def test_negative_curvature_is_an_outcome() -> None:
    k = spd(100, condition=50, dtype="float64") - 5.0 * np.eye(100)
    solution = block_cg(operator(k), right_hand_sides(100))
    assert solution.outcome is Outcome.NOT_POSITIVE_DEFINITE
    assert not solution.outcome.usable
    assert "ridge" in solution.outcome.advice
    # The same matrix with enough ridge is solved.
    assert block_cg(operator(k), right_hand_sides(100), ridge=5.0).outcome is Outcome.CONVERGED


def test_singular_but_consistent_system() -> None:
    k = spd(60, condition=20, dtype="float64")
    doubled = np.block([[k, k], [k, k]])  # every sample twice
    b = np.vstack([right_hand_sides(60)] * 2)
    solution = block_cg(operator(doubled), b, settings=CGSettings(tolerance=1e-8))
    assert solution.outcome is Outcome.CONVERGED
    assert true_residual(doubled, solution.value, b, 0.0).max() <= 1e-8


def test_singular_and_inconsistent_system_is_never_called_converged() -> None:
    k = spd(60, condition=20, dtype="float64")
    doubled = np.block([[k, k], [k, k]])
    b = right_hand_sides(120)  # duplicates with different targets: no solution without a ridge
    settings = CGSettings(max_applications=400, stagnation_applications=50)
    solution = block_cg(operator(doubled), b, settings=settings)
    assert solution.outcome in {
        Outcome.STAGNATED,
        Outcome.NOT_POSITIVE_DEFINITE,
        Outcome.MAX_APPLICATIONS,
    }


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_non_finite_entries_are_an_outcome(bad: float) -> None:
    k = spd(50)
    k[3, 4] = k[4, 3] = bad
    assert block_cg(operator(k), right_hand_sides(50)).outcome is Outcome.NON_FINITE


def test_limit_of_applications_counts_certificates() -> None:
    k, b = spd(200, condition=1e4), right_hand_sides(200)
    op = operator(k)
    solution = block_cg(op, b, settings=CGSettings(tolerance=1e-8, max_applications=12))
    assert solution.outcome is Outcome.MAX_APPLICATIONS
    assert op.traffic.applications == solution.stats.applications == 12
    np.testing.assert_allclose(
        solution.stats.certified, true_residual(k, solution.value, b, 0.0), rtol=1e-6
    )


def test_time_limit() -> None:
    k, b = spd(200, condition=1e6), right_hand_sides(200)
    settings = CGSettings(tolerance=1e-9, time_limit_seconds=1e-6)
    solution = block_cg(operator(k), b, settings=settings)
    assert solution.outcome is Outcome.TIME_LIMIT
    assert solution.stats.certified is not None


def test_tolerance_below_float64_is_a_floor_not_an_endless_solve() -> None:
    k, b = spd(80, condition=1e3, dtype="float64"), right_hand_sides(80)
    settings = CGSettings(tolerance=1e-17, max_applications=3000)
    solution = block_cg(operator(k), b, settings=settings)
    assert solution.outcome in {Outcome.FLOOR, Outcome.STAGNATED}
    assert solution.stats.certified_max < 1e-9


def test_condition_estimate_is_a_lower_bound_of_the_right_size() -> None:
    k, b = spd(100, condition=200.0), right_hand_sides(100)
    stats = block_cg(operator(k), b, settings=CGSettings(tolerance=1e-10)).stats
    assert 20 < stats.condition_estimate <= 200.5


def test_preconditioner_changes_the_passes_and_not_the_answer() -> None:
    rng = np.random.default_rng(4)
    scale = np.geomspace(1, 300, 150)
    k = (spd(150, condition=10, dtype="float64") * scale[:, None]) * scale
    b = rng.standard_normal((150, 4))
    jacobi = np.diagonal(k)[:, None]
    settings = CGSettings(tolerance=1e-10)
    plain = block_cg(operator(k), b, settings=settings)
    helped = block_cg(operator(k), b, settings=settings, preconditioner=lambda q: q / jacobi)
    assert helped.outcome is Outcome.CONVERGED
    assert helped.stats.applications < plain.stats.applications / 2
    exact = ridge_solution(k, b, 0.0)
    assert np.linalg.norm(helped.value - exact) < 1e-6 * np.linalg.norm(exact)


def test_resumed_solve_ends_with_the_very_same_answer() -> None:
    k, b = spd(130, condition=3e4), right_hand_sides(130)
    settings = CGSettings(tolerance=1e-7)
    states: list[CGState] = []

    def remember(progress: CGProgress, state: CGState) -> None:
        states.append(copy.deepcopy(state))

    whole = block_cg(operator(k), b, settings=settings, on_iteration=remember)
    assert len(whole.stats.certified_history) > 1  # the middle states lie around a restart
    for state in (states[3], states[len(states) // 2], states[-1]):
        at = state.iteration
        resumed = block_cg(operator(k), b, settings=settings, resume=state)
        np.testing.assert_array_equal(resumed.value, whole.value)
        assert resumed.stats.resumed_at == at
        assert resumed.stats.applications == whole.stats.applications
        assert resumed.stats.residual_history == whole.stats.residual_history


def test_cancellation_between_iterations() -> None:
    seen: list[CGProgress] = []
    solution = block_cg(
        operator(spd(200, condition=1e5)),
        right_hand_sides(200),
        on_iteration=lambda progress, state: seen.append(progress),
        should_stop=lambda: len(seen) >= 3,
    )
    assert solution.outcome is Outcome.CANCELLED
    assert len(seen) == 3
    assert solution.stats.certified is None


def test_cancellation_inside_an_application() -> None:
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 25

    k = spd(200, condition=1e5)
    op = LocalOperator(ArrayTiles(k, 50), should_stop=stop)  # ten tiles
    solution = block_cg(op, right_hand_sides(200))
    assert solution.outcome is Outcome.CANCELLED
    assert op.traffic.applications == 2
    assert calls == 26


def test_history_is_reported_as_it_happens() -> None:
    seen: list[CGProgress] = []
    solution: Solution = block_cg(
        operator(spd(100)), right_hand_sides(100), on_iteration=lambda p, s: seen.append(p)
    )
    assert [p.residual for p in seen] == solution.stats.residual_history
    assert [p.iteration for p in seen] == list(range(1, solution.stats.iterations + 1))
    assert solution.stats.to_json()["certified_max"] <= 1e-6


def test_every_outcome_has_advice() -> None:
    assert all(outcome.advice for outcome in Outcome)
    assert {o for o in Outcome if not o.usable} == {
        Outcome.NON_FINITE,
        Outcome.NOT_POSITIVE_DEFINITE,
        Outcome.CANCELLED,
    }
