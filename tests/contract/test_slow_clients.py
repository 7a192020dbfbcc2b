"""Clients that dawdle, flood or do not speak HTTP: each is let go, and the others are served."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from support.server import LiveServer, live_server, offline_settings
from support.service_state import put_sealed_gram

PATIENCE_SECONDS = 0.5
MAX_CONNECTIONS = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    settings = offline_settings(
        tmp_path_factory.mktemp("slow"),
        request_head_seconds=PATIENCE_SECONDS,
        max_request_head_bytes=4096,
        body_pause_seconds=PATIENCE_SECONDS,
        min_body_bytes_per_second=1000,
        response_stall_seconds=PATIENCE_SECONDS,
        max_connections=MAX_CONNECTIONS,
    )
    with live_server(settings) as running:
        yield running


@contextmanager
def connection(server: LiveServer) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", int(server.url.rsplit(":", 1)[1]))) as opened:
        opened.settimeout(30)
        yield opened


def rest_of(opened: socket.socket) -> bytes:
    """Everything until the server closes the connection."""
    received = bytearray()
    with suppress(ConnectionResetError):
        while data := opened.recv(65536):
            received += data
    return bytes(received)


@contextmanager
def trickle(opened: socket.socket, data: bytes) -> Iterator[None]:
    """Sends `data` again and again with short pauses, until the other side has had enough."""
    ended = threading.Event()

    def send() -> None:
        with suppress(OSError):
            while not ended.wait(PATIENCE_SECONDS / 10):
                opened.sendall(data)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def ask(opened: socket.socket) -> None:
    """One request that is answered, on a connection that stays open."""
    opened.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    received = b""
    while not received.endswith(b"}"):
        received += opened.recv(65536)
    assert received.startswith(b"HTTP/1.1 200 OK")


def problem_of(answer: bytes, status: int, kind: str) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode()), answer
    assert b"application/problem+json" in head
    document: dict[str, Any] = json.loads(body)
    assert (document["status"], document["kind"]) == (status, kind)
    return document


def is_served(server: LiveServer) -> bool:
    return httpx2.get(f"{server.url}/healthz").status_code == 200


def test_a_connection_that_asks_nothing_is_closed(server: LiveServer) -> None:
    with connection(server) as opened:
        assert rest_of(opened) == b""
    assert is_served(server)


def test_a_head_that_never_ends_is_not_waited_for(server: LiveServer) -> None:
    with connection(server) as opened:
        opened.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n")
        with trickle(opened, b"X-A: b\r\n"):
            assert rest_of(opened) == b""


def test_neither_is_that_of_the_second_request(server: LiveServer) -> None:
    with connection(server) as opened:
        opened.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with trickle(opened, b"G"):
            assert rest_of(opened).count(b"HTTP/1.1 200 OK") == 1


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/datasets"])
@pytest.mark.parametrize("pieces", [b"", b"-"], ids=["silent", "a byte at a time"])
def test_a_body_that_does_not_come_is_given_up(
    server: LiveServer, path: str, pieces: bytes
) -> None:
    types = {"/v1/jobs": "application/json", "/v1/datasets": "multipart/form-data; boundary=zz"}
    with connection(server) as opened:
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {types[path]}\r\n"
        opened.sendall(head.encode() + b"Content-Length: 5000\r\n\r\n--zz")
        with trickle(opened, pieces):
            document = problem_of(rest_of(opened), 408, "request-timeout")
    assert document["received_bytes"] < 5000
    assert document["advice"]


def test_whoever_does_not_read_is_cut_off(server: LiveServer) -> None:
    manifest, arrays = put_sealed_gram(server, (2048, 2048), tile_rows=1024, block_rows=512)
    with connection(server) as opened:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        here = opened.getsockname()[1]
        path = f"/v1/matrices/{manifest.id}/slice"
        opened.sendall(
            f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/x-npy\r\n\r\n".encode()
        )
        eventually(lambda: _held_by_server(here))
        eventually(lambda: not _held_by_server(here))
    # It was cut: no system buffers keep as much as the response has.
    assert arrays["ntk"].nbytes > 3 * sum(_buffer_bytes(name) for name in ("rmem", "wmem"))


def _buffer_bytes(kind: str) -> int:
    """What the system keeps for one direction of a new connection."""
    return int(Path(f"/proc/sys/net/ipv4/tcp_{kind}").read_text().split()[1])


def _held_by_server(client_port: int) -> bool:
    """The server lives in this process, so its end of the connection is one of ours."""
    found = psutil.Process().net_connections("tcp4")
    return any(one.raddr and one.raddr.port == client_port for one in found)


def eventually(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_connections_beyond_the_limit_are_told_to_come_back(tmp_path: Path) -> None:
    settings = offline_settings(tmp_path, max_connections=3)
    with live_server(settings) as server:
        with connection(server) as one, connection(server), connection(server):
            ask(one)  # answered, so all three are there
            with connection(server) as fourth:
                answer = rest_of(fourth)
            problem_of(answer, 503, "too-many-connections")
            assert b"Retry-After" in answer
            ask(one)
        eventually(lambda: is_served(server))


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"x" * 200,  # TLS on a plain port
        b"GET /healthz HTTP/1.1\r\n\r\n",  # no Host (RFC 9112 section 3.2)
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n"
        b"Content-Length: 2\r\n\r\n{}",
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n{}",
        b"POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n{}",
    ],
)  # fmt: skip
@pytest.mark.usefixtures("unchanged")
def test_what_is_not_http_is_refused(server: LiveServer, sent: bytes) -> None:
    with connection(server) as opened:
        with suppress(ConnectionError):
            opened.sendall(sent)
        problem_of(rest_of(opened), 400, "malformed-request")


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 5000 + b"\r\n\r\n",
        b"GET /" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz?" + b"a" * 5000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + b"A: b\r\n" * 1000 + b"\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * 5000,  # and no end
    ],
    ids=["header", "path", "query", "many headers", "unfinished"],
)
@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "in pieces"])
def test_huge_heads_are_refused(server: LiveServer, sent: bytes, at_once: bool) -> None:
    step = len(sent) if at_once else 1000
    with connection(server) as opened:
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with suppress(ConnectionError):
            for start in range(0, len(sent), step):
                opened.sendall(sent[start : start + step])
        problem_of(rest_of(opened), 431, "head-too-large")
