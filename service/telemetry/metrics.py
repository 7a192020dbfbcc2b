"""Prometheus metrics of one service. A registry of its own per application: nothing is global.

Counters are raised where things happen; what can be asked (jobs by state, workers, residuals) is
asked when a scraper comes (`service.telemetry.scrape`).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

if TYPE_CHECKING:
    from workers.tiles import TileResult

# Status calls are to stay under 100 ms; slices and uploads may take minutes.
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)
_OTHER = "other"
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"})


class Metrics:
    """Counters of one application. Thread-safe."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "gramian_http_requests_total",
            "Answered requests, by route template.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self.request_seconds = Histogram(
            "gramian_http_request_seconds",
            "Seconds until the answer began.",
            ("method", "route"),
            buckets=_SECONDS,
            registry=self.registry,
        )
        self.tiles = Counter(
            "gramian_tiles_total",
            "Finished tiles of Gram matrices: computed, or found in the store.",
            ("how",),
            registry=self.registry,
        )
        self.tile_bytes = Counter(
            "gramian_tile_bytes_total",
            "Bytes of computed tiles, as stored.",
            registry=self.registry,
        )
        self.tile_seconds = Counter(
            "gramian_tile_seconds_total",
            "Seconds that workers spent on tiles.",
            registry=self.registry,
        )
        self.missing_previews = Counter(
            "gramian_previews_unwritten_total",
            "Previews of stored tiles that the store would not take.",
            registry=self.registry,
        )
        self.jobs_ended = Counter(
            "gramian_jobs_ended_total",
            "Jobs that this process saw end.",
            ("type", "state"),
            registry=self.registry,
        )
        # There from the beginning, so that rates of them start at zero and not at their first one.
        for how in ("computed", "found"):
            self.tiles.labels(how)

    def count_tiles(self, results: Iterable[TileResult]) -> None:
        for result in results:
            self.tiles.labels("computed" if result.computed else "found").inc()
            self.tile_seconds.inc(result.seconds)
            self.missing_previews.inc(result.missing_previews)
            if result.computed:
                self.tile_bytes.inc(sum(record.stored_bytes for record in result.records))

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        # Methods are the caller's words: without this, anybody could make a million series.
        shown = method if method in _METHODS else _OTHER
        self.requests.labels(shown, route, str(status)).inc()
        self.request_seconds.labels(shown, route).observe(seconds)


@dataclass(frozen=True)
class CountRequests:
    """Counts requests by the template of their route, never by their path."""

    app: ASGIApp
    metrics: Metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        status, seconds = 500, 0.0

        async def watched_send(message: Message) -> None:
            nonlocal status, seconds
            if message["type"] == "http.response.start":
                status, seconds = int(message["status"]), time.perf_counter() - started
            await send(message)

        try:
            await self.app(scope, receive, watched_send)
        finally:
            # Guards refuse before the router chooses; unknown paths have no route either.
            route = getattr(scope.get("route"), "path", _OTHER)
            self.metrics.count_request(scope["method"], route, status, seconds)
