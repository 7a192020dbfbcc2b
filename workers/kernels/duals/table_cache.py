"""Tables kept on disk between processes: they take seconds to make, and every worker needs them.

The folder is XDG_CACHE_HOME/gramian, or ~/.cache/gramian. A file is named by a digest of the
activation and of the source code that makes tables, so that none is ever out of date. A folder
that cannot be written, or a file that cannot be read, costs the seconds and nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Arrays = dict[str, NDArray[np.float64]]

SOURCES = ("pointwise.py", "sectors.py", "tables.py")


def cached(key: str) -> Arrays | None:
    """The arrays stored under `key`, or None."""
    try:
        with np.load(_path(key), allow_pickle=False) as members:
            return {name: members[name] for name in members.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None


def store(key: str, arrays: Arrays) -> None:
    """Keep `arrays` under `key` if the folder can be written."""
    path = _path(key)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            np.savez(file, allow_pickle=False, **arrays)
        Path(file.name).replace(path)


def _path(key: str) -> Path:
    digest = hashlib.sha256(key.encode())
    for name in SOURCES:
        digest.update((Path(__file__).parent / name).read_bytes())
    given = os.environ.get("XDG_CACHE_HOME")
    root = Path(given) if given else Path("~/.cache").expanduser()
    return root / "gramian" / f"dual-{digest.hexdigest()[:32]}.npz"
