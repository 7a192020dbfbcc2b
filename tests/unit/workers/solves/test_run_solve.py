"""Whole solves in this process over a sealed store: methods, predictions, summaries, resuming."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from storage.blobs import BlobStore
from storage.errors import CorruptChunkError, TooLargeError
from support.grams import kernel_like, ridge_solution, sealed, spd
from workers.solves.solution import Outcome
from workers.solves.task import SolveOutcome, SolveRequest, run_solve


def solve(blobs: BlobStore, matrix: str, targets: np.ndarray, **fields: Any) -> SolveOutcome:
    return run_solve(None, SolveRequest(matrix, "ntk", targets, **fields), store_url=blobs.url)


@pytest.mark.parametrize("method", ["cg", "cholesky", "nystrom", "falkon", "tiled-cholesky"])
def test_multiclass_oracle(
    blobs: BlobStore, oracle_dynamics: dict[str, np.ndarray], method: str
) -> None:
    o = oracle_dynamics
    k = np.triu(o["Ttt"]) + np.triu(o["Ttt"], 1).T  # exactly symmetric, as stored matrices are
    matrix = sealed(blobs, k, tile_rows=2, block_rows=2)
    cross = sealed(blobs, o["Tst"], symmetric=False, tile_rows=2, block_rows=2)
    common = {"method": method, "cross_matrix_id": cross, "tolerance": 1e-12}
    common |= {"inducing_points": 5 if method in ("nystrom", "falkon") else None}
    plain = solve(blobs, matrix, o["Y_encoded"], ridge=0.0, **common)
    np.testing.assert_allclose(plain.arrays["predictions"], o["krr_multiclass"], rtol=1e-7)
    ridged = solve(blobs, matrix, o["Y_encoded"], ridge=0.01, ridge_relative=True, **common)
    expected = o["krr_multiclass_ridge_tr/n*0.01"]
    np.testing.assert_allclose(ridged.arrays["predictions"], expected, rtol=1e-7)
    assert ridged.summary["ridge"] == pytest.approx(0.01 * np.trace(k) / 5)


def test_labels_give_classes_accuracy_and_confusion(blobs: BlobStore) -> None:
    k, cross, labels, test_labels = kernel_like(200, 60)
    ids = sealed(blobs, k), sealed(blobs, cross, symmetric=False)
    result = solve(
        blobs,
        ids[0],
        labels + 5,  # classes need not start at 0
        ridge=0.01,
        cross_matrix_id=ids[1],
        test_targets=test_labels + 5,
    )
    one_hot = np.where(labels[:, None] == np.arange(3), 0.9, -0.1)
    expected = cross.astype(float) @ ridge_solution(k, one_hot, 0.01)
    np.testing.assert_allclose(result.arrays["predictions"], expected, atol=1e-6)
    summary = result.summary
    assert summary["classes"] == [5, 6, 7]
    assert summary["accuracy"] == np.mean(expected.argmax(1) == test_labels)
    assert np.sum(summary["confusion"]) == 60
    assert summary["method"] == "cholesky"
    assert summary["outcome"] == "converged"
    json.dumps(summary, allow_nan=False)


def test_real_targets_are_scored_by_r_squared(blobs: BlobStore) -> None:
    k, cross, _, _ = kernel_like(100, 30)
    ids = sealed(blobs, k), sealed(blobs, cross, symmetric=False)
    y = np.random.default_rng(0).standard_normal((100, 2))
    truth = cross.astype(float) @ ridge_solution(k, y, 0.0)
    result = solve(blobs, ids[0], y, cross_matrix_id=ids[1], test_targets=truth, tolerance=1e-9)
    np.testing.assert_allclose(result.summary["r_squared"], [1.0, 1.0])
    assert result.summary["mean_squared_error"] < 1e-12


@pytest.mark.parametrize("placement", ["memory", "stream"])
def test_cg_agrees_with_cholesky_for_every_cut_and_placement(
    blobs: BlobStore, placement: str
) -> None:
    k, y = spd(130, condition=100), np.random.default_rng(0).standard_normal((130, 3))
    exact = ridge_solution(k, y, 0.5)
    for tile_rows in (64, 256):
        matrix = sealed(blobs, k, tile_rows=tile_rows, block_rows=64)
        result = solve(
            blobs, matrix, y, ridge=0.5, method="cg", placement=placement, tolerance=1e-9
        )
        np.testing.assert_allclose(result.arrays["dual"], exact, atol=1e-7 * np.abs(exact).max())
        stats = result.summary["stats"]
        assert stats["placement"] == f"local {placement}"
        assert stats["certified_max"] <= 1e-9
        assert len(stats["residual_history"]) == stats["iterations"]


def test_default_tolerance_depends_on_what_is_wanted(blobs: BlobStore) -> None:
    k, cross, labels, _ = kernel_like(60, 10)
    ids = sealed(blobs, k), sealed(blobs, cross, symmetric=False)
    assert solve(blobs, ids[0], labels).summary["tolerance"] == 1e-6
    predicted = solve(blobs, ids[0], labels, cross_matrix_id=ids[1])
    assert predicted.summary["tolerance"] == 1e-3


@pytest.mark.parametrize("method", ["cg", "cholesky"])
def test_indefinite_matrix_gives_no_numbers(blobs: BlobStore, method: str) -> None:
    k = spd(80, condition=30, dtype="float64") - 4.0 * np.eye(80)
    matrix = sealed(blobs, k)
    result = solve(blobs, matrix, np.ones(80), method=method)
    assert result.outcome is Outcome.NOT_POSITIVE_DEFINITE
    assert result.arrays == {}
    assert "ridge" in result.summary["advice"]


def test_negative_diagonal_is_noticed_before_the_solve(blobs: BlobStore) -> None:
    k = np.diag(np.array([1.0, -2.0, 3.0]))
    matrix = sealed(blobs, k, tile_rows=2, block_rows=2)
    result = solve(blobs, matrix, np.ones(3), method="cg")
    assert result.outcome is Outcome.NOT_POSITIVE_DEFINITE
    assert result.summary["stats"]["applications"] == 0


def test_dual_without_digits_comes_with_a_warning(blobs: BlobStore) -> None:
    k = spd(60, condition=1e5)
    matrix = sealed(blobs, k)
    assert solve(blobs, matrix, np.ones(60)).summary["warnings"] == []
    spread = np.diag(np.geomspace(1, 1e9, 60)).astype(np.float32)
    spread_matrix = sealed(blobs, spread)
    for method in ("cholesky", "cg"):
        warned = solve(blobs, spread_matrix, np.ones(60), method=method)
        assert "no digits" in warned.summary["warnings"][0]


def test_time_limited_solve_goes_on_from_its_checkpoint(blobs: BlobStore) -> None:
    k, y = spd(120, condition=1e4), np.random.default_rng(0).standard_normal((120, 2))
    matrix = sealed(blobs, k)
    common = {"ridge": 0.1, "method": "cg", "tolerance": 1e-7}
    whole = solve(blobs, matrix, y, **common)
    stopped = solve(blobs, matrix, y, **common, checkpoint_id="job-a", time_limit_seconds=1e-9)
    assert stopped.outcome is Outcome.TIME_LIMIT

    limited = solve(blobs, matrix, y, **common, checkpoint_id="job-a", max_applications=10)
    assert limited.outcome is Outcome.MAX_APPLICATIONS
    assert blobs.size("solves/job-a/checkpoint") is not None
    resumed = solve(blobs, matrix, y, **common, checkpoint_id="job-a")
    assert resumed.outcome is Outcome.CONVERGED
    assert resumed.summary["stats"]["resumed_at"] > 0
    exact = ridge_solution(k, y, 0.1)
    scale = np.abs(exact).max()
    np.testing.assert_allclose(resumed.arrays["dual"], exact, atol=1e-4 * scale)
    np.testing.assert_allclose(whole.arrays["dual"], exact, atol=1e-4 * scale)
    assert blobs.size("solves/job-a/checkpoint") is None  # finished: nothing to continue


def test_cancelled_solve_resumes_to_the_very_same_answer(blobs: BlobStore) -> None:
    k, y = spd(120, condition=1e4), np.random.default_rng(0).standard_normal((120, 2))
    request = SolveRequest(
        sealed(blobs, k), "ntk", y, ridge=0.1, method="cg", checkpoint_id="job-b"
    )
    whole = run_solve(None, request, store_url=blobs.url)
    seen: list[dict[str, Any]] = []
    cancelled = run_solve(
        None,
        request,
        store_url=blobs.url,
        on_progress=seen.append,
        should_stop=lambda: len(seen) > 8,
    )
    assert cancelled.outcome is Outcome.CANCELLED
    assert cancelled.arrays == {}
    resumed = run_solve(None, request, store_url=blobs.url)
    assert resumed.summary["stats"]["resumed_at"] >= 7
    np.testing.assert_array_equal(resumed.arrays["dual"], whole.arrays["dual"])


def test_solve_interrupted_while_predicting_is_not_done_again(blobs: BlobStore) -> None:
    k, cross, labels, _ = kernel_like(120, 10)
    request = SolveRequest(
        sealed(blobs, k),
        "ntk",
        labels,
        ridge=0.1,
        method="cg",
        cross_matrix_id=sealed(blobs, cross, symmetric=False),
        checkpoint_id="job-d",
    )
    phases: list[str] = []
    cancelled = run_solve(
        None,
        request,
        store_url=blobs.url,
        on_progress=lambda progress: phases.append(progress["phase"]),
        should_stop=lambda: "predict" in phases,
    )
    assert cancelled.outcome is Outcome.CANCELLED
    resumed = run_solve(None, request, store_url=blobs.url)
    stats = resumed.summary["stats"]
    assert stats["resumed_at"] == stats["iterations"] > 0  # no iteration was needed
    assert resumed.arrays["predictions"].shape == (10, 3)
    assert blobs.size("solves/job-d/checkpoint") is None


def test_checkpoint_of_another_system_is_not_used(blobs: BlobStore) -> None:
    k, y = spd(120, condition=1e4), np.random.default_rng(0).standard_normal((120, 2))
    matrix = sealed(blobs, k)
    common = {"method": "cg", "checkpoint_id": "job-c"}
    solve(blobs, matrix, y, ridge=0.1, max_applications=9, **common)
    other = solve(blobs, matrix, y, ridge=0.2, **common)
    assert other.summary["stats"]["resumed_at"] == 0
    assert "another system" in other.summary["warnings"][0]
    exact = ridge_solution(k, y, 0.2)
    np.testing.assert_allclose(other.arrays["dual"], exact, atol=1e-3 * np.abs(exact).max())


@pytest.mark.parametrize("method", ["cg", "cholesky", "nystrom", "falkon", "tiled-cholesky"])
def test_stop_before_the_first_tile(blobs: BlobStore, method: str) -> None:
    matrix = sealed(blobs, spd(60))
    result = run_solve(
        None,
        SolveRequest(matrix, "ntk", np.ones(60), method=method),
        store_url=blobs.url,
        should_stop=lambda: True,
    )
    assert result.outcome is Outcome.CANCELLED
    assert result.arrays == {}


@pytest.mark.parametrize("method", ["cg", "cholesky", "nystrom", "falkon", "tiled-cholesky"])
def test_what_does_not_fit_a_worker_is_refused_with_numbers(blobs: BlobStore, method: str) -> None:
    matrix = sealed(blobs, spd(60))
    request = SolveRequest(matrix, "ntk", np.ones(60), method=method)
    with pytest.raises(TooLargeError) as caught:
        run_solve(None, request, store_url=blobs.url, worker_memory_bytes=1 << 20)
    assert caught.value.details["worker_memory_bytes"] == 1 << 20
    assert caught.value.details["projected_bytes"] > 1 << 20


def test_corrupt_tile_is_an_error_not_a_number(blobs: BlobStore) -> None:
    matrix = sealed(blobs, spd(100))
    key = f"matrices/{matrix}/ntk/c/0/1"
    data = bytearray(blobs.get(key))
    data[100] ^= 1
    blobs.put(key, bytes(data))
    for method in ("cg", "cholesky", "nystrom", "falkon", "tiled-cholesky"):
        with pytest.raises(CorruptChunkError):
            solve(blobs, matrix, np.ones(100), method=method)
