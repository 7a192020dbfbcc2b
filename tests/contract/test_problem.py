"""Requests that HTTP itself says are wrong: bodies, media types, paths, methods, pages."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx2
import numpy as np
import pytest

from support.problems import MISSING_DATASET, MISSING_JOB, MISSING_MATRIX, check
from support.server import LiveServer, raw_request


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 422, "invalid-request"),
        (b"{", 400, "malformed-body"),
        (b'{"task": ', 400, "malformed-body"),
        (b'{"task": {"type": "gram"}} trailing', 400, "malformed-body"),
        (b"\xff\xfe{}", 400, "malformed-body"),
        (b"[" * 60_000, 400, "malformed-body"),
        (b"null", 422, "invalid-request"),
        (b"3", 422, "invalid-request"),
        (b'{"task": {"type": "solve", "matrix": "mx-%s", "ridge": NaN}}' % (b"0" * 32), 422,
         "invalid-request"),
        (b'{"task": {"type": "solve", "matrix": "mx-%s", "ridge": 1e999}}' % (b"0" * 32), 422,
         "invalid-request"),
        (b'{"task": {"type": "solve", "seed": %s}}' % (b"9" * 5000), 400, "malformed-body"),
        (b" " * 70_000, 413, "too-large"),
    ],
)  # fmt: skip
def test_bodies_that_are_no_requests(
    http: httpx2.Client, body: bytes, status: int, kind: str
) -> None:
    response = http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    check(response, status, kind)


@pytest.mark.usefixtures("unchanged")
def test_other_media_types_are_named(http: httpx2.Client) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/xml"}, {}):
        response = http.post("/v1/jobs", content=b"{}", headers=headers)
        check(response, 415, "unsupported-media-type")


@pytest.mark.parametrize("key", ["a b", "x" * 256, "schl\u00fcssel".encode()])
def test_idempotency_keys_are_short_and_printable(
    http: httpx2.Client, upload: Callable[..., str], key: str | bytes
) -> None:
    task = {"type": "gram", "kernel": "fc", "x1": upload(np.ones((4, 2), np.float32))}
    response = http.post(
        "/v1/jobs",
        content=json.dumps({"task": task}),
        headers=[("Content-Type", "application/json"), ("Idempotency-Key", key)],
    )
    check(response, 422, "invalid-request")


PLACES = [
    f"/v1/datasets/{MISSING_DATASET}",
    f"/v1/jobs/{MISSING_JOB}",
    f"/v1/jobs/{MISSING_JOB}/result",
    f"/v1/jobs/{MISSING_JOB}/events",
    f"/v1/matrices/{MISSING_MATRIX}",
    f"/v1/matrices/{MISSING_MATRIX}/slice",
    f"/v1/matrices/{MISSING_MATRIX}/zarr/zarr.json",
    "/v1/kernels/none",
    "/v1/nothing",
    "/v1/jobs/",
    "/nothing/at/all",
]


@pytest.mark.parametrize("path", PLACES)
def test_things_that_are_not_there(http: httpx2.Client, path: str) -> None:
    check(http.get(path), 404, "not-found")


TRICKS = ["..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "a" * 90, "DS-" + "0" * 32, "ds-0%0a"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", TRICKS)
@pytest.mark.parametrize("folder", ["datasets", "jobs", "matrices"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_ids_with_path_tricks_name_nothing(
    server: LiveServer, folder: str, name: str, method: str
) -> None:
    status, headers, body = raw_request(server, method, f"/v1/{folder}/{name}")
    assert status in (404, 405)
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["kind"] in ("not-found", "invalid-key", "method-not-allowed")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, POST"),
        ("DELETE", "/v1/datasets", "GET, POST"),
        ("PATCH", f"/v1/datasets/{MISSING_DATASET}", "DELETE, GET"),
        ("POST", f"/v1/matrices/{MISSING_MATRIX}/zarr/ntk/c/0/0", "GET, HEAD"),
        ("PUT", f"/v1/matrices/{MISSING_MATRIX}/zarr/zarr.json", "GET, HEAD"),
        ("POST", "/healthz", "GET"),
    ],
)
def test_methods_that_are_not_there(
    http: httpx2.Client, method: str, path: str, allowed: str
) -> None:
    response = http.request(method, path)
    check(response, 405, "method-not-allowed")
    assert response.headers["allow"] == allowed


def test_lists_refuse_pages_that_cannot_be(http: httpx2.Client) -> None:
    for path in ("/v1/datasets", "/v1/jobs", "/v1/matrices"):
        for query in ("limit=0", "limit=-1", "limit=301", "limit=x", "cursor=rubbish"):
            response = http.get(f"{path}?{query}")
            assert response.status_code == 422, (path, query, response.text)
            assert response.json()["kind"] in ("invalid-request", "invalid-cursor")


def test_a_bug_tells_its_request_id_and_nothing_else(
    server: LiveServer, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail in /home/user")

    monkeypatch.setattr(type(server.services.catalog), "list_jobs", broken)
    response = http.get("/v1/jobs", headers={"X-Request-ID": "abc-123"})
    document = check(response, 500, "internal")
    assert document["request_id"] == response.headers["x-request-id"] == "abc-123"
    assert "secret" not in response.text
    assert "RuntimeError" not in response.text
