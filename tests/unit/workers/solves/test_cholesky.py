"""The direct solve: accuracy, its certificate, and what it says when it cannot."""

from __future__ import annotations

import numpy as np
import pytest

from support.grams import ridge_solution, spd
from workers.solves.cholesky import DirectTask, load_square, solve_direct, true_residual
from workers.solves.errors import InvalidSolveError, SolveInterrupted
from workers.solves.solution import Outcome
from workers.solves.source import ArrayTiles


def direct(k: np.ndarray, rhs: np.ndarray, ridge: float = 0.0, tolerance: float = 1e-9):  # type: ignore[no-untyped-def]
    return solve_direct(DirectTask(ArrayTiles(k, 32), rhs, ridge, tolerance))


def test_equals_the_dense_solution_and_certifies_it() -> None:
    k, rhs = spd(150, condition=1e5), np.random.default_rng(1).standard_normal((150, 4))
    solution = direct(k, rhs, ridge=0.2)
    assert solution.outcome is Outcome.CONVERGED
    np.testing.assert_allclose(solution.value, ridge_solution(k, rhs, 0.2), rtol=1e-8, atol=1e-12)
    truth = rhs - k.astype(float) @ solution.value - 0.2 * solution.value
    expected = np.linalg.norm(truth, axis=0) / np.linalg.norm(rhs, axis=0)
    assert max(expected) < 1e-11
    assert solution.stats.certified_max < 1e-11


def test_certificate_notices_a_wrong_answer() -> None:
    k, rhs = spd(50), np.ones((50, 2))
    x = ridge_solution(k, rhs, 0.0)
    x[7, 1] += 0.5
    residual = true_residual(ArrayTiles(k, 32), x, rhs, 0.0)
    assert residual[0] < 1e-12
    expected = 0.5 * np.linalg.norm(k[:, 7].astype(float)) / np.sqrt(50)
    np.testing.assert_allclose(residual[1], expected, rtol=1e-9)


def test_indefinite_matrix_is_named_with_a_ridge_that_works() -> None:
    k = spd(120, condition=30, dtype="float64") - 4.0 * np.eye(120)
    rhs = np.ones((120, 1))
    solution = direct(k, rhs)
    assert solution.outcome is Outcome.NOT_POSITIVE_DEFINITE
    assert solution.value is None
    details = solution.stats.details
    np.testing.assert_allclose(details["smallest_eigenvalue"], -3.0, rtol=0.05)
    assert direct(k, rhs, ridge=details["suggested_ridge"]).outcome is Outcome.CONVERGED


@pytest.mark.parametrize("rows", [1, 2])
def test_tiny_indefinite_matrices(rows: int) -> None:
    solution = direct(-np.eye(rows), np.ones((rows, 1)))
    assert solution.outcome is Outcome.NOT_POSITIVE_DEFINITE
    assert solution.stats.details["smallest_eigenvalue"] == pytest.approx(-1.0)


def test_non_finite_entries_are_an_outcome() -> None:
    k = spd(40)
    k[0, 39] = k[39, 0] = np.nan
    assert direct(k, np.ones((40, 1))).outcome is Outcome.NON_FINITE


def test_condition_estimate() -> None:
    k = spd(100, condition=1e6, dtype="float64")
    estimate = direct(k, np.ones((100, 1))).stats.condition_estimate
    exact = np.linalg.cond(k, 1)
    assert exact / 10 < estimate < exact * 1.01


def test_zero_targets() -> None:
    solution = direct(spd(40), np.zeros((40, 2)))
    assert solution.outcome is Outcome.CONVERGED
    assert not solution.value.any()


def test_too_many_rows_never_reach_lapack() -> None:
    source = ArrayTiles(np.broadcast_to(np.float32(1), (12_001, 12_001)), 512)
    with pytest.raises(InvalidSolveError, match="12000"):
        solve_direct(DirectTask(source, np.ones((12_001, 1)), 0.0, 1e-6))


def test_the_square_holds_the_lower_triangle_column_major() -> None:
    k = spd(70, dtype="float64")
    square, sums = load_square(ArrayTiles(k, 32))
    np.testing.assert_allclose(sums, np.abs(k).sum(axis=1))
    np.testing.assert_array_equal(np.tril(square), np.tril(k))
    assert square.flags.f_contiguous


def test_stops_while_loading() -> None:
    def stop() -> None:
        raise SolveInterrupted

    with pytest.raises(SolveInterrupted):
        solve_direct(DirectTask(ArrayTiles(spd(40), 32), np.ones((40, 1)), 0.0, 1e-6), stop)
