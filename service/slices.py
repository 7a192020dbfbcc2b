"""The grammar of slices in query strings, and the `.npy` bytes of a part of an array."""

from __future__ import annotations

import io
import re

import numpy as np
import numpy.typing as npt

from service.errors import InvalidRequestError

# Bounds the digits, so that no text makes an integer of thousands of digits.
SLICE_PATTERN = r"^(?:[0-9]{1,18}|[0-9]{0,18}:[0-9]{0,18})$"
_SLICE = re.compile(SLICE_PATTERN, re.ASCII)


def parse_slice(text: str | None, size: int, name: str) -> slice:
    """`3`, `0:100`, `:100`, `100:` or `:` along a dimension of `size`; None: all of it.

    A single index keeps the dimension. Raises InvalidRequestError for anything else, for empty
    slices, and for bounds outside the array (a slice that silently shrinks hides mistakes).
    """
    if text is None:
        return slice(0, size)
    if not _SLICE.fullmatch(text):
        raise InvalidRequestError(
            f"{name}={text[:40]!r} is not a slice.",
            advice="Slices look like 0:100, :100, 100: or 7, without steps or negative numbers.",
        )
    first, colon, last = text.partition(":")
    start = int(first) if first else 0
    stop = (int(last) if last else size) if colon else start + 1
    if not 0 <= start < stop <= size:
        raise InvalidRequestError(
            f"{name}={text} does not lie inside 0:{size}, or is empty.",
            advice=f"The array has {size} {name}.",
            size=size,
        )
    return slice(start, stop)


def npy_bytes(values: npt.NDArray[np.floating]) -> bytes:
    """`values` as the contents of a `.npy` file (version 1.0, C order)."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(values), version=(1, 0))
    return buffer.getvalue()
