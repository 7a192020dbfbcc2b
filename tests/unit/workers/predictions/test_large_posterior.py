"""Posteriors whose covariance is solved for in batches: the answers of the dense ones."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from storage.blobs import BlobStore
from support.grams import spd, stored_tiles
from workers.predictions.large_posterior import LargePosterior, run_large_posterior
from workers.predictions.stored_posterior import Kernels, PosteriorAsked, stored_posterior
from workers.solves.errors import SolveFailedError
from workers.solves.source import StoredTiles

ROWS, TEST = 530, 37  # enough rows for a preconditioner; no whole number of batches


stored = partial(stored_tiles, tile_rows=128, block_rows=64)


def kernels(blobs: BlobStore, condition: float, seed: int) -> tuple[Kernels, StoredTiles]:
    """Training and cross-Gram cut from one positive definite matrix, and the test Gram."""
    k = spd(ROWS + TEST, condition=condition, seed=seed, dtype="float64")
    gram, cross = k[:ROWS, :ROWS], np.ascontiguousarray(k[ROWS:, :ROWS])
    test = stored(blobs, k[ROWS:, ROWS:])
    return Kernels(stored(blobs, gram), stored(blobs, cross, symmetric=False)), test


@pytest.fixture
def request_(blobs: BlobStore) -> LargePosterior:
    prior, test = kernels(blobs, 1e3, 0)
    asked = PosteriorAsked(prior, None, test, "variance", 1e-3, True, None)
    targets = np.random.default_rng(1).standard_normal((ROWS, 2))
    return LargePosterior(asked, targets, None, None, batch=16, name="mx-" + "0" * 32)


def run(request: LargePosterior, **options: Any) -> Any:
    return run_large_posterior(None, request, worker_memory_bytes=None, **options)


def check(found: Any, request: LargePosterior) -> None:
    dense = stored_posterior(request.asked, request.targets, None, None, lambda: None)
    assert set(found.arrays) == set(dense.arrays)
    assert set(found.summary) == set(dense.summary)
    assert found.summary["ridge"] == pytest.approx(dense.summary["ridge"])
    for name, exact in dense.arrays.items():
        np.testing.assert_allclose(
            found.arrays[name], exact, rtol=0, atol=2e-5 * np.abs(exact).max()
        )


@pytest.mark.parametrize("wanted", ["mean", "variance", "covariance"])
@pytest.mark.parametrize("method", ["cg", "tiled-cholesky"])
def test_the_gaussian_posterior(
    blobs: BlobStore, request_: LargePosterior, wanted: Any, method: Any
) -> None:
    asked = replace(request_, method=method, asked=replace(request_.asked, wanted=wanted))
    check(run(asked), asked)
    assert list(blobs.list("solves")) == []


@pytest.mark.parametrize("wanted", ["mean", "variance", "covariance"])
def test_networks_trained_to_the_end(
    blobs: BlobStore, request_: LargePosterior, wanted: Any
) -> None:
    trained, _ = kernels(blobs, 1e2, 5)
    asked = replace(request_, asked=replace(request_.asked, trained=trained, wanted=wanted))
    check(run(asked), asked)
    assert list(blobs.list("solves")) == []


def test_batches_that_are_finished_are_not_solved_again(request_: LargePosterior) -> None:
    done: list[int] = []

    def note(news: dict[str, Any]) -> None:
        if news["phase"] == "spread":
            done.append(news["done"])

    assert run(request_, on_progress=note, should_stop=lambda: len(done) == 2) is None
    assert done == [16, 32]
    solves: list[str] = []
    again = run(request_, on_progress=lambda news: solves.append(news["phase"]))
    fresh = run(replace(request_, name="mx-" + "1" * 32))
    np.testing.assert_array_equal(again.arrays["variance"], fresh.arrays["variance"])


def test_a_matrix_that_is_not_definite(blobs: BlobStore, request_: LargePosterior) -> None:
    k = spd(ROWS, condition=10.0, dtype="float64") - 5.0 * np.eye(ROWS)
    prior = replace(request_.asked.prior, gram=stored(blobs, k))
    asked = replace(request_.asked, prior=prior, ridge=0.1, relative=False)
    with pytest.raises(SolveFailedError, match="not-positive-definite"):
        run(replace(request_, asked=asked))
