"""Row panels of data sets, prepared for a kernel and cached in the worker process.

One Morton-ordered batch of tiles uses each panel many times; the cache turns one read and one
preparation per tile into one per panel (measured: 314 reads in row-major order, 77 in square
batches; preparing a panel costs half as much as computing a block with it).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Any

PanelKey = tuple[str, int, int, str, str]  # data set, first row, last row + 1, dtype, kernel


@dataclass(frozen=True)
class PreparedPanel:
    """The rows of one tile edge as one kernel panel per compute block."""

    rows: int
    blocks: tuple[Any, ...]
    nbytes: int


class PanelCache:
    """Least-recently-used cache of prepared panels with a byte limit.

    The two most recent panels are always kept: a tile needs both at once.
    """

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self._panels: OrderedDict[PanelKey, PreparedPanel] = OrderedDict()
        self._lock = Lock()
        self.reads = 0

    @property
    def held_bytes(self) -> int:
        return sum(panel.nbytes for panel in self._panels.values())

    def clear(self) -> None:
        """Forget all panels."""
        with self._lock:
            self._panels.clear()

    def get(self, key: PanelKey, read: Callable[[], PreparedPanel]) -> PreparedPanel:
        """The panel under `key`, read with `read()` when it is not held."""
        with self._lock:
            panel = self._panels.get(key)
            if panel is not None:
                self._panels.move_to_end(key)
                return panel
            panel = read()
            self.reads += 1
            self._panels[key] = panel
            while len(self._panels) > 2 and self.held_bytes > self.limit_bytes:
                self._panels.popitem(last=False)
            return panel
