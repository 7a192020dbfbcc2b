"""Errors that reach users.

Every error carries a stable `kind` (append-only vocabulary: clients may match on it), one
sentence that says what is wrong, and one that says what to do next. The REST layer maps kinds
to HTTP statuses and RFC 9457 problem documents; nothing below it knows about HTTP.
"""

from __future__ import annotations

import errno
from typing import Any, ClassVar

_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS})


class GramianError(Exception):
    """Base of all errors whose text is meant for a user.

    `details` holds JSON-serialisable facts (numbers, names) that a program may want to read.
    """

    kind: ClassVar[str] = "internal"

    def __init__(self, message: str, *, advice: str = "", **details: Any) -> None:
        super().__init__(message)
        self.message = message
        self.advice = advice
        self.details = details

    def __str__(self) -> str:
        return f"{self.message} {self.advice}".strip()


class NotFoundError(GramianError):
    """The thing named does not exist (or is not visible to the caller)."""

    kind = "not-found"


class NotReadyError(GramianError):
    """The matrix exists but is not sealed: nothing of it may be read yet."""

    kind = "not-ready"


class InvalidKeyError(GramianError):
    """An id or a chunk key that is not spelled the one canonical way."""

    kind = "invalid-key"


class InvalidArrayError(GramianError):
    """Uploaded bytes are not an array that Gramian accepts."""

    kind = "invalid-array"


class TooLargeError(GramianError):
    """A stated limit, named in `details`, would be exceeded."""

    kind = "too-large"


class ConflictError(GramianError):
    """The request contradicts something already stored."""

    kind = "conflict"


class CorruptChunkError(GramianError):
    """A stored chunk does not match its checksum or its size."""

    kind = "corrupt-chunk"


class MissingChunkError(GramianError):
    """A chunk of a sealed matrix is gone. Never presented as fill values."""

    kind = "missing-chunk"


class DiskFullError(GramianError):
    """The store cannot be written: its disk is full, over a quota, or read-only."""

    kind = "disk-full"

    @classmethod
    def of(cls, error: OSError) -> DiskFullError | None:
        """`error` in these words, if it is of that kind."""
        if error.errno not in _DISK_ERRORS:
            return None
        return cls(
            f"The store cannot be written: {error.strerror}.",
            advice="Free space in the store, then ask for the same again: stored tiles are kept.",
        )


class UnsupportedFormatError(GramianError):
    """The stored object was written by a format version this library does not read."""

    kind = "unsupported-format"


class StoreUnavailableError(GramianError):
    """The store of data sets and matrices does not answer, or not as it should. It may come back:
    jobs wait for it."""

    kind = "store-unavailable"


class StoreRefusedError(StoreUnavailableError):
    """The store answers, but not to us: no such bucket, no permission, or it lacks something that
    Gramian needs. Somebody has to act."""

    kind = "store-refused"


class MissingExtraError(GramianError):
    """An optional dependency that this work needs is not installed."""

    kind = "missing-extra"
