"""`auto` beyond one square: conjugate gradients first, a factor where they do not get on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from storage.blobs import BlobStore
from support.grams import ridge_solution, sealed, spd
from workers.solves import policy
from workers.solves.solution import Outcome
from workers.solves.task import SolveOutcome, SolveRequest, run_solve

ROWS = 240
PASSES = policy.TYPICAL_PASSES  # what so small a matrix is granted


@pytest.fixture(autouse=True)
def no_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if these matrices were too large for `cholesky`."""
    monkeypatch.setattr(policy, "MAX_DIRECT_ROWS", ROWS - 1)


@pytest.fixture
def hard(blobs: BlobStore) -> tuple[str, np.ndarray, np.ndarray]:
    """A matrix on which CG needs far more than PASSES passes, targets, and the solution."""
    k = spd(ROWS, condition=1e9, dtype="float64")
    y = np.random.default_rng(0).standard_normal((ROWS, 1))
    return sealed(blobs, k, tile_rows=64, block_rows=64), y, ridge_solution(k, y, 1e-8)


def solve(blobs: BlobStore, matrix: str, y: np.ndarray, **fields: Any) -> SolveOutcome:
    request = SolveRequest(matrix, "ntk", y, ridge=1e-8, tolerance=1e-8, **fields)
    return run_solve(None, request, store_url=blobs.url)


def test_a_hard_system_is_factored_after_all(
    blobs: BlobStore, hard: tuple[str, np.ndarray, np.ndarray]
) -> None:
    matrix, y, exact = hard
    alone = solve(blobs, matrix, y, method="cg", max_applications=2 * PASSES)
    assert alone.outcome is not Outcome.CONVERGED
    found = solve(blobs, matrix, y)
    summary = found.summary
    assert found.outcome is Outcome.CONVERGED
    assert summary["method"] == "tiled-cholesky"
    np.testing.assert_allclose(found.arrays["dual"], exact, rtol=1e-4, atol=1e-6 * abs(exact).max())
    assert summary["stats"]["details"]["tried_first"]["passes"] <= PASSES
    assert "were given up" in summary["warnings"][0]
    assert list(blobs.list("solves")) == []  # of the factor nothing is left


def test_an_easy_system_is_not(blobs: BlobStore) -> None:
    matrix = sealed(blobs, spd(ROWS, condition=2, dtype="float64"), tile_rows=64, block_rows=64)
    found = solve(blobs, matrix, np.random.default_rng(0).standard_normal(ROWS))
    assert (found.outcome, found.summary["method"]) == (Outcome.CONVERGED, "cg")
    assert found.summary["warnings"] == []


def test_without_room_for_a_factor_cg_has_the_last_word(
    blobs: BlobStore,
    hard: tuple[str, np.ndarray, np.ndarray],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(policy, "FACTOR_SHARE_OF_FREE", 0.0)
    found = solve(blobs, hard[0], hard[1], max_applications=2 * PASSES)
    assert found.summary["method"] == "cg"
    assert found.outcome is not Outcome.CONVERGED


def test_the_limit_that_was_asked_for_is_kept(
    blobs: BlobStore, hard: tuple[str, np.ndarray, np.ndarray]
) -> None:
    found = solve(blobs, hard[0], hard[1], max_applications=PASSES - 5)
    assert found.outcome is Outcome.MAX_APPLICATIONS
    assert found.summary["method"] == "cg"


def test_a_solve_interrupted_while_factoring_goes_on_there(
    blobs: BlobStore, hard: tuple[str, np.ndarray, np.ndarray]
) -> None:
    matrix, y, exact = hard
    phases: list[str] = []

    def stop() -> bool:
        return "factor" in phases

    request = SolveRequest(matrix, "ntk", y, ridge=1e-8, tolerance=1e-8, checkpoint_id="job-a")
    cut = run_solve(
        None,
        request,
        store_url=blobs.url,
        on_progress=lambda progress: phases.append(progress["phase"]),
        should_stop=stop,
    )
    assert cut.outcome is Outcome.CANCELLED
    again = run_solve(None, request, store_url=blobs.url)
    assert again.outcome is Outcome.CONVERGED
    assert "tried_first" not in again.summary["stats"]["details"]
    assert again.summary["warnings"] == []
    np.testing.assert_allclose(again.arrays["dual"], exact, rtol=1e-4, atol=1e-6 * abs(exact).max())
