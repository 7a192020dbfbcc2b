"""Preconditioners: approximations against dense truth, and fewer passes on hard systems."""

from __future__ import annotations

import numpy as np
import pytest

from support.grams import kernel_like, ridge_solution, spd
from workers.solves.block_cg import CGSettings
from workers.solves.cg_solver import PreconditionerSettings, choose_preconditioner, solve_ridges
from workers.solves.operator import LocalOperator
from workers.solves.pivoted_columns import pivoted_columns
from workers.solves.preconditioners import jacobi, low_rank
from workers.solves.solution import Outcome, Solution
from workers.solves.source import ArrayTiles


def smooth_kernel(rows: int, *, dtype: str = "float64") -> np.ndarray:
    """A Gaussian kernel of points in the plane: eigenvalues fall fast."""
    x = np.random.default_rng(3).standard_normal((rows, 2))
    squared = ((x[:, None] - x[None]) ** 2).sum(-1)
    k = np.exp(-squared / 2).astype(dtype)
    return np.triu(k) + np.triu(k, 1).T


def factor_of(k: np.ndarray, rank: int, **options: float) -> tuple[np.ndarray, np.ndarray]:
    diagonal = np.diagonal(k).astype(np.float64)
    return pivoted_columns(lambda c: k[:, c], diagonal, rank, epsilon=1e-15, **options)  # type: ignore[arg-type]


def test_factor_reproduces_the_columns_it_was_made_from() -> None:
    k = spd(120, condition=100, dtype="float64")
    factor, pivots = factor_of(k, 40)
    assert factor.shape == (120, 40)
    assert np.unique(pivots).size == 40
    approximation = factor @ factor.T
    np.testing.assert_allclose(approximation[:, pivots], k[:, pivots], atol=1e-9)
    # The rest is what a Schur complement is: positive semi-definite.
    assert np.linalg.eigvalsh(k - approximation).min() > -1e-9


def test_pivots_look_where_the_approximation_is_poor() -> None:
    rng = np.random.default_rng(0)
    x = np.concatenate([0.01 * rng.standard_normal((180, 3)), 2 * rng.standard_normal((20, 3))])
    k = np.exp(-((x[:, None] - x[None]) ** 2).sum(-1) / 2)
    _, pivots = factor_of(k, 30)
    _, uniform = factor_of(k, 30, rounds=1)
    # 180 points are nearly one point: the second block goes to the other twenty.
    assert (pivots >= 180).sum() > 2 * (uniform >= 180).sum()


def test_duplicated_samples_are_dropped() -> None:
    k = smooth_kernel(60)
    k = np.block([[k, k], [k, k]])
    factor, pivots = factor_of(k, 40)
    assert np.unique(pivots % 60).size == pivots.size == factor.shape[1]
    assert np.isfinite(factor).all()


def test_eigenpairs_of_the_approximation() -> None:
    k = smooth_kernel(200)
    factor, _ = factor_of(k, 60)
    expected = np.linalg.eigvalsh(factor @ factor.T)[::-1]
    found = low_rank(factor.copy(), float(np.trace(k)))
    kept = found.rank
    np.testing.assert_allclose(found.values, expected[:kept], rtol=1e-9)
    basis = found.basis.astype(np.float64)
    tight = 1e-6 if found.basis.dtype == np.float32 else 1e-12
    np.testing.assert_allclose(basis.T @ basis, np.eye(kept), atol=tight * 200)
    assert found.values[0] == pytest.approx(np.linalg.eigvalsh(k)[-1], rel=1e-3)
    assert found.remainder == pytest.approx(
        (np.trace(k) - expected[:kept].sum()) / (200 - kept), rel=0.5, abs=1e-9
    )


