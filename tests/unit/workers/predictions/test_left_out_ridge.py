"""Leave-one-out beyond one worker: against training again without each sample, in dense algebra."""

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
from workers.solves import inverse_diagonal
from workers.solves.errors import SolveFailedError
from workers.solves.targets import encode_targets

ROWS, TEST = 150, 20
RIDGES = (1e-3, 1e-1, 3.0)


@pytest.fixture(autouse=True)
def _narrow_panels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inverse_diagonal, "PANEL_BYTES", 16 * 8 * ROWS)


stored = partial(stored_tiles, tile_rows=32, block_rows=16)


@pytest.fixture
def asked(blobs: BlobStore) -> LargeRidge:
    k, cross, labels, test_labels = kernel_like(ROWS, TEST)
    targets, classes = encode_targets(labels, ROWS, "centred_one_hot")
    return LargeRidge(
        source=stored(blobs, k),
        targets=targets,
        classes=classes,
        asked=RidgeAsked(RIDGES, True, None, 0, "error_rate"),
        cross=stored(blobs, cross, symmetric=False),
        test_targets=test_labels,
        name="mx-" + "0" * 32,
        block_rows=64,
    )


def run(request: LargeRidge, **options: Any) -> Any:
    return run_large_ridge(None, request, worker_memory_bytes=None, **options)


def test_each_sample_is_predicted_without_it(blobs: BlobStore, asked: LargeRidge) -> None:
    found = run(asked)
    k, _, _, _ = kernel_like(ROWS, TEST)
    k = k.astype(np.float64)
    ridge = found.summary["ridge"]
    expected = np.empty_like(asked.targets)
    for i in range(ROWS):
        others = np.delete(np.arange(ROWS), i)
        dual = ridge_solution(k[np.ix_(others, others)], asked.targets[others], ridge)
        expected[i] = k[i, others] @ dual
    np.testing.assert_allclose(found.arrays["held_out"], expected, rtol=0, atol=1e-9)
    assert found.summary["selection"] == "leave_one_out"
    assert list(blobs.list("solves")) == []  # nothing of it is left in the store


def test_equals_the_choice_from_a_decomposition(asked: LargeRidge) -> None:
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
    assert set(found.arrays) == set(dense.arrays)
    for name, exact in dense.arrays.items():
        scale = np.abs(exact).max()
        np.testing.assert_allclose(found.arrays[name], exact, rtol=0, atol=1e-9 * scale)
    assert set(found.summary) == set(dense.summary)
    for ours, exact in zip(found.summary["curve"], dense.summary["curve"], strict=True):
        for field in ("ridge", "relative_ridge", "mean_squared_error", "error_rate"):
            assert ours[field] == pytest.approx(exact[field], rel=1e-9)
        # Estimated from inside the spectrum.
        assert 1 < ours["condition"] <= exact["condition"] * (1 + 1e-9)
    for field in ("ridge", "held_out", "test", "classes"):
        near = dense.summary[field]
        assert found.summary[field] == (pytest.approx(near) if field == "ridge" else near)
    assert found.summary["residual"] <= 1e-10
    assert found.summary["rounding"] == pytest.approx(dense.summary["rounding"], rel=0.5)


@pytest.mark.parametrize(("tile_rows", "block_rows", "panel_rows"), [(64, 64, 5), (16, 48, 40)])
def test_sizes_of_tiles_blocks_and_panels_do_not_matter(
    blobs: BlobStore,
    asked: LargeRidge,
    monkeypatch: pytest.MonkeyPatch,
    tile_rows: int,
    block_rows: int,
    panel_rows: int,
) -> None:
    found = run(asked)
    monkeypatch.setattr(inverse_diagonal, "PANEL_BYTES", panel_rows * 8 * ROWS)
    k, _, _, _ = kernel_like(ROWS, TEST)
    source = stored(blobs, k, tile_rows=tile_rows)
    other = run(replace(asked, source=source, block_rows=block_rows))
    for name, values in found.arrays.items():
        np.testing.assert_allclose(other.arrays[name], values, rtol=0, atol=1e-9)


@pytest.mark.parametrize("phase", ["factor", "inverse", "solve"])
def test_it_goes_on_where_it_was_stopped(
    blobs: BlobStore, asked: LargeRidge, phase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A job that dies at its second ridge keeps the first, and of the second what it has made."""
    seen: list[tuple[str, int, int]] = []

    def note(news: dict[str, Any]) -> None:
        seen.append((news["phase"], news.get("ridges_done", -1), news["done"]))

    stopped = run(
        asked,
        on_progress=note,
        should_stop=lambda: bool(seen) and seen[-1][0] == phase and seen[-1][1:] >= (1, 1),
    )
    assert stopped is None
    assert {ridge for _, ridge, _ in seen} == {0, 1}
    seen.clear()
    made: list[int] = []
    original = inverse_diagonal.solve_triangular
    monkeypatch.setattr(
        inverse_diagonal,
        "solve_triangular",
        lambda *a, **o: made.append(1) or original(*a, **o),  # type: ignore[func-returns-value]
    )
    again = run(asked, on_progress=note)
    assert all(ridge != 0 for _, ridge, _ in seen)  # the largest ridge was read back
    resumed = len(made)
    made.clear()
    fresh = run(replace(asked, name="mx-" + "1" * 32))
    assert resumed < len(made)
    for name, values in fresh.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], values)
    assert list(blobs.list("solves")) == []


def test_ridges_that_make_nothing_definite(blobs: BlobStore) -> None:
    k = spd(130, condition=10.0, dtype="float64") - 3.0 * np.eye(130)  # eigenvalues from -2 on
    request = LargeRidge(
        source=stored(blobs, k),
        targets=np.random.default_rng(0).standard_normal((130, 2)),
        classes=None,
        asked=RidgeAsked((0.5, 1.0, 4.0), False, None, 0),
        cross=None,
        test_targets=None,
        name="mx-" + "2" * 32,
    )
    found = run(request)
    assert [c["mean_squared_error"] is None for c in found.summary["curve"]] == [True, True, False]
    assert found.summary["ridge"] == 4.0
    inverse = np.linalg.inv(k + 4.0 * np.eye(130))
    exact = request.targets - inverse @ request.targets / np.diag(inverse)[:, None]
    np.testing.assert_allclose(found.arrays["held_out"], exact, rtol=0, atol=1e-10)
    with pytest.raises(SolveFailedError, match="any of the ridges"):
        run(replace(request, asked=RidgeAsked((0.5, 1.0), False, None, 0)))
    assert list(blobs.list("solves/mx-" + "2" * 32 + "/left-out")) == []


def test_a_matrix_that_is_not_finite(blobs: BlobStore, asked: LargeRidge) -> None:
    k = spd(ROWS)
    k[3, 140] = k[140, 3] = np.nan
    with pytest.raises(SolveFailedError, match="not finite"):
        run(replace(asked, source=stored(blobs, k)))
