"""Pure-ASGI middlewares. Not `BaseHTTPMiddleware`: it hides disconnects from event streams."""

from __future__ import annotations

import re
import secrets
import time
from dataclasses import dataclass

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.errors import error_document, problem_response
from storage.errors import TooLargeError
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


class _BodyTooLargeError(Exception):
    """Internal to BodyLimit: unwinds the application out of `receive`."""


@dataclass(frozen=True)
class BodyLimit:
    """Refuses request bodies over a limit, counted while they arrive.

    A declared Content-Length is refused before a byte is read; a chunked body as soon as it passes
    the limit. `upload_paths` have their own, larger limit.
    """

    app: ASGIApp
    limit_bytes: int
    upload_limit_bytes: int
    upload_paths: frozenset[str]

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
            await self._refuse(scope, receive, send, limit, setting)
            return

        received_bytes = 0
        response_started = False
        exceeded = False

        async def counted_receive() -> Message:
            nonlocal received_bytes, exceeded
            message = await receive()
            if message["type"] == "http.request":
                received_bytes += len(message.get("body", b""))
                if received_bytes > limit:
                    exceeded = True
                    raise _BodyTooLargeError
            return message

        async def guarded_send(message: Message) -> None:
            nonlocal response_started
            # Frameworks turn an error while reading the body into a 400 of their own; the refusal
            # below replaces it.
            if exceeded and not response_started:
                return
            response_started = response_started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self.app(scope, counted_receive, guarded_send)
        except _BodyTooLargeError:
            if response_started:
                raise
        if exceeded and not response_started:
            await self._refuse(scope, receive, send, limit, setting)

    async def _refuse(
        self, scope: Scope, receive: Receive, send: Send, limit: int, setting: str
    ) -> None:
        error = TooLargeError(
            f"The request body is larger than {limit} bytes.",
            advice=f"Send less, or raise the setting {setting} of the service.",
            limit_bytes=limit,
            setting=setting,
        )
        # The rest of the body is not read: closing tells the client to stop sending.
        response = problem_response(error_document(error, scope["path"]), {"Connection": "close"})
        await response(scope, receive, send)
