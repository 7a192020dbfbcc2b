"""The auto choices at their boundaries, and refusals with numbers."""

from __future__ import annotations

from typing import Any

import pytest

from storage.errors import TooLargeError
from workers.solves.memory import (
    apply_worker_bytes,
    cholesky_worker_bytes,
    held_share_bytes,
    nystrom_worker_bytes,
    preconditioner_bytes,
)
from workers.solves.policy import Room, choose_method, choose_placement, preconditioner_rank


def choose(requested: str, **changes: Any) -> str:
    sizes = {"rows": 100, "rhs": 1, "direct_bytes": 1, "tiled_bytes": 1, "factor_bytes": 10}
    room = Room(changes.pop("memory", 10), changes.pop("free", 100))
    return choose_method(requested, **(sizes | changes), room=room)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rows": 12_000, "direct_bytes": 10}, "cholesky"),
        ({"rows": 12_001, "direct_bytes": 10}, "cg"),
        ({"direct_bytes": 11, "memory": None}, "cholesky"),
        # A factorisation pays from m/150 right-hand sides on, if its factor finds room.
        ({"rows": 15_000, "rhs": 101}, "tiled-cholesky"),
        ({"rows": 15_000, "rhs": 100}, "cg"),
        ({"rows": 15_000, "rhs": 101, "factor_bytes": 51}, "cg"),
        ({"rows": 15_000, "rhs": 101, "free": None}, "tiled-cholesky"),
        ({"rows": 15_000, "rhs": 101, "tiled_bytes": 11}, "cg"),
        ({"rows": 100, "direct_bytes": 11}, "tiled-cholesky"),
    ],
)
def test_auto_method(changes: dict[str, Any], expected: str) -> None:
    assert choose("auto", **changes) == expected


def test_named_methods_are_kept_or_refused() -> None:
    for name in ("cg", "nystrom", "falkon"):
        assert choose(name, rows=10**6, memory=0) == name
    assert choose("cholesky", rows=12_001) == "tiled-cholesky"
    assert choose("cholesky", direct_bytes=11) == "tiled-cholesky"
    assert choose("tiled-cholesky") == "tiled-cholesky"
    with pytest.raises(TooLargeError, match="MiB"):
        choose("cholesky", direct_bytes=11, tiled_bytes=11)
    with pytest.raises(TooLargeError, match="100 are free"):
        choose("tiled-cholesky", factor_bytes=101)


@pytest.mark.parametrize(
    ("requested", "projected", "limit", "expected"),
    [
        ("auto", (10, 5), 10, "memory"),
        ("auto", (11, 5), 10, "stream"),
        ("auto", (20, 5), None, "memory"),
        ("stream", (1, 1), 10, "stream"),
        ("memory", (1, 1), 10, "memory"),
    ],
)
def test_placement(
    requested: str, projected: tuple[int, int], limit: int | None, expected: str
) -> None:
    chosen = choose_placement(
        requested,  # type: ignore[arg-type]
        projected_bytes=dict(zip(("memory", "stream"), projected, strict=True)),  # type: ignore[arg-type]
        worker_memory_bytes=limit,
    )
    assert chosen == expected


@pytest.mark.parametrize("requested", ["memory", "auto", "stream"])
def test_placement_that_cannot_fit_is_refused(requested: str) -> None:
    with pytest.raises(TooLargeError):
        choose_placement(
            requested,  # type: ignore[arg-type]
            projected_bytes={"memory": 12, "stream": 11},
            worker_memory_bytes=10,
        )


def test_rank_of_the_preconditioner() -> None:
    assert preconditioner_rank(499) == 0
    assert preconditioner_rank(1200) == 400  # a third
    assert preconditioner_rank(10_000) == 1250
    assert preconditioner_rank(20_000) == 2000
    assert preconditioner_rank(20_000, 100) == 100
    rank = preconditioner_rank(10**6)
    assert 0 < rank < 100
    assert preconditioner_bytes(rows=10**6, rank=rank) <= 1 << 30
    assert preconditioner_rank(10**9) == 0


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
