"""The grammar of ids and chunk keys: everything that may name a stored object.

A key is accepted only if it is spelled exactly as Gramian would spell it, so no two spellings
name one object and no spelling names anything outside the store (`c/00/0`, `c/-1/0`, `..`,
percent escapes, and absolute paths all fail here, before any file system is touched).
"""

from __future__ import annotations

import re
import secrets

from storage.errors import InvalidKeyError

_ID = {prefix: re.compile(rf"{prefix}-[0-9a-f]{{32}}") for prefix in ("ds", "mx", "job")}
_ARRAY_NAME = re.compile(r"[a-z][a-z0-9_]{0,31}")
_CHUNK_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")

DATASET_ID_PATTERN = r"^ds-[0-9a-f]{32}$"
MATRIX_ID_PATTERN = r"^mx-[0-9a-f]{32}$"
JOB_ID_PATTERN = r"^job-[0-9a-f]{32}$"
# API keys are this, an underscore and a secret; the id is what may be shown.
KEY_ID_PATTERN = r"^gk_[0-9a-f]{8}$"
OWNER_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,62}$"


def thing_kind(text: str) -> str:
    """`ds`, `mx` or `job`: what an id names. Raises InvalidKeyError."""
    for prefix, pattern in _ID.items():
        if pattern.fullmatch(text):
            return prefix
    raise InvalidKeyError(
        f"{text[:64]!r} names no data set, matrix or job.",
        advice="Use an id that the service has returned, unchanged.",
    )


def dataset_id(digest: str) -> str:
    """Id of the data set whose canonical content has this hex digest (64 digits)."""
    return _checked("ds", f"ds-{digest[:32]}")


def matrix_id(digest: str) -> str:
    """Id of the matrix whose request (what is computed from what) has this hex digest."""
    return _checked("mx", f"mx-{digest[:32]}")


def new_job_id() -> str:
    return f"job-{secrets.token_hex(16)}"


def check_dataset_id(text: str) -> str:
    return _checked("ds", text)


def check_matrix_id(text: str) -> str:
    return _checked("mx", text)


def check_job_id(text: str) -> str:
    return _checked("job", text)


def check_array_name(text: str) -> str:
    if not _ARRAY_NAME.fullmatch(text):
        raise InvalidKeyError(
            f"{text[:64]!r} is not an array name.",
            advice="Array names are lower-case letters, digits and underscores, such as 'ntk'.",
        )
    return text


def chunk_key(coordinates: tuple[int, ...]) -> str:
    """Zarr v3 default chunk key: `c/0/1`; `c` for a zero-dimensional array."""
    return "/".join(["c", *map(str, coordinates)])


def parse_chunk_key(key: str, grid: tuple[int, ...]) -> tuple[int, ...]:
    """Chunk coordinates of `key` in a chunk grid of shape `grid`.

    Raises InvalidKeyError unless the key re-encodes to itself and lies inside the grid.
    """
    parts = key.split("/")
    if parts[0] != "c" or not all(_CHUNK_INDEX.fullmatch(part) for part in parts[1:]):
        raise InvalidKeyError(
            f"{key[:64]!r} is not a chunk key.", advice="Chunk keys look like 'c/0/1'."
        )
    coordinates = tuple(int(part) for part in parts[1:])
    if len(coordinates) != len(grid) or any(
        index >= size for index, size in zip(coordinates, grid, strict=True)
    ):
        raise InvalidKeyError(
            f"{key[:64]!r} lies outside the chunk grid {grid}.",
            advice="Read zarr.json for the shape and the chunk shape of this array.",
        )
    return coordinates


def _checked(prefix: str, text: str) -> str:
    if not _ID[prefix].fullmatch(text):
        raise InvalidKeyError(
            f"{text[:64]!r} is not an id of the form {prefix}-<32 hex digits>.",
            advice="Use an id that the service has returned, unchanged.",
        )
    return text
