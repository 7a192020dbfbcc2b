"""What a failed or weak solve says: ridges that work, courses to plot, speeds, kept blocks."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from storage.blobs import BlobStore
from support.grams import kernel_like, ridge_solution, sealed, spd
from workers.solves.history import RESULT_POINTS, residual_plot, thinned
from workers.solves.scratch import Scratch, ahead, sweep_scratch
from workers.solves.solution import Outcome, SolveStats
from workers.solves.task import SolveOutcome, SolveRequest, run_solve
from workers.solves.throughput import Throughput, read_bandwidth


def solve(blobs: BlobStore, matrix: str, targets: np.ndarray, **fields: Any) -> SolveOutcome:
    return run_solve(None, SolveRequest(matrix, "ntk", targets, **fields), store_url=blobs.url)


@pytest.mark.parametrize("method", ["cg", "tiled-cholesky"])
def test_an_indefinite_matrix_comes_with_a_ridge_that_works(blobs: BlobStore, method: str) -> None:
    k = spd(80, condition=30, dtype="float64") - 4.0 * np.eye(80)
    k[np.diag_indices(80)] = np.abs(np.diag(k)) + 0.1
    smallest = float(np.linalg.eigvalsh(k)[0])
    assert smallest < 0
    matrix = sealed(blobs, k)
    failed = solve(blobs, matrix, np.ones(80), method=method)
    assert failed.outcome is Outcome.NOT_POSITIVE_DEFINITE
    details = failed.summary["stats"]["details"]
    assert details["smallest_eigenvalue"] == pytest.approx(smallest, rel=1e-3)
    advised = solve(blobs, matrix, np.ones(80), method=method, ridge=details["suggested_ridge"])
    assert advised.outcome is Outcome.CONVERGED


@pytest.mark.parametrize("preconditioner", ["none", "jacobi", "nystrom", "rpcholesky"])
def test_no_preconditioner_changes_the_answer(blobs: BlobStore, preconditioner: str) -> None:
    k, _, labels, _ = kernel_like(200, 1)
    y = (labels == 0) - 0.1
    result = solve(
        blobs,
        sealed(blobs, k),
        y,
        method="cg",
        preconditioner=preconditioner,
        rank=None if preconditioner in ("none", "jacobi") else 40,
        ridge=0.01,
        tolerance=1e-9,
    )
    assert result.outcome is Outcome.CONVERGED
    exact = ridge_solution(k, y[:, None], 0.01)
    np.testing.assert_allclose(result.arrays["dual"], exact, atol=1e-5 * np.abs(exact).max())


def test_many_right_hand_sides_are_deflated_and_right(blobs: BlobStore) -> None:
    """Half of the columns are eigenvectors, which converge at once."""
    k = spd(120, condition=1e4, dtype="float64")
    _, vectors = np.linalg.eigh(k)
    y = np.hstack([vectors[:, :24], np.random.default_rng(0).standard_normal((120, 24))])
    result = solve(
        blobs, sealed(blobs, k), y, method="cg", preconditioner="none", ridge=0.1, tolerance=1e-8
    )
    assert result.outcome is Outcome.CONVERGED
    assert result.summary["stats"]["certified_max"] <= 1e-8
    exact = ridge_solution(k, y, 0.1)
    np.testing.assert_allclose(result.arrays["dual"], exact, atol=1e-5 * np.abs(exact).max())


def test_the_course_is_data_to_plot() -> None:
    stats = SolveStats(method="cg")
    stats.residual_history = [10.0**-k for k in range(1, 6)] + [0.0]
    stats.certified_history = [(3, 2e-3), (5, 1e-5)]
    plot = residual_plot(stats, 1e-4)
    json.dumps(plot, allow_nan=False)
    points = plot["data"]["values"]
    assert [p["residual"] for p in points if p["curve"] == "certified"] == [2e-3, 1e-5]
    assert len([p for p in points if p["curve"] == "recursive"]) == 5  # 0 has no logarithm
    assert {p["residual"] for p in points if p["curve"] == "tolerance"} == {1e-4}
    long = thinned(list(range(5000)), RESULT_POINTS)
    assert len(long) <= RESULT_POINTS
    assert long[0] == [1, 0]
    assert long[-1] == [5000, 4999]


def test_a_result_tells_its_course_and_its_speed(blobs: BlobStore) -> None:
    k, _, labels, _ = kernel_like(200, 1)
    seen: list[dict[str, Any]] = []
    result = run_solve(
        None,
        SolveRequest(sealed(blobs, k), "ntk", labels, method="cg", ridge=0.01),
        store_url=blobs.url,
        on_progress=seen.append,
    )
    throughput = result.summary["stats"]["details"]["throughput"]
    assert throughput["bytes_multiplied"] >= k.nbytes
    assert throughput["bytes_per_second"] > 0
    assert throughput["memory_bytes_per_second"] > 0
    assert any("residual" in news for news in seen)


def test_fraction_of_an_unknown_bandwidth_is_zero() -> None:
    assert Throughput(10, 5.0, 0.0).fraction == 0.0
    assert Throughput(10, 5.0, 20.0).fraction == 0.25
    assert read_bandwidth(1 << 20) > 1e6


def test_blocks_are_kept_until_nobody_comes_back(blobs: BlobStore) -> None:
    scratch = Scratch(blobs.url, "solves/job-x/panels")
    scratch.open()
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    scratch.write("a", values)
    assert scratch.has("a", (3, 4), "float32")
    assert not scratch.has("a", (4, 4), "float32")
    np.testing.assert_array_equal(scratch.read("a", (3, 4), "float32"), values)
    assert sweep_scratch(blobs) == 0
    assert sweep_scratch(blobs, older_than_seconds=-1.0) == 1
    assert not scratch.has("a", (3, 4), "float32")


def test_reading_ahead_keeps_the_order_and_passes_errors_on() -> None:
    assert [v for _, v in ahead(lambda i: np.array([i * i]), range(7))] == [0, 1, 4, 9, 16, 25, 36]

    def broken(i: int) -> np.ndarray:
        if i == 3:
            raise OSError("gone")
        return np.zeros(1)

    with pytest.raises(OSError, match="gone"):
        list(ahead(broken, range(6)))
