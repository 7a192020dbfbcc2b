"""Following a job through its numbered event stream, across lost connections."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

from service.client.errors import ApiError, ServiceUnreachableError
from service.client.models import TERMINAL_STATES, Event
from service.client.transport import Transport

_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0
# The service sends a heartbeat every 15 s, so a connection this long silent is a dead one.
_SILENCE_SECONDS = 60.0
# What a proxy says while the service restarts, and the service while its catalog does.
_PASSING_STATUSES = frozenset({502, 503, 504})


class _NothingToCome(Exception):  # noqa: N818 - a signal, not an error
    """The job has ended and all its events were seen."""


def follow(
    transport: Transport,
    job_id: str,
    *,
    after: int,
    deadline: float | None,
    reconnect_seconds: float,
) -> Iterator[Event | None]:
    """Events across reconnections; None at every sign of life, and when `deadline` passes."""
    last = after
    lost_at: float | None = None
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            for event in _stream(transport, job_id, last, deadline):
                lost_at, pause = None, _FIRST_PAUSE_SECONDS
                if event is not None:
                    last = event.id
                yield event
                if (
                    event is not None
                    and event.type == "state"
                    and event.data.get("state") in TERMINAL_STATES
                ):
                    return
            # A stream that ends without a final event: the service is restarting.
        except _NothingToCome:
            return
        except (ServiceUnreachableError, ApiError) as error:
            if isinstance(error, ApiError) and error.status not in _PASSING_STATUSES:
                raise
            now = time.monotonic()
            if deadline is not None and now > deadline:
                yield None
            lost_at = lost_at if lost_at is not None else now
            if now - lost_at > reconnect_seconds:
                raise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _stream(
    transport: Transport, job_id: str, after: int, deadline: float | None
) -> Iterator[Event | None]:
    """One connection to the event stream (WHATWG HTML section 9.2); None for a heartbeat."""
    headers = {"Accept": "text/event-stream"}
    if after:
        headers["Last-Event-ID"] = str(after)
    patience = _SILENCE_SECONDS
    if deadline is not None:
        patience = min(patience, max(0.1, deadline - time.monotonic()))
    path = f"/v1/jobs/{job_id}/events"
    with transport.stream(path, headers=headers, silence_seconds=patience) as response:
        if response.status_code == 204:
            raise _NothingToCome
        name, number, data = "message", 0, ""
        for line in response.iter_lines():
            tag, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line == "":
                if data:
                    yield Event(number, name, json.loads(data))
                name, data = "message", ""
            elif tag == "":
                yield None
            elif tag == "event":
                name = value
            elif tag == "id":
                number = int(value)
            elif tag == "data":
                data += value
