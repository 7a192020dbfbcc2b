"""One service per data folder.

Two runners over one catalog would start every job twice. The lock belongs to the open file, so
the kernel drops it when the process dies, however it dies: a restart never finds a stale lock.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from storage.errors import ConflictError

LOCK_NAME = "service.lock"


class DataDirLockedError(ConflictError):
    """Another service process works on this data folder."""

    kind = "data-dir-locked"


@contextmanager
def data_dir_lock(data_dir: Path) -> Iterator[None]:
    """Hold the data folder exclusively. Raises DataDirLockedError at once if it is taken."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / LOCK_NAME).open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise DataDirLockedError(
                f"Another service (process {owner}) works on {data_dir.resolve()}.",
                advice="Stop it first, or choose another folder with GRAMIAN_DATA_DIR.",
            ) from error
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
