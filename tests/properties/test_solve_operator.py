"""An operator is the matrix, however it is cut, shared out, placed or re-shared."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.solves.operator import LocalOperator, diagonal_part
from workers.solves.products import multiply_tiles
from workers.solves.shares import assign, cut
from workers.solves.source import ArrayTiles, row_panel, tiles_between

sizes = st.integers(1, 40)


@settings(max_examples=40, deadline=None)
@given(rows=sizes, columns=sizes, tile=sizes, k=st.integers(1, 5), symmetric=st.booleans())
def test_any_cut_multiplies_like_the_dense_matrix(
    rows: int, columns: int, tile: int, k: int, symmetric: bool
) -> None:
    columns = rows if symmetric else columns
    rng = np.random.default_rng(rows * 41 + columns)
    a = rng.standard_normal((rows, columns))
    a = a + a.T if symmetric else a
    source = ArrayTiles(a, tile, symmetric=symmetric)
    v = rng.standard_normal((columns, k))
    for placement in ("memory", "stream"):
        operator = LocalOperator(source, placement=placement)
        for _ in range(2):
            np.testing.assert_allclose(operator.apply(v), a @ v, atol=1e-12 * rows * 10)
        reads = 2 if placement == "stream" else 1
        stored = sum(
            (t.rows.stop - t.rows.start) * (t.cols.stop - t.cols.start)
            for t in tiles_between(source.layout, 0, source.layout.stored_chunks)
        )
        assert operator.traffic.bytes_read == reads * 8 * stored
        chosen = np.flatnonzero(rng.random(columns) < 0.5)
        np.testing.assert_array_equal(operator.columns(chosen), a[:, chosen])
    if symmetric:
        panels = source.layout.grid[0]
        np.testing.assert_array_equal(diagonal_part(source, 0, panels), np.diagonal(a))


@settings(max_examples=40, deadline=None)
@given(rows=sizes, tile=sizes, workers=st.integers(1, 7))
def test_shares_add_up_to_the_matrix(rows: int, tile: int, workers: int) -> None:
    rng = np.random.default_rng(rows)
    a = rng.standard_normal((rows, rows))
    source = ArrayTiles(a + a.T, tile)
    v = rng.standard_normal((rows, 2))
    total = np.zeros((rows, 2))
    for share in cut(source.layout.stored_chunks, workers):
        tiles = tiles_between(source.layout, share.start, share.stop)
        part = multiply_tiles(source, tiles, v, precise=True)
        total[part.row_start : part.row_start + len(part.values)] += part.values
    np.testing.assert_allclose(total, (a + a.T) @ v, atol=1e-11 * rows)


@given(rows=sizes, tile=sizes)
def test_row_panels_cover_every_column_once(rows: int, tile: int) -> None:
    layout = ArrayTiles(np.zeros((rows, rows)), tile).layout
    for i in range(layout.grid[0]):
        covered: list[int] = []
        for t in row_panel(layout, i):
            assert t.i <= t.j  # stored tiles only
            part = t.cols if t.i == i else t.rows
            covered.extend(range(part.start, part.stop))
        assert covered == list(range(rows))


@given(tiles=st.integers(1, 5000), shares=st.integers(1, 40))
def test_shares_are_fair_and_complete(tiles: int, shares: int) -> None:
    made = cut(tiles, shares)
    assert [s.start for s in made[1:]] == [s.stop for s in made[:-1]]
    assert (made[0].start, made[-1].stop) == (0, tiles)
    counts = [s.tiles for s in made]
    assert min(counts) >= 1
    assert max(counts) - min(counts) <= 1


@given(data=st.data(), n_shares=st.integers(1, 12))
def test_reassignment_moves_only_what_it_must(data: st.DataObject, n_shares: int) -> None:
    names = [f"w{i}" for i in range(8)]
    before = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    after = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    shares = cut(1000, n_shares)
    owners = assign(shares, {}, before)
    moved = assign(shares, owners, after)
    assert set(moved) == {s.index for s in shares}
    assert set(moved.values()) <= set(after)
    loads = [list(moved.values()).count(w) for w in after]
    # Nobody idles while another has two, and living owners keep at least one of theirs.
    assert not (0 in loads and max(loads) > 1)
    for worker in set(owners.values()) & set(after):
        assert any(moved[index] == worker for index, owner in owners.items() if owner == worker)
    assert assign(shares, moved, after) == moved
