"""The guide: pages in Markdown, served as HTML at /guide/ by the same process.

Everything here is public, like the console: it holds no data. Answers carry a
Content-Security-Policy that allows a style sheet and pictures of our own, and nothing else.
"""

from __future__ import annotations

import re
from pathlib import Path

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from service.guide.contents import find_page
from service.guide.render import page_html

_FOLDER = Path(__file__).parent
_PREFIX = "/guide"
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}
_FIGURE = re.compile(r"figures/[a-z0-9-]+\.svg", re.ASCII)


def is_guide(method: str, path: str) -> bool:
    """Whether this asks for the guide, which needs no key."""
    return method in ("GET", "HEAD") and (path == _PREFIX or path.startswith(f"{_PREFIX}/"))


def guide_routes() -> list[BaseRoute]:
    """`/guide/...`; not part of the API and its document."""
    return [
        Route(_PREFIX, _redirect, include_in_schema=False),
        Route(_PREFIX + "/{name:path}", _Answers(), include_in_schema=False, methods=["GET"]),
    ]


def _redirect(request: Request) -> Response:
    # Relative links of the pages need the slash.
    return RedirectResponse(f"{_PREFIX}/", status_code=308)


class _Answers:
    """Pages are rendered once for each application: anybody may ask, as often as they like."""

    def __init__(self) -> None:
        self._rendered: dict[str, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        answer = await run_in_threadpool(self._answer, request)
        await answer(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        name = request.path_params["name"] or "index"
        if name == "style.css" or (_FIGURE.fullmatch(name) and (_FOLDER / name).is_file()):
            media_type = "text/css" if name == "style.css" else "image/svg+xml"
            content = (_FOLDER / name).read_bytes()
            return Response(content, media_type=media_type, headers=_HEADERS)
        page = find_page(name)
        if page is None:
            raise HTTPException(404)
        if name not in self._rendered:
            self._rendered[name] = page_html(page, request.app.openapi())
        return Response(self._rendered[name], media_type="text/html", headers=_HEADERS)
