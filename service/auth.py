"""API keys: `Authorization: Bearer <key>`, known to the service only by their SHA-256.

A pure-ASGI guard in front of every route (also the schema and unknown paths), so that a route
added later cannot forget it. Only the probes for liveness and readiness are open.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.errors import (
    ForbiddenOriginError,
    UnauthorizedError,
    error_document,
    problem_response,
)

OPEN_PATHS = frozenset({"/healthz", "/readyz"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def hash_key(key: str) -> str:
    """SHA-256 hex digest under which a key is configured (`GRAMIAN_API_KEY_SHA256`)."""
    return hashlib.sha256(key.encode()).hexdigest()


def is_known(authorization: str, digests: Iterable[str]) -> bool:
    """Whether an `Authorization` value carries one of the keys, in time independent of which."""
    scheme, _, key = authorization.partition(" ")
    presented = hash_key(key.strip())
    # No short cut: every digest is compared, so the time does not tell which key is near.
    matches = [secrets.compare_digest(presented, digest) for digest in digests]
    return scheme.lower() == "bearer" and any(matches)


@dataclass(frozen=True)
class KeyGuard:
    """Lets requests through that carry a configured key."""

    app: ASGIApp
    digests: tuple[str, ...]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS:
            await self.app(scope, receive, send)
            return
        if is_known(Headers(scope=scope).get("authorization", ""), self.digests):
            await self.app(scope, receive, send)
            return
        error = UnauthorizedError(
            "This service needs an API key.",
            advice="Send `Authorization: Bearer <key>`.",
        )
        response = problem_response(
            error_document(error, scope["path"]), {"WWW-Authenticate": "Bearer"}
        )
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
            await self.app(scope, receive, send)
            return
        error = ForbiddenOriginError(
            reason,
            advice="Configure an API key, or name the host or origin in GRAMIAN_ALLOWED_HOSTS or"
            " GRAMIAN_CORS_ORIGINS.",
        )
        await problem_response(error_document(error, scope["path"]))(scope, receive, send)


def _parses(host: str) -> bool:
    try:
        urlsplit(f"//{host}")
    except ValueError:
        return False
    return True
