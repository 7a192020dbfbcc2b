"""Traces: of requests, of jobs with their phases and tiles; and none at all unless asked for."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import service.app
from service.telemetry.otel import OtelTracing
from service.telemetry.tracing import ENDPOINT_VARIABLE, Tracing, open_tracing
from storage.errors import MissingExtraError
from support.cluster import ClusterProcesses
from support.server import live_server, offline_settings
from workers.tiles import TileResult

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """Keeps the spans of the services that are started from now on."""
    memory = InMemorySpanExporter()
    tracing = OtelTracing(SimpleSpanProcessor(memory))
    monkeypatch.setattr(service.app, "open_tracing", lambda environment: tracing)
    return memory


def named(exporter: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in exporter.get_finished_spans() if span.name == name]


def test_a_request_is_a_span_in_the_trace_of_its_sender(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "X-Request-ID": "trace-7"}
    with live_server(offline_settings(tmp_path)) as server, server.http() as http:
        http.get("/v1/jobs/job-" + "0" * 32, headers=headers)
        http.get("/no/such/page")
    (span,) = named(exporter, "GET /v1/jobs/{id}")
    assert span.context is not None
    assert span.parent is not None
    assert f"{span.context.trace_id:032x}" == TRACE
    assert f"{span.parent.span_id:016x}" == SPAN
    assert span.attributes == {
        "http.request.method": "GET",
        "http.route": "/v1/jobs/{id}",
        "http.response.status_code": 404,
        "gramian.request_id": "trace-7",
    }
    assert len(named(exporter, "HTTP GET")) == 1, "paths are never names"


@pytest.mark.slow
@pytest.mark.cluster
def test_a_job_is_a_span_around_its_phases_and_tiles(
    tmp_path: Path, exporter: InMemorySpanExporter
) -> None:
    cluster = ClusterProcesses(tmp_path / "dask")
    cluster.start()
    settings = offline_settings(
        tmp_path,
        scheduler_address=cluster.address,
        cluster_start_seconds=10.0,
        cluster_retry_seconds=0.2,
        compute_block_rows=64,
        max_tile_spans_per_job=4,
    )
    try:
        with live_server(settings) as server, server.client() as client:
            data = client.upload(np.eye(256, dtype=np.float32))
            kernel = {"preset": "fc", "depth": 1}
            job = client.wait(client.gram(data.id, kernel=kernel, tile_rows=64).id)
            assert job.state == "succeeded", job.error
    finally:
        cluster.kill()
    (span,) = named(exporter, "job gram")
    assert span.attributes == {
        "gramian.job": job.id,
        "gramian.attempt": 1,
        "gramian.state": "succeeded",
    }
    assert span.context is not None
    children = [
        each
        for each in exporter.get_finished_spans()
        if each.parent is not None and each.parent.span_id == span.context.span_id
    ]
    names = [child.name for child in children]
    assert sorted(set(names)) == ["phase computing", "phase done", "phase sealing", "tile"]
    assert names.count("tile") == 4, "ten were computed"
    for tile in named(exporter, "tile"):
        assert tile.attributes is not None
        assert str(tile.attributes["gramian.worker"]).startswith("tcp://")
    submissions = named(exporter, "POST /v1/jobs")
    assert [(s.attributes or {})["gramian.location"] for s in submissions] == [f"/v1/jobs/{job.id}"]


def test_a_tile_takes_as_long_as_the_worker_says() -> None:
    memory = InMemorySpanExporter()
    tracing = OtelTracing(SimpleSpanProcessor(memory))
    tracing.tiles(5)([TileResult((2, 3), (), True, 1.5, worker="w")])
    (span,) = memory.get_finished_spans()
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == 1_500_000_000
    assert span.attributes == {
        "gramian.tile": (2, 3),
        "gramian.worker": "w",
        "gramian.computed": True,
    }


@pytest.fixture
def collector() -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
    """Its address, and the paths and bodies of what it is sent."""
    received: list[tuple[str, bytes]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            received.append((self.path, body))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_spans_arrive_where_the_variable_says(
    tmp_path: Path,
    collector: tuple[str, list[tuple[str, bytes]]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address, received = collector
    monkeypatch.setenv(ENDPOINT_VARIABLE, address)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    with live_server(offline_settings(tmp_path)) as server, server.http() as http:
        http.get("/healthz", headers={"X-Request-ID": "trace-9"})
    assert {path for path, _ in received} == {"/v1/traces"}
    sent = b"".join(body for _, body in received)
    assert b"trace-9" in sent
    assert b"GET /healthz" in sent


def test_nothing_is_imported_when_nobody_asks() -> None:
    program = (
        "import sys, service.server\n"
        "from service.telemetry.tracing import open_tracing\n"
        "open_tracing({})\n"
        "unwanted = ('service.telemetry.otel', 'opentelemetry.sdk', 'opentelemetry.exporter')\n"
        "sys.exit(', '.join(n for n in sys.modules if n.startswith(unwanted)) or 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert type(open_tracing({ENDPOINT_VARIABLE: ""})) is Tracing


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "service.telemetry.otel")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingExtraError, match=r"opentelemetry\.sdk\.trace") as missing:
        open_tracing({ENDPOINT_VARIABLE: "http://127.0.0.1:1"})
    assert "gramian[otel]" in missing.value.advice
