"""Whatever stands where an id, a key or a name belongs, on every route, names nothing."""

from __future__ import annotations

import json
import re

import pytest

from service.app import create_app
from service.settings import ServiceSettings
from support.server import LiveServer, raw_request

TRICKS = (
    "..",
    "%2e%2e",
    "..%2f..%2fetc%2fpasswd",
    "%252e%252e%252f",
    "..%5c..%5cwindows",
    "....//....//etc/passwd",
    "%00",
    "mx-" + "0" * 32 + "%00.json",
    "mx-" + "0" * 32 + "%0d%0aX-Evil:%20yes",
    "mx-" + "0" * 31 + "%C3%A9",
    "%C0%AE%C0%AE%C0%AF",
    "%ff%fe",
    "/etc/passwd",
    "%2fetc%2fpasswd",
    "file:%2f%2f%2fetc%2fpasswd",
    "http:%2f%2f169.254.169.254%2flatest",
    "'%20OR%20'1'='1",
    "$(id)",
    "{{7*7}}",
    "a" * 3000,
    "-1",
    "*",
)
PATHS = [
    (method.upper(), path)
    for path, operations in create_app(ServiceSettings()).openapi()["paths"].items()
    for method in operations
    if "{" in path
]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_nothing_but_ids_names_anything(server: LiveServer, method: str, path: str) -> None:
    for trick in TRICKS:
        target = re.sub(r"\{\w+\}", lambda _, trick=trick: trick, path)
        status, headers, body = raw_request(server, method, target)
        assert 400 <= status < 500, (target, status, body)
        assert "x-evil" not in headers
        assert headers["content-type"] == "application/problem+json", target
        if method != "HEAD":
            assert b"root:" not in body
            assert json.loads(body)["status"] == status
