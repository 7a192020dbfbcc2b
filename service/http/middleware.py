"""Pure-ASGI middlewares. Not `BaseHTTPMiddleware`: it hides disconnects from event streams."""

from __future__ import annotations

import asyncio
import re
import secrets
import time
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import (
    HeadTooLargeError,
    RequestTimeoutError,
    error_document,
    problem_response,
)
from storage.errors import GramianError, TooLargeError
from workers.logs import about_request

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(frozen=True)
class RequestId:
    """Gives each request an id (the caller's if it is harmless) and echoes it."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        # Anything else could forge log lines.
        request_id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        scope["gramian.request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        with about_request(request_id):
            await self.app(scope, receive, send_with_id)


@dataclass(frozen=True)
class ServerTiming:
    """`Server-Timing: app;dur=<ms>` (W3C): time until the response started."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()

        async def send_with_time(message: Message) -> None:
            if message["type"] == "http.response.start":
                elapsed_ms = (time.perf_counter() - started) * 1e3
                MutableHeaders(scope=message).append("server-timing", f"app;dur={elapsed_ms:.1f}")
            await send(message)

        await self.app(scope, receive, send_with_time)


@dataclass(frozen=True)
class HeadLimit:
    """Refuses requests whose path, query and headers together are over a limit (RFC 6585).

    The parser looks at it only while a head is incomplete; one that comes at once gets here.
    """

    app: ASGIApp
    limit_bytes: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            size = len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"")
            size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
            if size > self.limit_bytes:
                await _refuse(head_too_large(self.limit_bytes), scope, receive, send)
                return
        await self.app(scope, receive, send)


def head_too_large(limit: int) -> GramianError:
    return HeadTooLargeError(
        f"Request line and headers are longer than {limit} bytes.",
        advice="Send less, or raise the setting max_request_head_bytes of the service.",
        limit_bytes=limit,
        setting="max_request_head_bytes",
    )


class _BodyRefusedError(Exception):
    """Internal to BodyLimit: unwinds the application out of `receive`."""


@dataclass(frozen=True)
class BodyLimit:
    """Refuses request bodies over a limit, and those that come too slowly, while they arrive.

    A declared Content-Length is refused before a byte is read; a chunked body as soon as it passes
    the limit. `upload_paths` have their own, larger limit. Of the pace, only the time counts that
    is spent waiting for the client: it may be `pause_seconds` at a time, and altogether as long
    beyond what the bytes that came take at `min_bytes_per_second`.
    """

    app: ASGIApp
    limit_bytes: int
    upload_limit_bytes: int
    upload_paths: frozenset[str]
    pause_seconds: float
    min_bytes_per_second: int

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        multipart = headers.get("content-type", "").lower().startswith("multipart/")
        is_upload = scope["path"] in self.upload_paths and multipart
        limit, setting = (
            (self.upload_limit_bytes, "max_upload_bytes")
            if is_upload
            else (self.limit_bytes, "max_json_bytes")
        )
        declared = headers.get("content-length", "")
        # str.isdecimal accepts digits of every script; HTTP means ASCII.
        if declared.isascii() and declared.isdecimal() and int(declared[:20]) > limit:
            await _refuse(_too_large(limit, setting), scope, receive, send)
            return

        received_bytes = 0
        waited_seconds = 0.0
        whole = False
        response_started = False
        refusal: GramianError | None = None

        async def bounded_receive() -> Message:
            nonlocal received_bytes, waited_seconds, whole, refusal
            if whole:
                return await receive()  # the news that the client went away, whenever it comes
            started = time.monotonic()
            try:
                message = await asyncio.wait_for(
                    receive(), self._patience_seconds(received_bytes, waited_seconds)
                )
            except TimeoutError:
                if response_started:
                    return {"type": "http.disconnect"}
                refusal = _too_slow(received_bytes)
                raise _BodyRefusedError from None
            waited_seconds += time.monotonic() - started
            if message["type"] == "http.request":
                received_bytes += len(message.get("body", b""))
                whole = not message.get("more_body", False)
                if received_bytes > limit:
                    refusal = _too_large(limit, setting)
                    raise _BodyRefusedError
            return message

        async def guarded_send(message: Message) -> None:
            nonlocal response_started
            # Frameworks turn an error while reading the body into a 400 of their own; the refusal
            # below replaces it.
            if refusal is not None and not response_started:
                return
            response_started = response_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, bounded_receive, guarded_send)
        except _BodyRefusedError:
            if response_started:
                raise
        if refusal is not None and not response_started:
            await _refuse(refusal, scope, receive, send)

    def _patience_seconds(self, received_bytes: int, waited_seconds: float) -> float:
        if not self.min_bytes_per_second:
            return self.pause_seconds
        owed = self.pause_seconds + received_bytes / self.min_bytes_per_second - waited_seconds
        return min(self.pause_seconds, max(0.0, owed))


def _too_large(limit: int, setting: str) -> GramianError:
    return TooLargeError(
        f"The request body is larger than {limit} bytes.",
        advice=f"Send less, or raise the setting {setting} of the service.",
        limit_bytes=limit,
        setting=setting,
    )


def _too_slow(received_bytes: int) -> GramianError:
    return RequestTimeoutError(
        f"The body came too slowly: {received_bytes} bytes, and then nothing in time.",
        advice="Send it again over a faster line, or raise the settings body_pause_seconds and"
        " min_body_bytes_per_second of the service.",
        received_bytes=received_bytes,
    )


async def _refuse(error: GramianError, scope: Scope, receive: Receive, send: Send) -> None:
    # The rest of the body is not read: closing tells the client to stop sending.
    response = problem_response(error_document(error, scope["path"]), {"Connection": "close"})
    await response(scope, receive, send)
