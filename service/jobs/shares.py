"""Fair shares of the workers: owners whose jobs run side by side get equal compute seconds.

Start-time fair queueing (Goyal, Vin and Cheng 1996) over owners: each has a clock that advances by
the compute seconds it used, and a batch of tiles gets the clock of its owner as its Dask priority,
so the scheduler always hands out the batch of whoever has had least. An owner who joins begins at
the clock of the one that is furthest behind: having been idle is no credit.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

_STEPS_PER_SECOND = 1000  # Dask priorities are compared exactly; milliseconds are fine enough


class Shares:
    """Thread-safe. `owner` None (jobs from before there were owners) is one more owner."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._clocks: dict[str | None, float] = {}  # compute seconds, of owners with jobs
        self._jobs: Counter[str | None] = Counter()

    @contextmanager
    def running(self, owner: str | None) -> Iterator[None]:
        """While a job of `owner` runs."""
        with self._lock:
            if not self._jobs[owner]:
                self._clocks[owner] = min(self._clocks.values(), default=0.0)
            self._jobs[owner] += 1
        try:
            yield
        finally:
            with self._lock:
                self._jobs[owner] -= 1
                if not self._jobs[owner]:
                    del self._jobs[owner], self._clocks[owner]

    def charge(self, owner: str | None, seconds: float) -> None:
        """Workers have spent `seconds` on a running job of `owner`."""
        with self._lock:
            self._clocks[owner] += seconds

    def priority(self, owner: str | None) -> int:
        """Dask priority (higher runs earlier) of the next batch of a running job of `owner`."""
        with self._lock:
            return -round(self._clocks[owner] * _STEPS_PER_SECOND)
