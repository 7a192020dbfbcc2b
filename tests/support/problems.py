"""Problem documents, and ids of things that are not there."""

from __future__ import annotations

from typing import Any

import httpx2

MISSING_DATASET = "ds-" + "0" * 32
MISSING_MATRIX = "mx-" + "0" * 32
MISSING_JOB = "job-" + "0" * 32


def check(response: httpx2.Response, status: int, kind: str) -> dict[str, Any]:
    """The response is the problem document that it should be."""
    assert (response.status_code, response.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), response.text
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["kind"] == kind, document
    assert document["type"] == f"urn:gramian:problem:{kind}"
    assert document["detail"]
    assert document["title"]
    assert document["instance"] == response.request.url.path
    assert "Traceback" not in response.text
    assert "site-packages" not in response.text
    return document
