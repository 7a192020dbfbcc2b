"""Compiled code on disk that notices when what it was compiled from has changed.

numba's own cache looks at the file of a function and nothing else: code that was put into it from
another file stays as it was, and an index that an older release left behind in the same place
cannot even be read where it names types that are gone. Here the key covers all of the folder of a
function and this one, and what cannot be read is compiled again.
"""

from __future__ import annotations

import functools
import hashlib
import logging
from pathlib import Path
from typing import Any

from numba.core.caching import FunctionCache

logger = logging.getLogger(__name__)


class SourceCache(FunctionCache):
    """The cache of one function. Raises RuntimeError where no folder can be written."""

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        folder = Path(self._py_func.__code__.co_filename).parent
        own = super()._index_key(sig, codegen)  # type: ignore[no-untyped-call]
        return *own, sources(folder), sources(Path(__file__).parent)

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """What was compiled for these types; None if nothing was, or if it cannot be read."""
        try:
            return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]
        except Exception as error:  # noqa: BLE001 - pickle raises whatever its content asks for
            logger.info(
                "Compiled code of %s in %s is of no use (%s: %s) and is made again.",
                self._name,
                self.cache_path,
                type(error).__name__,
                error,
            )
            self.flush()  # type: ignore[no-untyped-call]
            return None


@functools.lru_cache(maxsize=64)
def sources(folder: Path) -> str:
    """A digest of the Python files in `folder`, as they are at the first call."""
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()