def test_damped_inverse_is_the_formula() -> None:
    k, _, _, _ = kernel_like(150, 1, dtype="float64")
    factor, _ = factor_of(k, 40)
    found = low_rank(factor, float(np.trace(k)))
    basis, ridge = found.basis.astype(np.float64), 0.05
    rho = max(found.remainder, found.values[-1])
    p = basis @ np.diag(found.values - rho) @ basis.T + (rho + ridge) * np.eye(150)
    v = np.random.default_rng(0).standard_normal((150, 3))
    applied = found.damped(ridge)(v)
    np.testing.assert_allclose(applied / (rho + ridge), np.linalg.solve(p, v), atol=1e-5)


def solve(
    k: np.ndarray, b: np.ndarray, ridge: float, wanted: PreconditionerSettings, **settings: float
) -> Solution:
    return solve_ridges(
        LocalOperator(ArrayTiles(k, 256)),
        b,
        (ridge,),
        diagonal=np.diagonal(k).astype(np.float64),
        settings=CGSettings(**settings),  # type: ignore[arg-type]
        preconditioner=wanted,
    )[0]


def test_low_rank_saves_passes_on_a_smooth_kernel() -> None:
    k = smooth_kernel(900, dtype="float32")
    b = np.random.default_rng(1).standard_normal((900, 5))
    ridge = 1e-4
    helped = solve(k, b, ridge, PreconditionerSettings())
    plain = solve(k, b, ridge, PreconditionerSettings("none"), max_applications=400)
    assert helped.outcome is Outcome.CONVERGED
    assert helped.stats.applications * 4 < plain.stats.applications
    residual = b - k.astype(np.float64) @ helped.value - ridge * helped.value
    worst = (np.linalg.norm(residual, axis=0) / np.linalg.norm(b, axis=0)).max()
    assert worst <= 1.001e-6
    assert helped.stats.certified_max == pytest.approx(worst, rel=1e-3)


def test_jacobi_on_samples_of_very_different_norms() -> None:
    scale = np.geomspace(1, 1e3, 300)
    k = (spd(300, condition=10, dtype="float64") * scale[:, None]) * scale
    b = np.random.default_rng(1).standard_normal((300, 4))
    assert choose_preconditioner(PreconditionerSettings(), np.diagonal(k), 0.0)[0] == "jacobi"
    helped = solve(k, b, 0.5, PreconditionerSettings(), tolerance=1e-9)
    plain = solve(k, b, 0.5, PreconditionerSettings("none"), tolerance=1e-9)
    assert helped.stats.applications < plain.stats.applications / 2
    exact = ridge_solution(k, b, 0.5)
    assert np.linalg.norm(helped.value - exact) < 1e-6 * np.linalg.norm(exact)
    expected = b / (np.diagonal(k) + 0.5)[:, None]
    np.testing.assert_allclose(jacobi(np.diagonal(k), 0.5)(b), expected)


def test_choice_follows_size_and_diagonal() -> None:
    even, uneven = np.ones(2000), np.geomspace(1, 100, 400)
    assert choose_preconditioner(PreconditionerSettings(), even, 0.0) == ("rpcholesky", 500)
    assert choose_preconditioner(PreconditionerSettings(), even[:400], 0.0) == ("none", 0)
    assert choose_preconditioner(PreconditionerSettings(), uneven, 0.0) == ("jacobi", 0)
    assert choose_preconditioner(PreconditionerSettings(), uneven, 1e3) == ("none", 0)
    assert choose_preconditioner(PreconditionerSettings("none"), uneven, 0.0) == ("none", 0)
    small = PreconditionerSettings("nystrom", rank=10)
    assert choose_preconditioner(small, even[:100], 0.0) == ("nystrom", 10)


def test_columns_that_are_not_finite_are_an_outcome() -> None:
    k = smooth_kernel(600, dtype="float32")
    k[7, :] = k[:, 7] = np.nan
    k[7, 7] = 1.0
    assert solve(k, np.ones((600, 1)), 1.0, PreconditionerSettings()).outcome is Outcome.NON_FINITE
