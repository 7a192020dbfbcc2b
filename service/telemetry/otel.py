"""Spans by OpenTelemetry. Imported only when traces are wanted (`service.telemetry.tracing`).

Nothing global is set: the provider belongs to one application.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from importlib.metadata import version

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from service.telemetry.tracing import Attributes, Tracing
from workers.tiles import TileResult

_NANOSECONDS = 1_000_000_000


def exporting_tracing() -> OtelTracing:
    """Spans are sent by OTLP over HTTP to where the standard variables OTEL_* say."""
    return OtelTracing(BatchSpanProcessor(OTLPSpanExporter()))


class OtelTracing(Tracing):
    """Hands its spans to `processor`, which `close` shuts down."""

    def __init__(self, processor: SpanProcessor) -> None:
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES override the name.
        resource = Resource({"service.name": "gramian", "service.version": version("gramian")})
        self._provider = TracerProvider(resource=resource.merge(Resource.create()))
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("gramian")

    def span(
        self, name: str, attributes: Attributes, headers: Mapping[str, str] | None = None
    ) -> AbstractContextManager[object]:
        context = None
        if headers is not None:
            context = TraceContextTextMapPropagator().extract(dict(headers))
        return self._tracer.start_as_current_span(name, context, attributes=attributes)

    def note(self, attributes: Attributes, name: str | None = None) -> None:
        span = trace.get_current_span()
        span.set_attributes(attributes)
        if name is not None:
            span.update_name(name)

    @contextmanager
    def phases(self) -> Iterator[Callable[[str], None]]:
        open_span: list[trace.Span] = []

        def end() -> None:
            while open_span:
                open_span.pop().end()

        def begin(phase: str) -> None:
            end()
            open_span.append(self._tracer.start_span(f"phase {phase}"))

        try:
            yield begin
        finally:
            end()

    def tiles(self, max_spans: int) -> Callable[[Iterable[TileResult]], None]:
        made = 0

        def make(results: Iterable[TileResult]) -> None:
            nonlocal made
            now = time.time_ns()
            for result in results:
                if made >= max_spans:
                    return
                made += 1
                # They ended some moments ago; when exactly, only the worker knows.
                self._tracer.start_span(
                    "tile",
                    start_time=now - round(result.seconds * _NANOSECONDS),
                    attributes={
                        "gramian.tile": list(result.tile),
                        "gramian.worker": result.worker,
                        "gramian.computed": result.computed,
                    },
                ).end(now)

        return make

    def close(self) -> None:
        self._provider.shutdown()
