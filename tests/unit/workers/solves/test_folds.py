"""Held-out predictions by solving without each fold, against models that are trained again."""

from __future__ import annotations

import numpy as np
import pytest

from support.grams import ridge_solution, spd
from workers.predictions.ridge import random_folds
from workers.solves.cg_solver import build_low_rank
from workers.solves.cg_state import CGSettings
from workers.solves.folds import held_out_by_solving
from workers.solves.operator import LocalOperator
from workers.solves.preconditioners import LowRank
from workers.solves.solution import Outcome
from workers.solves.source import ArrayTiles

ROWS = 240


def trained_again(
    k: np.ndarray, y: np.ndarray, ridge: float, folds: list[np.ndarray]
) -> np.ndarray:
    predictions = np.empty_like(y)
    wide = k.astype(np.float64)
    for fold in folds:
        rest = np.setdiff1d(np.arange(len(k)), fold)
        dual = ridge_solution(wide[np.ix_(rest, rest)], y[rest], ridge)
        predictions[fold] = wide[np.ix_(fold, rest)] @ dual
    return predictions


def low_rank_of(operator: LocalOperator, k: np.ndarray, ridge: float) -> LowRank:
    factor = build_low_rank(
        operator, np.diagonal(k).astype(np.float64), 60, kind="rpcholesky", seed=0, ridge=ridge
    )
    assert factor is not None
    return factor


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("preconditioned", [False, True])
@pytest.mark.parametrize("count", [2, 7])
def test_equals_models_trained_without_the_fold(
    dtype: str, preconditioned: bool, count: int
) -> None:
    k = spd(ROWS, condition=1e4, dtype=dtype)
    y = np.random.default_rng(1).standard_normal((ROWS, 3))
    ridge, folds = 1e-2, random_folds(ROWS, count, seed=3)
    operator = LocalOperator(ArrayTiles(k, 64))
    found = held_out_by_solving(
        operator,
        y,
        ridge,
        folds,
        factor=low_rank_of(operator, k, ridge) if preconditioned else None,
        settings=CGSettings(tolerance=1e-10),
    )
    assert found.outcome is Outcome.CONVERGED
    assert found.residual is not None
    assert found.residual <= 1e-10
    exact = trained_again(k, y, ridge, folds)
    assert found.predictions is not None
    np.testing.assert_allclose(found.predictions, exact, rtol=0, atol=1e-7 * np.abs(exact).max())


def test_the_shared_basis_saves_most_passes() -> None:
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((400, 400)))
    k = (basis * (400.0 / np.arange(1, 401) ** 2)) @ basis.T  # eigenvalues as those of kernels
    k = 0.5 * (k + k.T)
    y, folds = rng.standard_normal((400, 2)), random_folds(400, 4, seed=0)
    passes = {}
    for name in ("plain", "low rank"):
        operator = LocalOperator(ArrayTiles(k, 128))
        found = held_out_by_solving(
            operator,
            y,
            1e-3,
            folds,
            factor=low_rank_of(operator, k, 1e-3) if name == "low rank" else None,
            settings=CGSettings(tolerance=1e-8),
        )
        assert found.outcome is Outcome.CONVERGED
        passes[name] = found.applications
    assert passes["low rank"] <= passes["plain"] / 2


def test_a_direction_of_negative_curvature_is_named() -> None:
    k = spd(120, condition=10.0, dtype="float64")
    k[5, 5] = k[77, 77] = -40.0
    y = np.random.default_rng(0).standard_normal((120, 1))
    found = held_out_by_solving(
        LocalOperator(ArrayTiles(k, 64)),
        y,
        0.1,
        random_folds(120, 3, seed=0),
        factor=None,
        settings=CGSettings(),
    )
    assert found.outcome is Outcome.NOT_POSITIVE_DEFINITE
    assert found.predictions is None


def test_told_to_stop() -> None:
    k = spd(120, condition=1e3, dtype="float64")
    found = held_out_by_solving(
        LocalOperator(ArrayTiles(k, 64)),
        np.ones((120, 1)),
        0.1,
        random_folds(120, 3, seed=0),
        factor=None,
        settings=CGSettings(),
        should_stop=lambda: True,
    )
    assert found.outcome is Outcome.CANCELLED
    assert found.predictions is None


def test_targets_of_few_directions_keep_the_matrix_symmetric() -> None:
    """One-hot columns that sum to zero make the block lose rank at once, and its basis is completed
    by directions that reach into the fold."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, ROWS)
    y = np.eye(3)[labels] - 1 / 3
    k, folds = spd(ROWS, condition=1e5, dtype="float64"), random_folds(ROWS, 3, seed=0)
    found = held_out_by_solving(
        LocalOperator(ArrayTiles(k, 64)),
        y,
        1e-2,
        folds,
        factor=None,
        settings=CGSettings(tolerance=1e-8),
    )
    assert found.outcome is Outcome.CONVERGED
    exact = trained_again(k, y, 1e-2, folds)
    assert found.predictions is not None
    np.testing.assert_allclose(found.predictions, exact, rtol=0, atol=1e-5 * np.abs(exact).max())
