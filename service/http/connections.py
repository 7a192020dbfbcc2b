"""One HTTP connection, with bounds on how long a client may dawdle and how many there may be.

uvicorn waits for ever for the rest of a request's head, and for ever for a client to read on; a few
hundred such connections (slowloris) use up the file descriptors of a service. A slow body is the
application's business: `middleware.BodyLimit`.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from service.errors import PROBLEM_MEDIA_TYPE, error_document, problem
from service.http.middleware import head_too_large
from service.settings import ServiceSettings

_RETRY_SECONDS = 5


@dataclass(frozen=True)
class ConnectionLimits:
    """See the settings of these names."""

    max_connections: int
    max_request_head_bytes: int
    request_head_seconds: float
    response_stall_seconds: float


class BoundedConnection(H11Protocol):
    """uvicorn's HTTP/1.1 protocol (RFC 9112) with `ConnectionLimits`."""

    def __init__(self, *arguments: Any, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._limits = limits
        self._head = _Deadline()
        self._stall = _Deadline()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.max_connections:
            transport.write(_busy(self._limits.max_connections))
            transport.close()
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head.cancel()
        self._stall.cancel()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        before = self.cycle
        super().handle_events()
        if self.cycle is not before:  # a whole head has come
            self._head.cancel()

    def on_response_complete(self) -> None:
        # Before the base class looks whether the next request has come already.
        self._expect_head()
        super().on_response_complete()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall.set(self.loop, self._limits.response_stall_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._stall.cancel()
        super().resume_writing()

    def _expect_head(self) -> None:
        if not self.transport.is_closing():
            self._head.set(self.loop, self._limits.request_head_seconds, self.transport.close)

    def send_400_response(self, msg: str) -> None:
        """What is not HTTP, or has too long a head, is answered like any other error."""
        if self.transport.is_closing():
            return
        limit = self._limits.max_request_head_bytes
        if len(self.conn.trailing_data[0]) > limit:
            document = error_document(head_too_large(limit), "")
        else:
            document = problem("malformed-request", msg, advice="Send HTTP/1.1 (RFC 9112).")
        self.transport.write(_response(document))
        self.transport.close()


def connection_factory(settings: ServiceSettings) -> Any:
    """What `uvicorn.Config(http=...)` calls for each connection."""
    limits = ConnectionLimits(
        max_connections=settings.max_connections,
        max_request_head_bytes=settings.max_request_head_bytes,
        request_head_seconds=settings.request_head_seconds,
        response_stall_seconds=settings.response_stall_seconds,
    )
    return partial(BoundedConnection, limits=limits)


class _Deadline:
    """One pending call at most."""

    def __init__(self) -> None:
        self._timer: asyncio.TimerHandle | None = None

    def set(
        self, loop: asyncio.AbstractEventLoop, seconds: float, action: Callable[[], None]
    ) -> None:
        self.cancel()
        self._timer = loop.call_later(seconds, action)

    def cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _busy(limit: int) -> bytes:
    document = problem(
        "too-many-connections",
        f"The service has {limit} connections open and takes no more.",
        advice="Come back in a few seconds, and keep connections open between requests.",
    )
    return _response(document, f"Retry-After: {_RETRY_SECONDS}")


def _response(document: dict[str, Any], *headers: str) -> bytes:
    body = json.dumps(document).encode()
    head = [
        f"HTTP/1.1 {document['status']} {document['title']}",
        f"Content-Type: {PROBLEM_MEDIA_TYPE}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *headers,
    ]
    return "\r\n".join([*head, "", ""]).encode() + body
