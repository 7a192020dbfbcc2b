"""Schemathesis along the links of the document: what one request makes, the next ones use."""

from __future__ import annotations

import pytest

from support.chains import chains
from support.server import LiveServer

MADE = [(method, thing) for method in ("GET", "DELETE") for thing in ("datasets", "jobs")]


@pytest.mark.filterwarnings("ignore:Do not use the `random` module")
def test_chains_of_requests(server: LiveServer) -> None:
    seen: list[tuple[str, int]] = []
    chains(server.url, 15, 8, seen)
    assert all(status < 500 for _, status in seen)
    by_path = {path for path, status in seen if status < 300}
    # Chains got somewhere: things that were made were looked at.
    assert "POST /v1/datasets" in by_path
    assert by_path & {f"{method} /v1/{thing}/{{id}}" for method, thing in MADE}
