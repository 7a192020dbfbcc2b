"""Wake-ups, and the server-sent event stream of a job.

Events themselves live in the catalog (numbered per job), so a client that reconnects with
`Last-Event-ID`, even after a restart of the service or at another one, misses nothing. The bus only
says "look again". Of events that other services write nobody here hears: `CatalogWatch` looks for
them, once for all streams.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager

from fastapi.sse import format_sse_event

from service.reads import JobReads
from storage.catalog import Catalog

logger = logging.getLogger(__name__)


class EventBus:
    """Wakes event streams (asyncio) from runner threads. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[str, set[asyncio.Event]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def publish(self, job_id: str) -> None:
        """Something new about this job is in the catalog."""
        with self._lock:
            self._wake(self._waiters.get(job_id, ()))

    def close(self) -> None:
        """Ends all streams: called when the server begins to shut down."""
        with self._lock:
            self._closed = True
            self._wake({event for waiters in self._waiters.values() for event in waiters})

    @property
    def closed(self) -> bool:
        return self._closed

    def followed(self) -> list[str]:
        """Ids of the jobs that somebody follows now."""
        with self._lock:
            return list(self._waiters)

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[asyncio.Event]:
        """An asyncio event that is set at each `publish(job_id)`; the subscriber clears it. All
        subscribers live in one event loop."""
        event = asyncio.Event()
        with self._lock:
            self._loop = asyncio.get_running_loop()
            self._waiters.setdefault(job_id, set()).add(event)
            if self._closed:
                event.set()
        try:
            yield event
        finally:
            with self._lock:
                waiters = self._waiters[job_id]
                waiters.discard(event)
                if not waiters:
                    del self._waiters[job_id]

    def _wake(self, events: Iterable[asyncio.Event]) -> None:
        """Together: each call from another thread interrupts the loop."""
        chosen = list(events)
        if chosen and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(_set_all, chosen)


def _set_all(events: list[asyncio.Event]) -> None:
    for event in events:
        event.set()


class CatalogWatch:
    """Looks every `poll_seconds` for events that nobody here announced: for a catalog that other
    services write to as well. One question for all jobs that are followed."""

    def __init__(self, catalog: Catalog, bus: EventBus, poll_seconds: float) -> None:
        self._catalog = catalog
        self._bus = bus
        self._poll_seconds = poll_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._look_for_ever, name="gramian-watch")

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _look_for_ever(self) -> None:
        seen: dict[str, int] = {}
        while not self._closing.wait(self._poll_seconds):
            try:
                counts = self._catalog.event_counts(self._bus.followed())
            except Exception:
                # The catalog may be away for a moment; streams must outlive that.
                logger.exception("Events of other services could not be looked for.")
                continue
            for job_id, count in counts.items():
                # A job that was not followed before: something may have come since its follower
                # looked, so it looks again.
                if seen.get(job_id) != count:
                    self._bus.publish(job_id)
            seen = counts


async def job_events(
    reads: JobReads,
    bus: EventBus,
    job_id: str,
    *,
    after: int,
    heartbeat_seconds: float,
    retry_milliseconds: int,
) -> AsyncIterator[bytes]:
    """The job's events with a number above `after`, then new ones as they come.

    Ends after the terminal event, or when the bus closes (the client reconnects and goes on).
    """
    yield format_sse_event(retry=retry_milliseconds)
    with bus.subscribe(job_id) as changed:
        last, spoke_at = after, time.monotonic()
        while not bus.closed:
            changed.clear()
            tail = await reads.tail(job_id, last)
            if tail.frames:
                last, spoke_at = tail.last, time.monotonic()
                yield tail.frames
            if tail.ended:
                return
            if tail.more:
                continue
            silent_seconds = time.monotonic() - spoke_at
            try:
                async with asyncio.timeout(heartbeat_seconds - silent_seconds):
                    await changed.wait()
            except TimeoutError:
                spoke_at = time.monotonic()
                yield format_sse_event(comment="still there")
