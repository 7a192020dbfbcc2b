"""Traces of requests, jobs and tiles, when somebody wants them (OpenTelemetry).

They are wanted when OTEL_EXPORTER_OTLP_ENDPOINT is set, as for every program that speaks OTLP;
nothing of OpenTelemetry is imported otherwise. All spans are made in the service: workers report
how long they took anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storage.errors import MissingExtraError

if TYPE_CHECKING:
    from workers.tiles import TileResult

ENDPOINT_VARIABLE = "OTEL_EXPORTER_OTLP_ENDPOINT"

Attributes = Mapping[str, str | int | float | bool]


class Tracing:
    """Makes no spans: what there is when nobody wants any. Thread-safe."""

    def span(
        self, name: str, attributes: Attributes, headers: Mapping[str, str] | None = None
    ) -> AbstractContextManager[object]:
        """A span around what is done inside, the parent of the spans made in there. `headers`: of
        a request that may belong to a trace of its sender (W3C Trace Context)."""
        return nullcontext()

    def note(self, attributes: Attributes, name: str | None = None) -> None:
        """More about the span that is open here, and a better name for it."""

    def phases(self) -> AbstractContextManager[Callable[[str], None]]:
        """A function that ends the span of the phase before and begins that of the named one."""
        return nullcontext(lambda phase: None)

    def tiles(self, max_spans: int) -> Callable[[Iterable[TileResult]], None]:
        """A function that makes spans of finished tiles, of the first `max_spans` of them."""
        return lambda results: None

    def close(self) -> None:
        """Send what is left."""


def open_tracing(environment: Mapping[str, str]) -> Tracing:
    """What `environment` asks for. Raises MissingExtraError."""
    if not environment.get(ENDPOINT_VARIABLE):
        return Tracing()
    try:
        from service.telemetry.otel import exporting_tracing
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{ENDPOINT_VARIABLE} is set, and {error.name} is not installed.",
            advice="Install it: pip install 'gramian[otel]'; or unset the variable.",
        ) from error
    return exporting_tracing()


@dataclass(frozen=True)
class TraceRequests:
    """A span per HTTP request, named by the template of its route, with its request id."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        services = getattr(scope["app"].state, "services", None)
        if services is None:  # a request before the application has started
            await self.app(scope, receive, send)
            return
        tracing: Tracing = services.context.tracing
        attributes = {
            "http.request.method": scope["method"],
            "gramian.request_id": scope.get("gramian.request_id", ""),
        }

        async def noted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                noted: dict[str, str | int] = {"http.response.status_code": message["status"]}
                route, name = getattr(scope.get("route"), "path", ""), None
                if route:
                    noted["http.route"], name = route, f"{scope['method']} {route}"
                # What was made: the job of a submission, for one.
                location = Headers(raw=message.get("headers", [])).get("location")
                if location:
                    noted["gramian.location"] = location
                tracing.note(noted, name)
            await send(message)

        with tracing.span(f"HTTP {scope['method']}", attributes, Headers(scope=scope)):
            await self.app(scope, receive, noted_send)
