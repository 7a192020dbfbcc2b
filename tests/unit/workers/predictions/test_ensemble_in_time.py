"""Ensembles followed for a time, a batch of test samples at a time: against dense algebra."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from storage.blobs import BlobStore
from support.grams import spd, stored_tiles
from workers.predictions import kernel_series
from workers.predictions.large_posterior import LargePosterior, run_large_posterior
from workers.predictions.stored_posterior import Kernels, PosteriorAsked
from workers.solves.errors import SolveFailedError

ROWS, TEST = 130, 21  # no whole number of batches
PRIOR, TRAINED = (1e3, 0), (1e2, 5)  # condition and seed


def matrix(which: tuple[float, int]) -> np.ndarray:
    """Of training and test samples together."""
    return spd(ROWS + TEST, condition=which[0], seed=which[1], dtype="float64")


def kernels(blobs: BlobStore, which: tuple[float, int]) -> Kernels:
    k = matrix(which)
    cross = np.ascontiguousarray(k[ROWS:, :ROWS])
    return Kernels(
        stored_tiles(blobs, k[:ROWS, :ROWS]), stored_tiles(blobs, cross, symmetric=False)
    )


@pytest.fixture
def request_(blobs: BlobStore) -> LargePosterior:
    test = stored_tiles(blobs, matrix(PRIOR)[ROWS:, ROWS:])
    asked = PosteriorAsked(
        kernels(blobs, PRIOR), kernels(blobs, TRAINED), test, "variance", 1e-3, True, 0.1
    )
    targets = np.random.default_rng(1).standard_normal((ROWS, 2))
    return LargePosterior(asked, targets, None, None, batch=8, name="mx-" + "0" * 32)


def run(request: LargePosterior, **options: Any) -> Any:
    return run_large_posterior(None, request, worker_memory_bytes=None, **options)


@pytest.mark.parametrize("time", [0.0, 0.02, 3.0])
@pytest.mark.parametrize("wanted", ["mean", "variance", "covariance"])
def test_networks_trained_for_a_time(
    blobs: BlobStore, request_: LargePosterior, wanted: Any, time: float
) -> None:
    """Survey (155)-(156) from an eigendecomposition of its own."""
    request = replace(request_, asked=replace(request_.asked, wanted=wanted, time=time))
    found = run(request)
    both, prior = matrix(TRAINED), matrix(PRIOR)
    values, vectors = np.linalg.eigh(both[:ROWS, :ROWS])
    values = values + 1e-3 * values.mean()
    decay = (vectors * -np.expm1(-values * time) / values) @ vectors.T
    a = both[ROWS:, :ROWS] @ decay
    k, cross = prior[:ROWS, :ROWS], prior[ROWS:, :ROWS]
    covariance = prior[ROWS:, ROWS:] - a @ cross.T - cross @ a.T + a @ k @ a.T
    scale = np.abs(prior[ROWS:, ROWS:]).max()
    np.testing.assert_allclose(found.arrays["mean"], a @ request.targets, rtol=0, atol=1e-9)
    if wanted == "variance":
        exact = np.diagonal(covariance)
        np.testing.assert_allclose(found.arrays["variance"], exact, rtol=0, atol=1e-9 * scale)
    elif wanted == "covariance":
        answer = found.arrays["covariance"]
        np.testing.assert_allclose(answer, covariance, rtol=0, atol=1e-9 * scale)
        np.testing.assert_array_equal(answer, answer.T)
    assert found.summary["residual"] is None  # no system is solved
    assert list(blobs.list("solves")) == []


@pytest.mark.parametrize("batch", [5, 21])
def test_neither_tiles_nor_batches_matter(
    blobs: BlobStore, request_: LargePosterior, batch: int
) -> None:
    asked = replace(request_.asked, wanted="covariance")
    found = run(replace(request_, asked=asked))
    assert asked.trained is not None
    gram = stored_tiles(blobs, matrix(TRAINED)[:ROWS, :ROWS], tile_rows=32)
    recut = replace(asked.trained, gram=gram)
    other = replace(request_, asked=replace(asked, trained=recut), batch=batch)
    for name, values in run(other).arrays.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(found.arrays[name], values, rtol=0, atol=1e-11 * scale)


@pytest.mark.parametrize("wanted", ["variance", "covariance"])
def test_a_time_is_followed_on_where_it_was_stopped(request_: LargePosterior, wanted: Any) -> None:
    request = replace(request_, asked=replace(request_.asked, wanted=wanted))
    whole: list[str] = []
    fresh = run(
        replace(request, name="mx-" + "1" * 32),
        on_progress=lambda news: whole.append(news["phase"]),
    )
    seen: list[str] = []

    def note(news: dict[str, Any]) -> None:
        seen.append(news["phase"])

    # Within the mean, within the second batch, and between batches.
    for stop_at in (7, whole.index("spread") + 9, len(whole) - 3):
        assert run(request, on_progress=note, should_stop=lambda: len(seen) >= stop_at) is None  # noqa: B023
    again = run(request, on_progress=note)
    assert seen.count("training") == whole.count("training")  # no product was made twice
    for name, values in fresh.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], values)


def test_a_time_that_would_take_too_many_passes(
    request_: LargePosterior, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_series, "MOST_PASSES", 60)
    asked = replace(request_.asked, time=1e6, ridge=0.0)
    with pytest.raises(SolveFailedError, match="more than 60 passes") as refused:
        run(replace(request_, asked=asked))
    assert refused.value.details["largest"] > 0
