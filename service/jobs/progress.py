"""Progress: into the catalog at a bounded pace, and from there to whoever watches."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any

from service.errors import json_safe
from service.events import EventBus
from storage.catalog import Catalog

_RATE_WINDOW_SECONDS = 30.0


class Reporter:
    """Stores the progress of one job and wakes its watchers, at most every `throttle_seconds`.

    After `max_events` events only the job's record is updated, ever more rarely announced: a job
    of days must not fill the catalog with events that nobody reads twice.
    """

    def __init__(
        self,
        catalog: Catalog,
        bus: EventBus,
        job_id: str,
        *,
        throttle_seconds: float,
        max_events: int,
    ) -> None:
        self._catalog = catalog
        self._bus = bus
        self._job_id = job_id
        self._throttle_seconds = throttle_seconds
        self._max_events = max_events
        self._events = 0
        self._last = float("-inf")
        self._pending: dict[str, Any] | None = None
        self._phase: str | None = None
        # Hears of each new phase, also of those that no event tells.
        self.on_phase: Callable[[str], None] = lambda phase: None

    def report(self, progress: dict[str, Any], *, force: bool = False) -> None:
        """Note the newest progress; it is stored now if its turn has come or `force`."""
        self._pending = json_safe(progress)
        phase = progress.get("phase")
        if phase and phase != self._phase:
            self._phase = phase
            self.on_phase(phase)
        if force or time.monotonic() - self._last >= self._pause_seconds():
            self.flush()

    def flush(self) -> None:
        if self._pending is None:
            return
        progress, self._pending = self._pending, None
        self._last = time.monotonic()
        self._events += 1
        self._catalog.save_progress(self._job_id, progress)
        self._catalog.append_event(self._job_id, "progress", progress)
        self._bus.publish(self._job_id)

    def announce(self, event_type: str, data: dict[str, Any]) -> None:
        """Store an event of another kind at once. Callers bound how many there are."""
        self._catalog.append_event(self._job_id, event_type, json_safe(data))
        self._bus.publish(self._job_id)

    def _pause_seconds(self) -> float:
        # Doubles with each further `max_events`, so the number of events grows like a logarithm.
        return self._throttle_seconds * 2.0 ** (self._events // self._max_events)


class Pace:
    """Things per second over the last half minute, and the time the rest will take."""

    def __init__(self) -> None:
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def add(self, done: int) -> None:
        """`done`: how many things are finished since the start of this run."""
        now = time.monotonic()
        self._marks.append((now, done))
        while len(self._marks) > 2 and now - self._marks[0][0] > _RATE_WINDOW_SECONDS:
            self._marks.popleft()

    def per_second(self) -> float | None:
        (first, before), (last, after) = self._marks[0], self._marks[-1]
        if after == before or last <= first:
            return None
        return (after - before) / (last - first)

    def seconds_left(self, remaining: int) -> float | None:
        rate = self.per_second()
        return None if rate is None else remaining / rate
