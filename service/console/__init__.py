"""The web console: static files in this folder, and how they are served.

The files are public: they hold no data, and everything they show they ask the API for, with the
key of whoever looks. Their answers carry a strict Content-Security-Policy; those of the API and of
/docs do not.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from service.http.byte_ranges import matches_etag

_FOLDER = Path(__file__).parent
_PREFIX = "/console/"
# Names that can be asked for; no `..`, no Python, no README.
_NAME = re.compile(r"(?:[a-z0-9-]+/)?[a-z0-9-]+\.(js|css|svg)", re.ASCII)
_MEDIA_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css"}
_MEDIA_TYPES["svg"] = "image/svg+xml"

# Nothing inline, nothing from elsewhere, in nobody's frame. `blob:` and `data:` are pictures that
# the pages draw themselves or fetched with a key, which an <img> cannot send.
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "form-action 'self'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
    )
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    # Always asked for again, and answered with 304: a new version is seen at once, by all modules.
    "Cache-Control": "no-cache",
}


def is_console(method: str, path: str) -> bool:
    """Whether this asks for a file of the console, which needs no key."""
    return method in ("GET", "HEAD") and (path == "/" or path.startswith(_PREFIX))


def console_routes() -> list[BaseRoute]:
    """`/` and `/console/...`; not part of the API and its document."""
    return [
        Route("/", _index, include_in_schema=False),
        Route(_PREFIX + "{name:path}", _file, include_in_schema=False),
    ]


def _index(request: Request) -> Response:
    return _answer(request, _FOLDER / "index.html")


def _file(request: Request) -> Response:
    name = request.path_params["name"]
    path = _FOLDER / name
    if not _NAME.fullmatch(name) or not path.is_file():
        raise HTTPException(404)
    return _answer(request, path)


def _answer(request: Request, path: Path) -> Response:
    content = path.read_bytes()
    # By content: files in a wheel all have the same time.
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**_HEADERS, "ETag": etag}
    if matches_etag(request.headers.get("if-none-match"), etag):
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=_MEDIA_TYPES[path.suffix[1:]], headers=headers)
