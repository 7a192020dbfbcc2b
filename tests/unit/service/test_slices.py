"""The grammar of slices in query strings."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.client.arrays import pieces, slice_text
from service.errors import InvalidRequestError
from service.http.slices import npy_bytes, parse_slice


@settings(deadline=None)
@given(size=st.integers(1, 50), data=st.data())
def test_what_the_client_writes_is_what_the_service_reads(size: int, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    part = slice(
        data.draw(st.sampled_from([start, None])) if start == 0 else start,
        data.draw(st.sampled_from([stop, None])) if stop == size else stop,
    )
    assert parse_slice(slice_text(part), size, "rows") == slice(start, stop)


@settings(deadline=None)
@given(text=st.text(max_size=12), size=st.integers(1, 20))
def test_anything_else_is_refused_or_inside(text: str, size: int) -> None:
    try:
        part = parse_slice(text, size, "rows")
    except InvalidRequestError:
        return
    assert 0 <= part.start < part.stop <= size


@pytest.mark.parametrize(
    "text", ["-1", "0:0", "3:2", "0:11", "10", "1:2:3", " 1", "1 ", "", "\u0663"]
)
def test_what_is_no_slice_of_ten_rows(text: str) -> None:
    with pytest.raises(InvalidRequestError):
        parse_slice(text, 10, "rows")


def test_npy_bytes_load_without_pickle() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4).T
    loaded = np.load(io.BytesIO(npy_bytes(values)), allow_pickle=False)
    assert loaded.dtype == values.dtype
    np.testing.assert_array_equal(loaded, values)


@settings(deadline=None)
@given(
    rows=st.integers(1, 80),
    cols=st.integers(1, 80),
    chunk=st.tuples(st.integers(1, 64), st.integers(1, 64)),
    limit=st.integers(1, 20_000),
)
def test_pieces_cover_the_array_once_in_whole_chunks(
    rows: int, cols: int, chunk: tuple[int, int], limit: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.client.arrays._PIECE_BYTES", limit)
        covered = np.zeros((rows, cols), int)
        for row_part, col_part in pieces((rows, cols), chunk, 4):
            assert col_part is not None
            assert row_part.start % chunk[0] == 0
            assert col_part.start % chunk[1] == 0
            covered[row_part, col_part] += 1
    assert (covered == 1).all()
