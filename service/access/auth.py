"""Guards in front of every route: they say who is asking, or refuse.

Pure ASGI, and outside of the router (also of the schema and of unknown paths), so that a route
added later cannot forget them. Open are only the probes for liveness and readiness and the files
of the console and the guide, which hold no data. Behind a guard the scope holds the caller; what a
caller (`CALLER`) may see and change is decided by the routes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.access.identity import LOCAL, Caller, required_scope
from service.access.keyring import Keyring, presented_key
from service.access.request_rate import RequestRates
from service.console import is_console
from service.errors import (
    ForbiddenError,
    ForbiddenOriginError,
    TooManyRequestsError,
    UnauthorizedError,
    error_response,
)
from service.guide import is_guide
from storage.errors import GramianError

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
CALLER = "gramian.caller"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass(frozen=True)
class KeyGuard:
    """Lets requests through that carry a key which allows them."""

    app: ASGIApp
    rates: RequestRates = field(default_factory=RequestRates)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if (
            scope["type"] != "http"
            or scope["path"] in OPEN_PATHS
            or is_guide(scope["method"], scope["path"])
            or is_console(scope["method"], scope["path"])
        ):
            await self.app(scope, receive, send)
            return
        try:
            caller = scope[CALLER] = await _caller(scope)
            self._permit(caller, scope["method"], scope["path"])
        except GramianError as error:
            await _refuse(error, scope, receive, send)
            return
        await self.app(scope, receive, send)

    def _permit(self, caller: Caller, method: str, path: str) -> None:
        """Raises ForbiddenError or TooManyRequestsError."""
        needed = required_scope(method, path)
        if not caller.scope.includes(needed):
            raise ForbiddenError(
                f"This needs a key of scope {needed}; {caller.key_id} has {caller.scope}.",
                advice="Ask an administrator for such a key.",
                needed_scope=str(needed),
            )
        limit = caller.quota.max_requests_per_minute
        if limit is None:
            return
        wait_seconds = self.rates.wait_seconds(caller.key_id, limit)
        if wait_seconds > 0:
            raise TooManyRequestsError(
                f"The key {caller.key_id} may make {limit} requests a minute.",
                advice="Wait as Retry-After says; follow jobs by their events, not by polling.",
                max_requests_per_minute=limit,
                retry_after_seconds=math.ceil(wait_seconds),
            )


async def _caller(scope: Scope) -> Caller:
    """Raises UnauthorizedError."""
    key = presented_key(Headers(scope=scope).get("authorization", ""))
    keyring: Keyring = scope["app"].state.services.keyring
    caller = keyring.operator(key) or keyring.cached(key)
    if caller is None:
        caller = await run_in_threadpool(keyring.look_up, key)
    if caller is None:
        raise UnauthorizedError(
            "This service needs an API key that is known, not expired and not revoked.",
            advice="Send `Authorization: Bearer <key>`.",
        )
    return caller


async def _refuse(error: GramianError, scope: Scope, receive: Receive, send: Send) -> None:
    response = error_response(error, scope["path"])
    await response(scope, receive, send)


@dataclass(frozen=True)
class LocalGuard:
    """Keeps web pages away from a keyless service on the loopback interface.

    The browser of the same machine reaches 127.0.0.1 on behalf of any page. A foreign Host name
    means DNS rebinding; a foreign Origin on a state-changing request means a cross-site form post,
    which needs no CORS preflight when its body is multipart.
    """

    app: ASGIApp
    allowed_hosts: tuple[str, ...]
    allowed_origins: tuple[str, ...] = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = (urlsplit(f"//{host}").hostname or "") if _parses(host) else ""
        origin = headers.get("origin")
        reason = ""
        if name not in {h.strip("[]") for h in self.allowed_hosts}:
            reason = f"The Host header names {host[:100]!r}, not this machine."
        elif (
            origin is not None
            and scope["method"] not in _SAFE_METHODS
            and origin not in self.allowed_origins
            and origin != f"{scope['scheme']}://{host}"
        ):
            reason = f"Pages of {origin[:100]!r} may not change anything here."
        if not reason:
            scope[CALLER] = LOCAL
            await self.app(scope, receive, send)
            return
        error = ForbiddenOriginError(
            reason,
            advice="Configure an API key, or name the host or origin in GRAMIAN_ALLOWED_HOSTS or"
            " GRAMIAN_CORS_ORIGINS.",
        )
        await _refuse(error, scope, receive, send)


def _parses(host: str) -> bool:
    try:
        urlsplit(f"//{host}")
    except ValueError:
        return False
    return True
