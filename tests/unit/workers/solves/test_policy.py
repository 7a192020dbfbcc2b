"""The auto choices at their boundaries, and refusals with numbers."""

from __future__ import annotations

import pytest

from storage.errors import TooLargeError
from workers.solves.memory import (
    apply_worker_bytes,
    cholesky_worker_bytes,
    held_share_bytes,
    nystrom_worker_bytes,
)
from workers.solves.policy import choose_method, choose_placement


@pytest.mark.parametrize(
    ("rows", "direct_bytes", "limit", "expected"),
    [
        (12_000, 10, 10, "cholesky"),
        (12_001, 10, 10, "cg"),
        (100, 11, 10, "cg"),
        (100, 11, None, "cholesky"),
    ],
)
def test_auto_method(rows: int, direct_bytes: int, limit: int | None, expected: str) -> None:
    chosen = choose_method("auto", rows=rows, direct_bytes=direct_bytes, worker_memory_bytes=limit)
    assert chosen == expected


def test_named_methods_are_kept_or_refused() -> None:
    for name in ("cg", "nystrom"):
        assert choose_method(name, rows=10**6, direct_bytes=1, worker_memory_bytes=1) == name  # type: ignore[arg-type]
    with pytest.raises(TooLargeError, match="12000"):
        choose_method("cholesky", rows=12_001, direct_bytes=1, worker_memory_bytes=None)
    with pytest.raises(TooLargeError, match="MiB"):
        choose_method("cholesky", rows=10, direct_bytes=2 << 20, worker_memory_bytes=1 << 20)


@pytest.mark.parametrize(
    ("requested", "memory", "stream", "limit", "expected"),
    [
        ("auto", 10, 5, 10, "memory"),
        ("auto", 11, 5, 10, "stream"),
        ("auto", 11, 5, None, "memory"),
        ("stream", 1, 5, 10, "stream"),
        ("memory", 10, 5, 10, "memory"),
    ],
)
def test_placement(
    requested: str, memory: int, stream: int, limit: int | None, expected: str
) -> None:
    chosen = choose_placement(
        requested,  # type: ignore[arg-type]
        memory_bytes=memory,
        stream_bytes=stream,
        worker_memory_bytes=limit,
    )
    assert chosen == expected


@pytest.mark.parametrize(("requested", "memory"), [("memory", 11), ("auto", 12), ("stream", 1)])
def test_placement_that_cannot_fit_is_refused(requested: str, memory: int) -> None:
    with pytest.raises(TooLargeError):
        choose_placement(
            requested,  # type: ignore[arg-type]
            memory_bytes=memory,
            stream_bytes=11,
            worker_memory_bytes=10,
        )


def test_projections_grow_with_what_they_hold() -> None:
    tile = {"tile_rows": 1024, "itemsize": 4}
    held = held_share_bytes(n_tiles=10, workers=4, **tile)
    assert held == 3 * 1024**2 * 4
    sizes = {"rows": 5000, "columns": 5000, "rhs": 10, **tile}
    streaming = apply_worker_bytes(held_bytes=0, **sizes)
    assert apply_worker_bytes(held_bytes=held, **sizes) == streaming + held
    assert cholesky_worker_bytes(rows=5000, rhs=10, **tile) > streaming + 8 * 5000**2
    small = nystrom_worker_bytes(inducing=500, rhs=10, **tile)
    large = nystrom_worker_bytes(inducing=1000, rhs=10, **tile)
    assert large - small > 8 * (1000**2 - 500**2)
