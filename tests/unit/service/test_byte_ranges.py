"""Ranges and entity tags against a plain model of RFC 9110."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.http.byte_ranges import (
    ByteRange,
    UnsatisfiableRangeError,
    matches_etag,
    parse_range,
    range_applies,
)

sizes = st.integers(0, 1000)
numbers = st.integers(0, 1500)


@settings(deadline=None)
@given(start=numbers, stop=numbers, size=sizes)
def test_closed_ranges_select_what_slicing_selects(start: int, stop: int, size: int) -> None:
    header = f"bytes={start}-{stop}"
    if stop < start:
        assert parse_range(header, size) is None
    elif start >= size:
        with pytest.raises(UnsatisfiableRangeError):
            parse_range(header, size)
    else:
        found = parse_range(header, size)
        assert found is not None
        assert range(size)[found.start : found.stop] == range(size)[start : stop + 1]
        assert found.stop <= size


@settings(deadline=None)
@given(count=numbers, size=sizes)
def test_suffix_ranges_select_the_end(count: int, size: int) -> None:
    if count == 0 or size == 0:
        with pytest.raises(UnsatisfiableRangeError):
            parse_range(f"bytes=-{count}", size)
    else:
        assert parse_range(f"bytes=-{count}", size) == ByteRange(max(0, size - count), size)


@settings(deadline=None)
@given(text=st.text(max_size=30), size=sizes)
def test_no_text_breaks_the_parser(text: str, size: int) -> None:
    try:
        found = parse_range(text, size)
    except UnsatisfiableRangeError:
        return
    assert found is None or 0 <= found.start < found.stop <= size


def test_digits_of_other_scripts_are_no_digits() -> None:
    assert parse_range("bytes=\u0661-\u0662", 10) is None


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, False),
        ("", False),
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"b"', False),
        ("a", False),
    ],
)
def test_if_none_match_compares_weakly(header: str | None, expected: bool) -> None:
    assert matches_etag(header, '"a"') is expected


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, True), ('"a"', True), ('W/"a"', False), ('"b"', False), ("Tue, 01 Jan 2030", False)],
)
def test_if_range_compares_strongly(header: str | None, expected: bool) -> None:
    assert range_applies(header, '"a"') is expected
