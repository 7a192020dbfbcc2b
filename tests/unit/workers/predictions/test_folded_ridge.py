"""Ridges chosen by solving: the answers of the dense choice, and what a death costs."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from storage.blobs import BlobStore
from support.grams import kernel_like, ridge_solution, spd, stored_tiles
from workers.predictions.large_ridge import run_large_ridge
from workers.predictions.ridge_trial import LargeRidge
from workers.predictions.stored_ridge import NewInputs, RidgeAsked, stored_ridge
from workers.solves.errors import SolveFailedError
from workers.solves.targets import encode_targets

ROWS, TEST = 600, 50  # enough rows for a preconditioner
RIDGES = (1e-3, 1e-1, 3.0)


@pytest.fixture
def asked(blobs: BlobStore) -> LargeRidge:
    k, cross, labels, test_labels = kernel_like(ROWS, TEST)
    targets, classes = encode_targets(labels, ROWS, "centred_one_hot")
    return LargeRidge(
        source=stored(blobs, k),
        targets=targets,
        classes=classes,
        asked=RidgeAsked(RIDGES, True, 4, 7, "error_rate"),
        cross=stored(blobs, cross, symmetric=False),
        test_targets=test_labels,
        name="mx-" + "0" * 32,
    )


stored = partial(stored_tiles, tile_rows=128, block_rows=64)


def run(request: LargeRidge, **options: Any) -> Any:
    return run_large_ridge(None, request, worker_memory_bytes=None, **options)


def test_equals_the_choice_from_a_decomposition(blobs: BlobStore, asked: LargeRidge) -> None:
    assert asked.cross is not None
    found = run(asked)
    dense = stored_ridge(
        asked.source,
        asked.targets,
        asked.classes,
        asked.asked,
        NewInputs(asked.cross, asked.test_targets),
        lambda: None,
    )
    assert found.summary["ridge"] == pytest.approx(dense.summary["ridge"])
    assert found.summary["residual"] <= 1e-6
    for ours, exact in zip(found.summary["curve"], dense.summary["curve"], strict=True):
        assert ours["ridge"] == pytest.approx(exact["ridge"])
        assert ours["relative_ridge"] == pytest.approx(exact["relative_ridge"])
        assert ours["mean_squared_error"] == pytest.approx(exact["mean_squared_error"], rel=1e-3)
        assert ours["error_rate"] == pytest.approx(exact["error_rate"], abs=2 / ROWS)
    for name, tolerance in (("held_out", 1e-3), ("dual", 1e-4), ("predictions", 1e-4)):
        scale = np.abs(dense.arrays[name]).max()
        np.testing.assert_allclose(
            found.arrays[name], dense.arrays[name], rtol=0, atol=tolerance * scale
        )
    assert set(found.arrays) == set(dense.arrays)
    assert set(found.summary) == set(dense.summary)
    assert found.summary["test"]["accuracy"] == pytest.approx(
        dense.summary["test"]["accuracy"], abs=1 / TEST
    )
    assert list(blobs.list("solves")) == []  # nothing of it is left in the store


def test_ridges_that_are_finished_are_not_solved_again(asked: LargeRidge) -> None:
    """A job that dies while it works at its second ridge keeps the first."""
    seen: list[int] = []

    def stop_at_the_second(news: dict[str, Any]) -> None:
        seen.append(news.get("ridges_done", -1))

    stopped = run(
        asked, on_progress=stop_at_the_second, should_stop=lambda: bool(seen) and seen[-1] == 1
    )
    assert stopped is None
    assert set(seen) == {0, 1}
    seen.clear()
    again = run(asked, on_progress=stop_at_the_second)
    assert 0 not in seen  # the largest ridge was read back
    fresh = run(replace(asked, name="mx-" + "1" * 32))
    np.testing.assert_array_equal(again.arrays["held_out"], fresh.arrays["held_out"])


def test_ridges_that_make_nothing_definite(blobs: BlobStore) -> None:
    k = spd(130, condition=10.0, dtype="float64")
    values = np.linalg.eigvalsh(k)
    k = k - 3.0 * np.eye(130)  # eigenvalues from -2 on
    request = LargeRidge(
        source=stored(blobs, k),
        targets=np.random.default_rng(0).standard_normal((130, 2)),
        classes=None,
        asked=RidgeAsked((0.5, 1.0, 4.0), False, 3, 0),
        cross=None,
        test_targets=None,
        name="mx-" + "2" * 32,
    )
    found = run(request)
    assert values[0] == pytest.approx(1.0)
    assert [c["mean_squared_error"] is None for c in found.summary["curve"]] == [True, True, False]
    assert found.summary["ridge"] == 4.0
    exact = ridge_solution(k, request.targets, 4.0)
    np.testing.assert_allclose(found.arrays["dual"], exact, rtol=0, atol=1e-5 * abs(exact).max())
    assert any("not positive definite for 2" in note for note in found.summary["notes"])
    with pytest.raises(SolveFailedError, match="any of the ridges") as error:
        run(replace(request, asked=RidgeAsked((0.5, 1.0), False, 3, 0)))
    assert "5" in error.value.advice or "10" in error.value.advice
