"""In-process wake-ups, and the server-sent event stream of a job.

Events themselves live in the catalog (numbered per job), so a client that reconnects with
`Last-Event-ID`, even after a restart of the service or at another one, misses nothing. The bus only
says "look again"; streams poll only a catalog that other services write to as well.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

from fastapi.sse import format_sse_event
from starlette.concurrency import run_in_threadpool

from service.errors import json_safe
from storage.catalog import Catalog
from storage.catalog.records import EventRecord

TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})
_BATCH = 200


class EventBus:
    """Wakes event streams (asyncio) from runner threads. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiters: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._closed = False

    def publish(self, job_id: str) -> None:
        """Something new about this job is in the catalog."""
        with self._lock:
            for loop, event in self._waiters.get(job_id, ()):
                _wake(loop, event)

    def close(self) -> None:
        """Ends all streams: called when the server begins to shut down."""
        with self._lock:
            self._closed = True
            for waiters in self._waiters.values():
                for loop, event in waiters:
                    _wake(loop, event)

    @property
    def closed(self) -> bool:
        return self._closed

    @contextmanager
    def subscribe(self, job_id: str) -> Iterator[asyncio.Event]:
        """An asyncio event that is set at each `publish(job_id)`; the subscriber clears it."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiters.setdefault(job_id, set()).add(entry)
            if self._closed:
                entry[1].set()
        try:
            yield entry[1]
        finally:
            with self._lock:
                waiters = self._waiters[job_id]
                waiters.discard(entry)
                if not waiters:
                    del self._waiters[job_id]


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(event.set)


def encode_event(record: EventRecord) -> bytes:
    """One event in the text/event-stream format (WHATWG HTML section 9.2)."""
    return format_sse_event(
        data_str=json.dumps(json_safe(record.data), separators=(",", ":")),
        event=record.type,
        id=str(record.sequence),
    )


def is_terminal(record: EventRecord) -> bool:
    """Whether this is the last event a job ever gets."""
    return record.type == "state" and record.data.get("state") in TERMINAL_STATES


async def job_events(
    catalog: Catalog,
    bus: EventBus,
    job_id: str,
    *,
    after: int,
    heartbeat_seconds: float,
    retry_milliseconds: int,
    poll_seconds: float | None = None,
) -> AsyncIterator[bytes]:
    """The job's events with a number above `after`, then new ones as they come.

    Ends after the terminal event, or when the bus closes (the client reconnects and goes on).
    `poll_seconds`: how often to look although nobody said so; None: only at each heartbeat.
    """
    pause = heartbeat_seconds if poll_seconds is None else min(poll_seconds, heartbeat_seconds)
    yield format_sse_event(retry=retry_milliseconds)
    with bus.subscribe(job_id) as changed:
        last, spoke_at = after, time.monotonic()
        while not bus.closed:
            changed.clear()
            records = await run_in_threadpool(catalog.events_after, job_id, last, _BATCH)
            for record in records:
                yield encode_event(record)
                last, spoke_at = record.sequence, time.monotonic()
                if is_terminal(record):
                    return
            if len(records) == _BATCH:
                continue
            try:
                await asyncio.wait_for(changed.wait(), pause)
            except TimeoutError:
                if time.monotonic() - spoke_at >= heartbeat_seconds:
                    spoke_at = time.monotonic()
                    yield format_sse_event(comment="still there")
