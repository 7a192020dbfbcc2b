"""Inducing points: the normal equations, the limit of all points, bad kernels, the tree."""

from __future__ import annotations

import numpy as np
import pytest

from support.grams import kernel_like, ridge_solution
from workers.solves.errors import InvalidSolveError
from workers.solves.nystrom import (
    choose_inducing,
    embed,
    finish,
    fold_panels,
    merge,
    panel,
    panel_tasks,
    reduce_tree,
)
from workers.solves.solution import Outcome, Solution
from workers.solves.source import ArrayTiles


def solve(
    k: np.ndarray,
    rhs: np.ndarray,
    columns: np.ndarray,
    ridge: float,
    *,
    tile_rows: int = 32,
    workers: int = 1,
) -> Solution:
    source = ArrayTiles(k, tile_rows)
    factors = [fold_panels(task) for task in panel_tasks(source, columns, rhs, workers)]
    epsilon = float(np.finfo(k.dtype).eps)
    root = reduce_tree(factors, merge)
    return finish(root, rhs=rhs.shape[1], ridge=ridge, tolerance=1e-6, epsilon=epsilon)


def normal_equations(
    k: np.ndarray, rhs: np.ndarray, columns: np.ndarray, ridge: float
) -> np.ndarray:
    k = k.astype(np.float64)
    k_s = k[:, columns]
    return np.linalg.solve(k_s.T @ k_s + ridge * k[np.ix_(columns, columns)], k_s.T @ rhs)


def test_oracle(oracle_dynamics: dict[str, np.ndarray]) -> None:
    o = oracle_dynamics
    columns = o["nystrom|landmarks"]
    solution = solve(o["Ttt"], o["y"][:, None], columns, float(o["nystrom|lam"]), tile_rows=2)
    np.testing.assert_allclose(solution.value[:, 0], o["nystrom|alpha"], rtol=1e-9)
    dual = embed(solution, columns, 5)
    np.testing.assert_allclose(o["Tst"] @ dual[:, 0], o["nystrom|pred"], rtol=1e-9)


@pytest.mark.parametrize("tile_rows", [32, 64, 256])
@pytest.mark.parametrize("workers", [1, 3])
def test_solves_the_normal_equations_whatever_the_tiles(tile_rows: int, workers: int) -> None:
    k, _, labels, _ = kernel_like(200, 1, dtype="float64")
    rhs = np.column_stack([labels == 0, labels == 1]) - 0.1
    columns = choose_inducing(200, 40, seed=3)
    solution = solve(k, rhs, columns, 0.01, tile_rows=tile_rows, workers=workers)
    assert solution.outcome is Outcome.CONVERGED
    expected = normal_equations(k, rhs, columns, 0.01)
    assert np.abs(solution.value - expected).max() < 1e-8 * np.abs(expected).max()
    assert solution.stats.certified_max < 1e-10
    fit = np.linalg.norm(k[:, columns] @ expected - rhs, axis=0) / np.linalg.norm(rhs, axis=0)
    np.testing.assert_allclose(solution.stats.details["training_residual"], fit, rtol=1e-6)


def test_all_points_are_ridge_regression() -> None:
    k, cross, _, _ = kernel_like(150, 30)
    rhs = np.random.default_rng(0).standard_normal((150, 3))
    solution = solve(k, rhs, np.arange(150), 0.02)
    exact = ridge_solution(k, rhs, 0.02)
    np.testing.assert_allclose(cross @ solution.value, cross @ exact, atol=1e-9)


def test_duplicate_samples_get_the_least_jitter_that_works() -> None:
    k, _, _, _ = kernel_like(60, 1, dtype="float64")
    doubled = np.block([[k, k], [k, k]])
    rhs = np.ones((120, 1))
    solution = solve(doubled, rhs, np.arange(120), 0.01)
    assert solution.outcome is Outcome.CONVERGED
    fitted = doubled @ solution.value
    np.testing.assert_allclose(fitted, doubled @ ridge_solution(doubled, rhs, 0.01), atol=1e-6)
    assert solution.stats.details["jitter"] < 1e-10


def test_indefinite_kernels_are_named() -> None:
    k, _, _, _ = kernel_like(60, 1, dtype="float64")
    k -= 0.9 * np.eye(60)
    solution = solve(k, np.ones((60, 1)), np.arange(60), 0.01)
    assert solution.outcome is Outcome.NOT_POSITIVE_DEFINITE
    assert solution.value is None


def test_non_finite_entries_are_an_outcome() -> None:
    k, _, _, _ = kernel_like(60, 1)
    k[3, 50] = k[50, 3] = np.nan
    assert solve(k, np.ones((60, 1)), np.array([2, 3]), 0.1).outcome is Outcome.NON_FINITE


def test_panels_skip_tiles_without_inducing_columns() -> None:
    k, _, _, _ = kernel_like(128, 1)
    columns = np.array([1, 40, 41, 127])
    source = ArrayTiles(k, 32)
    values, read = panel(source, 2, columns)
    np.testing.assert_array_equal(values, k[64:96, columns])
    assert read == 3 * 32 * 32 * 4


def test_choice_is_seeded_sorted_and_distinct() -> None:
    first = choose_inducing(1000, 100, seed=5)
    assert (np.diff(first) > 0).all()
    np.testing.assert_array_equal(first, choose_inducing(1000, 100, seed=5))
    assert (first != choose_inducing(1000, 100, seed=6)).any()
    for count in (0, 1001):
        with pytest.raises(InvalidSolveError):
            choose_inducing(1000, count, seed=0)


def test_embedding_keeps_every_coefficient_in_its_row() -> None:
    k, _, _, _ = kernel_like(50, 1)
    columns = np.array([4, 9, 30])
    solution = solve(k, np.ones((50, 2)), columns, 0.1)
    dual = embed(solution, columns, 50)
    np.testing.assert_array_equal(dual[columns], solution.value)
    assert np.count_nonzero(dual) == solution.value.size


@pytest.mark.parametrize("leaves", [1, 2, 3, 7, 8])
def test_tree_combines_neighbours_in_order(leaves: int) -> None:
    depth = 0

    def combine(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
        nonlocal depth
        depth += 1
        return a + b

    assert reduce_tree([(n,) for n in range(leaves)], combine) == tuple(range(leaves))
    assert depth == leaves - 1
