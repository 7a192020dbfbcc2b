"""Who may work on a data folder: one service, or those that share one catalog.

SQLite has no leases that mean anything on other machines, so a service with it works alone; two
runners would start every job twice. With PostgreSQL several services may share the folder, if it is
one and the same database: what one catalog does not know is garbage to it. The lock belongs to the
open file, so the kernel drops it when the process dies, however it dies: a restart never finds a
stale lock. (On a network file system without flock only services on one machine see each other.)
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from storage.errors import ConflictError

LOCK_NAME = "service.lock"


class DataDirLockedError(ConflictError):
    """Another service process works on this data folder."""

    kind = "data-dir-locked"


# Whoever is alone writes down what it is before it lets others in; that takes no time.
_SETTLE_SECONDS = 2.0


@contextmanager
def data_dir_lock(data_dir: Path, *, shared_as: str | None = None) -> Iterator[None]:
    """Hold the data folder: alone, or with all others that give the same `shared_as`.

    Raises DataDirLockedError at once if it is taken otherwise.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / LOCK_NAME).open("a+") as file:
        if _locks(file, fcntl.LOCK_EX):
            file.truncate(0)
            file.write(f"process {os.getpid()}\n{shared_as or ''}\n")
            file.flush()
            if shared_as is not None:
                fcntl.flock(file, fcntl.LOCK_SH)
        elif shared_as is None or not _joins(file, shared_as):
            raise _taken(file, data_dir, shared_as)
        yield


def _locks(file: TextIO, how: int) -> bool:
    try:
        fcntl.flock(file, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _joins(file: TextIO, shared_as: str) -> bool:
    deadline = time.monotonic() + _SETTLE_SECONDS
    while not _locks(file, fcntl.LOCK_SH):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return _written(file)[1] == shared_as


def _written(file: TextIO) -> tuple[str, str]:
    """Who was here first, and the catalog that it shares ("": none)."""
    file.seek(0)
    owner, _, catalog = file.read().partition("\n")
    return owner or "unknown", catalog.strip()


def _taken(file: TextIO, data_dir: Path, shared_as: str | None) -> DataDirLockedError:
    owner, catalog = _written(file)
    if shared_as is not None and catalog and catalog != shared_as:
        advice = f"Services share a folder only with one catalog URL; that one has {catalog}."
    else:
        advice = (
            "Stop it first, or choose another folder with GRAMIAN_DATA_DIR. Several services on"
            " one folder need a PostgreSQL catalog (deploy/README.md)."
        )
    return DataDirLockedError(
        f"Another service ({owner}) works on {data_dir.resolve()}.", advice=advice
    )
