"""Parts of arrays: how they are asked for in query strings, their form, and their limits."""

from __future__ import annotations

import io
import re
from typing import Any

import numpy as np
import numpy.typing as npt

from service.errors import InvalidRequestError, NotAcceptableError
from service.settings import ServiceSettings
from storage.errors import TooLargeError

NPY = "application/x-npy"
_NPY_RANGES = frozenset({NPY, "application/octet-stream", "application/*", "*/*", ""})

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


def npy_bytes(values: npt.NDArray[Any]) -> bytes:
    """`values` as the contents of a `.npy` file (version 1.0, C order)."""
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.ascontiguousarray(values), version=(1, 0))
    return buffer.getvalue()


def choose_media_type(accept: str) -> str:
    """The first acceptable type in the client's order of naming; weights other than 0 are equal."""
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if any(p.replace(" ", "") in ("q=0", "q=0.0", "q=0.00", "q=0.000") for p in parameters):
            continue
        if name == "application/json":
            return "application/json"
        if name in _NPY_RANGES:
            return NPY
    raise NotAcceptableError(
        f"This comes as {NPY} or application/json, not as {accept[:100]!r}.",
        advice=f"Send Accept: {NPY}.",
    )


def check_slice_size(
    settings: ServiceSettings, shape: tuple[int, ...], itemsize: int, media_type: str
) -> None:
    """Raises TooLargeError beyond `max_slice_bytes`, as JSON beyond `max_json_numbers`."""
    numbers = int(np.prod(shape, dtype=object))
    limit_bytes = settings.max_slice_bytes
    details: dict[str, Any] = {"shape": list(shape)}
    if numbers * itemsize > limit_bytes:
        raise TooLargeError(
            f"This slice of shape {shape} has {numbers * itemsize} bytes; the limit is"
            f" {limit_bytes}.",
            advice="Ask for fewer rows at a time, or read chunks through the zarr route.",
            limit_bytes=limit_bytes,
            **details,
        )
    limit_numbers = settings.max_json_numbers
    if media_type != NPY and numbers > limit_numbers:
        raise TooLargeError(
            f"This slice of shape {shape} has {numbers} numbers; JSON carries at most"
            f" {limit_numbers}.",
            advice=f"Ask for Accept: {NPY}.",
            limit_numbers=limit_numbers,
            **details,
        )
