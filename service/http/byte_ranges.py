"""HTTP byte ranges and entity tags as pure functions (RFC 9110 sections 13 and 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

_SINGLE_RANGE = re.compile(r"bytes=\s*(?:(\d{1,19})-(\d{0,19})|-(\d{1,19}))\s*", re.ASCII | re.I)


@dataclass(frozen=True)
class ByteRange:
    """Bytes `start` to `stop` (exclusive) of an object; both lie inside it."""

    start: int
    stop: int

    def content_range(self, size: int) -> str:
        return f"bytes {self.start}-{self.stop - 1}/{size}"


class UnsatisfiableRangeError(Exception):
    """A well-formed range that names no byte of the object: status 416."""


def parse_range(header: str | None, size: int) -> ByteRange | None:
    """The single range that `header` asks for, or None for the whole object.

    What we do not serve (other units, several ranges, garbage) is ignored, as RFC 9110 section
    14.2 allows: the client gets 200 with everything. Suffix ranges and ends beyond the object are
    resolved, so that the 206 can say which bytes it carries.
    """
    match = _SINGLE_RANGE.fullmatch(header.strip()) if header else None
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        if int(suffix) == 0 or size == 0:
            raise UnsatisfiableRangeError
        return ByteRange(max(0, size - int(suffix)), size)
    start = int(first)
    if last and int(last) < start:
        return None  # invalid, hence ignored (section 14.1.1)
    if start >= size:
        raise UnsatisfiableRangeError
    stop = min(int(last) + 1, size) if last else size
    return ByteRange(start, stop)


def matches_etag(if_none_match: str | None, etag: str) -> bool:
    """Whether a cached copy with one of these tags is current (weak comparison, section 13.1.2)."""
    if not if_none_match:
        return False
    tags = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return "*" in tags or etag.removeprefix("W/") in tags


def range_applies(if_range: str | None, etag: str) -> bool:
    """Whether `If-Range` permits a partial answer: strong comparison; dates never match here."""
    return if_range is None or (if_range.strip() == etag and not etag.startswith("W/"))
