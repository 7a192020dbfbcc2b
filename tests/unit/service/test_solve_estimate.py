"""Estimates of solves: sizes that can be worked out by hand, and memory that decides placement."""

from __future__ import annotations

from typing import Any

import pytest

from service.jobs.tasks.solve_estimate import SolveEstimate, estimate_solve
from storage.format import ArrayLayout

BASE = 100 << 20


def layout(rows: int) -> ArrayLayout:
    return ArrayLayout("ntk", (rows, rows), (2048, 2048), "float32", symmetric=True)


def estimate(rows: int = 60_000, **changes: Any) -> SolveEstimate:
    given = {
        "method": "cg",
        "placement": "auto",
        "rhs": 10,
        "inducing": 1000,
        "tolerance": 1e-3,
        "workers": 2,
        "base_bytes": BASE,
        "limit_bytes": 2 << 30,
        **changes,
    }
    return estimate_solve(layout(rows), **given)


def test_a_matrix_that_does_not_fit_is_streamed() -> None:
    streamed, held = estimate(), estimate(limit_bytes=5 << 30)
    stored = layout(60_000).stored_bytes
    assert held == estimate(placement="memory")
    assert streamed.peak_bytes_per_worker < 2 << 30
    assert held.peak_bytes_per_worker - streamed.peak_bytes_per_worker == pytest.approx(
        stored / 2, rel=0.01
    )
    assert streamed.seconds > 5 * held.seconds
    assert streamed.bytes_read == stored * streamed.applications


def test_what_is_asked_for_is_estimated_even_if_it_cannot_fit() -> None:
    assert estimate(placement="memory").peak_bytes_per_worker > 2 << 30


def test_passes_grow_with_rows_and_digits() -> None:
    # Block CG measured on Fashion-MNIST: 43 passes to 1e-3 without a preconditioner, and 16 with
    # 2000 columns of 20000.
    assert estimate(400).applications < 20
    assert estimate(20_000).applications == pytest.approx(16 + 4, rel=0.5)
    assert estimate(tolerance=1e-6).applications > 1.8 * estimate().applications - 4


def test_cholesky_holds_a_float64_square() -> None:
    found = estimate(10_000, method="cholesky")
    assert found.peak_bytes_per_worker > BASE + 8 * 10_000**2
    assert found.flops == pytest.approx(10_000**3 / 3, rel=0.1)


def test_nystrom_does_not_depend_on_the_edge_of_the_matrix() -> None:
    small, large = (estimate(rows, method="nystrom") for rows in (20_000, 60_000))
    assert small.peak_bytes_per_worker == large.peak_bytes_per_worker
    assert large.flops == 3 * small.flops
    assert large.to_json()["basis"] == "model"
