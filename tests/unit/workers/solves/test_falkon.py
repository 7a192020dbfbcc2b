"""FALKON against the normal equations, and how far inducing points are from the exact solution."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.blobs import BlobStore
from support.grams import kernel_like, ridge_solution, sealed, spd
from workers.solves.distance import distance_bound
from workers.solves.nystrom import choose_inducing
from workers.solves.operator import LocalOperator
from workers.solves.solution import Outcome
from workers.solves.source import ArrayTiles
from workers.solves.task import SolveOutcome, SolveRequest, run_solve


def solve(blobs: BlobStore, matrix: str, targets: np.ndarray, **fields: Any) -> SolveOutcome:
    return run_solve(None, SolveRequest(matrix, "ntk", targets, **fields), store_url=blobs.url)


@pytest.mark.parametrize("tile_rows", [32, 128])
def test_solves_the_normal_equations(blobs: BlobStore, tile_rows: int) -> None:
    k, _, labels, _ = kernel_like(200, 1, dtype="float64")
    matrix = sealed(blobs, k, tile_rows=tile_rows)
    y = np.column_stack([labels == 0, labels == 1]) - 0.1
    result = solve(
        blobs, matrix, y, method="falkon", inducing_points=40, ridge=0.01, seed=3, tolerance=1e-9
    )
    assert result.outcome is Outcome.CONVERGED
    columns = choose_inducing(200, 40, seed=3)
    c, square = k[:, columns], k[np.ix_(columns, columns)]
    expected = np.linalg.solve(c.T @ c + 0.01 * square, c.T @ y)
    dual = result.arrays["dual"]
    assert np.abs(dual[columns] - expected).max() < 1e-5 * np.abs(expected).max()
    assert not np.delete(dual, columns, axis=0).any()
    stats = result.summary["stats"]
    assert stats["certified_max"] <= 1e-9
    fit = np.linalg.norm(c @ expected - y, axis=0) / np.linalg.norm(y, axis=0)
    np.testing.assert_allclose(stats["details"]["training_residual"], fit, rtol=1e-5)


def test_all_points_give_the_exact_solution_and_say_so(blobs: BlobStore) -> None:
    k, _, labels, _ = kernel_like(120, 1, dtype="float64")
    y = (labels == 0) - 0.1
    result = solve(
        blobs,
        sealed(blobs, k),
        y,
        method="falkon",
        inducing_points=120,
        ridge=0.05,
        tolerance=1e-11,
    )
    fit = k @ ridge_solution(k, y[:, None], 0.05)
    np.testing.assert_allclose(k @ result.arrays["dual"], fit, atol=1e-7)
    (bound,) = result.summary["stats"]["details"]["distance_to_exact_at_most"]
    assert bound < 1e-4


def test_cancelled_it_goes_on_from_its_panels_and_leaves_none(blobs: BlobStore) -> None:
    k, _, labels, _ = kernel_like(200, 1)
    request = SolveRequest(
        sealed(blobs, k),
        "ntk",
        labels,
        method="falkon",
        inducing_points=30,
        ridge=0.01,
        checkpoint_id="job-f",
    )
    whole = run_solve(None, request, store_url=blobs.url)
    phases: list[str] = []
    cancelled = run_solve(
        None,
        request,
        store_url=blobs.url,
        on_progress=lambda news: phases.append(news["phase"]),
        should_stop=lambda: phases.count("solve") > 1,
    )
    assert cancelled.outcome is Outcome.CANCELLED
    assert list(blobs.folders("solves/job-f"))
    resumed = run_solve(None, request, store_url=blobs.url)
    np.testing.assert_allclose(resumed.arrays["dual"], whole.arrays["dual"], atol=1e-9)
    assert not list(blobs.folders("solves/job-f"))
    assert blobs.size("solves/job-f/checkpoint") is None


def test_indefinite_square_is_an_outcome(blobs: BlobStore) -> None:
    k = spd(80, condition=30, dtype="float64") - 4.0 * np.eye(80)
    k[np.diag_indices(80)] = np.abs(np.diag(k)) + 0.1
    if np.linalg.eigvalsh(k)[0] > 0:
        pytest.fail("the matrix of this test is not indefinite")
    result = solve(blobs, sealed(blobs, k), np.ones(80), method="falkon", inducing_points=80)
    assert result.outcome is Outcome.NOT_POSITIVE_DEFINITE


@settings(max_examples=20)
@given(
    seed=st.integers(0, 1000),
    ridge=st.floats(1e-3, 10.0),
    noise=st.floats(0.0, 1.0),
)
def test_the_bound_holds(seed: int, ridge: float, noise: float) -> None:
    """For any coefficients, not only those of a method."""
    rng = np.random.default_rng(seed)
    k = spd(40, condition=1e3, seed=seed, dtype="float64")
    y = rng.standard_normal((40, 2))
    exact = ridge_solution(k, y, ridge)
    dual = exact + noise * rng.standard_normal((40, 2))
    bound = distance_bound(LocalOperator(ArrayTiles(k, 16)), y, dual, ridge)
    distance = np.linalg.norm(k @ (dual - exact), axis=0) / np.linalg.norm(y, axis=0)
    assert (distance <= bound * (1 + 1e-9) + 1e-6).all()
