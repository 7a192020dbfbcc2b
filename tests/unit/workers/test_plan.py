"""The tile plan: every entry exactly once, whatever the shape; sizes that obey their limits."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.plan import TilePlan, choose_block_rows, choose_tile_rows, is_tile_edge


@given(
    n1=st.integers(1, 70),
    n2=st.integers(1, 70),
    symmetric=st.booleans(),
    block=st.sampled_from([1, 3, 8]),
    doubling=st.integers(0, 4),
)
def test_tiles_cover_each_entry_exactly_once(
    n1: int, n2: int, symmetric: bool, block: int, doubling: int
) -> None:
    shape = (n1, n1) if symmetric else (n1, n2)
    plan = TilePlan(shape, symmetric, block << doubling, block)
    hits = np.zeros(shape, int)
    tiles = list(plan.tiles())
    for tile in tiles:
        hits[plan.extent(tile)] += 1
        if symmetric and tile[0] != tile[1]:
            rows, cols = plan.extent(tile)
            hits[cols, rows] += 1
    assert (hits == 1).all()
    assert len(tiles) == plan.n_tiles


def test_a_million_tiles_are_planned_lazily_in_little_memory() -> None:
    plan = TilePlan((1414 * 512, 1414 * 512), True, 512, 512)
    assert plan.n_tiles == 1_000_405
    tracemalloc.start()
    try:
        assert sum(1 for _ in plan.tiles()) == plan.n_tiles
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_consecutive_tiles_share_panels() -> None:
    plan = TilePlan((64 * 8, 64 * 8), False, 8, 8)
    tiles = list(plan.tiles())
    for start in range(0, len(tiles), 64):
        batch = tiles[start : start + 64]
        assert len({i for i, _ in batch}) + len({j for _, j in batch}) == 16


@given(
    rows=st.integers(1, 10**6),
    symmetric=st.booleans(),
    workers=st.integers(1, 64),
    seconds=st.floats(1e-9, 1.0),
    itemsize=st.sampled_from([4, 8]),
)
def test_chosen_tiles_obey_every_limit_or_are_one_block(
    rows: int, symmetric: bool, workers: int, seconds: float, itemsize: int
) -> None:
    block = choose_block_rows(rows, 512)
    edge = choose_tile_rows(
        (rows, rows),
        symmetric=symmetric,
        block_rows=block,
        itemsize=itemsize,
        seconds_per_pair=seconds,
        workers=workers,
        max_chunk_bytes=16 << 20,
        max_tile_seconds=10.0,
    )
    assert is_tile_edge(edge, block)
    if edge > block:
        assert edge**2 * itemsize <= 16 << 20
        assert edge**2 * seconds <= 10.0
        assert TilePlan((rows, rows), symmetric, edge, block).n_tiles >= 4 * workers


@pytest.mark.parametrize(
    ("shape", "symmetric", "tile", "block"),
    [((0, 3), False, 8, 8), ((3, 4), True, 8, 8), ((9, 9), True, 24, 8), ((9, 9), True, 4, 8)],
)
def test_impossible_plans_are_refused(
    shape: tuple[int, int], symmetric: bool, tile: int, block: int
) -> None:
    with pytest.raises(ValueError):
        TilePlan(shape, symmetric, tile, block)
