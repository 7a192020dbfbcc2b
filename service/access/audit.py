"""Who did what: every change that was made and every one that was forbidden, into the catalog.

A guard's 401 is not noted: nobody is known to have done it, and anybody could fill the table.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.access.auth import CALLER
from service.access.identity import Caller
from storage.catalog import Catalog

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_CHANGES_NOTHING = frozenset({"/v1/estimates"})
_MAX_CHARACTERS = 200


@dataclass(frozen=True)
class AuditTrail:
    """Writes the entry before the first byte of the answer: what is answered is in the log."""

    app: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["method"] in _SAFE_METHODS
            or scope["path"] in _CHANGES_NOTHING
        ):
            await self.app(scope, receive, send)
            return

        async def noted_send(message: Message) -> None:
            caller: Caller | None = scope.get(CALLER)
            if message["type"] == "http.response.start" and caller is not None:
                status = int(message["status"])
                if status < 300 or status == 403:
                    await run_in_threadpool(_note, scope, caller, message)
            await send(message)

        await self.app(scope, receive, noted_send)


def _note(scope: Scope, caller: Caller, message: Message) -> None:
    catalog: Catalog = scope["app"].state.services.catalog
    # The route is known once the router has chosen it; a guard that forbids does so before.
    route = getattr(scope.get("route"), "path", scope["path"])
    made = Headers(raw=message["headers"]).get("location", scope["path"])
    catalog.add_audit(
        owner=caller.owner,
        key_id=caller.key_id,
        action=f"{scope['method']} {route}"[:_MAX_CHARACTERS],
        thing=made[:_MAX_CHARACTERS],
        status=int(message["status"]),
        request_id=scope.get("gramian.request_id", ""),
    )
