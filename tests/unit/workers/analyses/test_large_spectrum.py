"""The spectrum in passes over stored tiles, against dense algebra."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from storage.blobs import BlobStore
from support.grams import kernel_like, stored_tiles
from workers.analyses.errors import InvalidAnalysisError
from workers.analyses.kernel_pca import kernel_pca
from workers.analyses.large_spectrum import LargeSpectrum, run_large_spectrum
from workers.solves.errors import SolveFailedError

ROWS = 150


stored = partial(stored_tiles, tile_rows=32, block_rows=16)


def kernel() -> np.ndarray:
    k: np.ndarray = kernel_like(ROWS, 2)[0]
    return k


@pytest.fixture
def asked(blobs: BlobStore) -> LargeSpectrum:
    return LargeSpectrum(
        source=stored(blobs, kernel()),
        largest=12,
        ridge=1e-2,
        relative=True,
        components=3,
        centred=False,
        probes=24,
        steps=60,
        seed=1,
    )


def run(request: LargeSpectrum, **options: Any) -> Any:
    return run_large_spectrum(None, request, worker_memory_bytes=None, **options)


def test_eigenvalues_and_sums_over_them(asked: LargeSpectrum) -> None:
    k = kernel().astype(np.float64)
    values = np.linalg.eigvalsh(k)[::-1]
    found = run(asked)
    summary = found.summary
    np.testing.assert_allclose(found.arrays["eigenvalues"], values[:12], rtol=2e-5)
    assert summary["largest"]["residual"] < 1e-5
    assert summary["trace"] == pytest.approx(np.trace(k))
    assert summary["learning_rates"]["half_sum"] == pytest.approx(2 / values[0], rel=1e-5)
    ridge = summary["ridge"]
    assert ridge == pytest.approx(1e-2 * np.trace(k) / ROWS)
    assert summary["condition_number_with_ridge_at_most"] >= (values[0] + ridge) / (
        values[-1] + ridge
    )
    for name, exact in (
        ("effective_dimension", np.sum(values / (values + ridge))),
        ("log_determinant", np.sum(np.log(values + ridge))),
    ):
        estimate = summary[name]
        assert abs(estimate["value"] - exact) < 5 * estimate["standard_error"] + 1e-6 * abs(exact)
        assert estimate["standard_error"] < 0.1 * abs(exact)
    density = summary["density"]
    total = sum(density["share_of_eigenvalues"]) + density["share_below"]
    assert total == pytest.approx(1)
    # Half of the eigenvalues are below the median, to what 24 probes can tell.
    edges, shares = np.array(density["edges"]), np.array(density["share_of_eigenvalues"])
    above = shares[edges[:-1] >= np.median(values)].sum()
    assert abs(above - 0.5) < 0.15


@pytest.mark.parametrize("centred", [False, True])
def test_components_are_those_of_dense_kernel_pca(asked: LargeSpectrum, centred: bool) -> None:
    exact = kernel_pca(kernel(), 3, centred=centred)
    found = run(replace(asked, centred=centred))
    np.testing.assert_allclose(np.abs(found.arrays["scores"]), np.abs(exact.scores), atol=2e-3)
    pca = found.summary["kernel_pca"]
    np.testing.assert_allclose(pca["eigenvalues"], exact.eigenvalues, rtol=2e-5)
    np.testing.assert_allclose(pca["explained"], exact.explained, rtol=2e-5)
    overlap = np.abs(found.arrays["components"].T @ exact.vectors)
    np.testing.assert_allclose(overlap, np.eye(3), atol=2e-3)


def test_tiles_do_not_matter(blobs: BlobStore, asked: LargeSpectrum) -> None:
    other = replace(asked, source=stored(blobs, kernel(), tile_rows=64))
    one, two = run(asked), run(other)
    np.testing.assert_allclose(one.arrays["eigenvalues"], two.arrays["eigenvalues"], rtol=1e-6)
    for name in ("effective_dimension", "log_determinant"):
        assert one.summary[name]["value"] == pytest.approx(two.summary[name]["value"], rel=1e-4)


def test_a_request_to_stop_ends_it(asked: LargeSpectrum) -> None:
    seen: list[dict[str, Any]] = []
    assert run(asked, should_stop=lambda: len(seen) >= 2, on_progress=seen.append) is None
    assert {news["phase"] for news in seen} <= {"eigenvalues", "density"}


def test_matrices_that_are_no_kernels(blobs: BlobStore, asked: LargeSpectrum) -> None:
    k = kernel()
    with pytest.raises(InvalidAnalysisError, match="not a kernel"):
        run(replace(asked, source=stored(blobs, k - 2 * np.diag(np.diag(k)))))
    broken = k.copy()
    broken[3, 3] = np.nan
    with pytest.raises(SolveFailedError):
        run(replace(asked, source=stored(blobs, broken)))
