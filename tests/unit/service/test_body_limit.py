"""The body limit counts what arrives, whatever the client declares."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from service.http.middleware import BodyLimit


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the whole body; like a framework, it answers 400 when reading fails."""
    status, body = 200, b""
    try:
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
    except Exception:  # noqa: BLE001 - this is what frameworks do
        status = 400
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body", "body": str(len(body)).encode()})


def call(
    chunks: list[bytes], *, headers: dict[str, str] | None = None, path: str = "/v1/jobs"
) -> tuple[int, bytes, int]:
    """Status, body, and how many chunks were taken."""
    limited = BodyLimit(
        application,
        limit_bytes=10,
        upload_limit_bytes=20,
        upload_paths=frozenset({"/up"}),
        pause_seconds=10.0,
        min_bytes_per_second=1,
    )
    pending = list(chunks)
    sent: list[Message] = []

    async def receive() -> Message:
        return {
            "type": "http.request",
            "body": pending.pop(0) if pending else b"",
            "more_body": bool(pending),
        }

    async def send(message: Message) -> None:
        sent.append(message)

    raw = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope: dict[str, Any] = {"type": "http", "path": path, "method": "POST", "headers": raw}
    asyncio.run(limited(scope, receive, send))
    assert [m["type"] for m in sent] == ["http.response.start", "http.response.body"]
    return sent[0]["status"], sent[1]["body"], len(chunks) - len(pending)


def test_bodies_up_to_the_limit_pass() -> None:
    assert call([b"12345", b"67890"]) == (200, b"10", 2)
    assert call([], headers={"content-length": "0"}) == (200, b"0", 0)


def test_a_declared_length_is_refused_before_a_byte_is_read() -> None:
    status, body, taken = call([b"x" * 11], headers={"content-length": "11"})
    assert (status, taken) == (413, 0)
    assert json.loads(body)["limit_bytes"] == 10


@pytest.mark.parametrize("declared", ["5", "-1", "\u0661", "", "5, 5"])
def test_what_is_declared_does_not_matter_when_more_comes(declared: str) -> None:
    status, body, taken = call([b"x" * 6] * 5, headers={"content-length": declared})
    assert (status, taken) == (413, 2)
    assert json.loads(body)["kind"] == "too-large"


def test_only_multipart_to_an_upload_path_has_the_larger_limit() -> None:
    form = {"content-type": "multipart/form-data; boundary=x"}
    assert call([b"x" * 20], headers=form, path="/up")[0] == 200
    assert call([b"x" * 21], headers=form, path="/up")[0] == 413
    assert call([b"x" * 20], headers=form, path="/v1/jobs")[0] == 413
    assert call([b"x" * 20], headers={"content-type": "application/json"}, path="/up")[0] == 413
