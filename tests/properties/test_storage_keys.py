"""Chunk keys: exactly one spelling per chunk, and nothing else gets through."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from storage.blobs import split_key
from storage.errors import InvalidKeyError
from storage.keys import chunk_key, parse_chunk_key

GRIDS = st.lists(st.integers(1, 10**6), min_size=1, max_size=4).map(tuple)


@settings(deadline=None)  # the machine may be busy
@given(grid=GRIDS, data=st.data())
def test_keys_round_trip(grid: tuple[int, ...], data: st.DataObject) -> None:
    coordinates = tuple(data.draw(st.integers(0, n - 1)) for n in grid)
    key = chunk_key(coordinates)
    assert parse_chunk_key(key, grid) == coordinates
    assert "/".join(split_key(key)) == key


@settings(deadline=None)  # the machine may be busy
@given(key=st.text(alphabet="c/0123456789.-+_ %x\n٣", max_size=12), grid=GRIDS)
@example(key="c/00/0", grid=(5, 5))
@example(key="c/0/0\n", grid=(5, 5))
@example(key="c/٣/0", grid=(5, 5))
@example(key="c/+1/0", grid=(5, 5))
@example(key="c/1_0/0", grid=(50, 50))
@example(key="c/0/0/", grid=(5, 5))
@example(key="/c/0/0", grid=(5, 5))
@example(key="c/5/0", grid=(5, 5))
@example(key="c/-0/0", grid=(5, 5))
def test_what_is_accepted_is_canonical_and_inside(key: str, grid: tuple[int, ...]) -> None:
    try:
        coordinates = parse_chunk_key(key, grid)
    except InvalidKeyError:
        return
    assert chunk_key(coordinates) == key
    assert all(0 <= i < n for i, n in zip(coordinates, grid, strict=True))


@settings(deadline=None)  # the machine may be busy
@given(grid=GRIDS, data=st.data())
def test_keys_outside_the_grid_are_refused(grid: tuple[int, ...], data: st.DataObject) -> None:
    axis = data.draw(st.integers(0, len(grid) - 1))
    inside = [data.draw(st.integers(0, n - 1)) for n in grid]
    inside[axis] = grid[axis] + data.draw(st.integers(0, math.prod(grid)))
    with pytest.raises(InvalidKeyError):
        parse_chunk_key(chunk_key(tuple(inside)), grid)
