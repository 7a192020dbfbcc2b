"""Errors on the wire: RFC 9457 problem documents, one table from kind to status.

Every error response of the service has this one shape, whoever raised it: our own code, pydantic,
the router (404, 405) or a bug (500, which tells the client an id to quote and nothing else).
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, compile_path

from storage.errors import DiskFullError, GramianError

logger = logging.getLogger(__name__)

PROBLEM_MEDIA_TYPE = "application/problem+json"


class InvalidRequestError(GramianError):
    """The body or a parameter is well formed but not something that can be asked for."""

    kind = "invalid-request"


class UnsupportedMediaTypeError(GramianError):
    kind = "unsupported-media-type"


class NotAcceptableError(GramianError):
    kind = "not-acceptable"


class UnauthorizedError(GramianError):
    kind = "unauthorized"


class ForbiddenOriginError(GramianError):
    """A browser page of another site speaks to a keyless local service."""

    kind = "forbidden-origin"


class ForbiddenError(GramianError):
    """The caller is known and may not do this."""

    kind = "forbidden"


class QuotaExceededError(GramianError):
    """More than the caller's key allows; waiting does not help."""

    kind = "quota-exceeded"


class TooManyRequestsError(GramianError):
    kind = "too-many-requests"


class RequestTimeoutError(GramianError):
    """The body of a request comes too slowly, or not at all."""

    kind = "request-timeout"


class HeadTooLargeError(GramianError):
    """Request line and headers are longer than the service reads."""

    kind = "head-too-large"


class TooManyJobsError(GramianError):
    kind = "too-many-jobs"


class ExceedsMemoryError(GramianError):
    """The projected peak of one task is more than a worker may use."""

    kind = "exceeds-memory"


class InsufficientStorageError(GramianError):
    """The result would not fit on the disk, or not into the configured quota."""

    kind = "insufficient-storage"


class JobFailedError(GramianError):
    """The result of a failed or cancelled job was asked for."""

    kind = "job-failed"


# The one place where kinds become statuses. A kind that is missing here is a bug of ours: 500.
STATUS_BY_KIND: Mapping[str, int] = {
    "malformed-body": 400,
    "malformed-request": 400,
    "unauthorized": 401,
    "forbidden": 403,
    "forbidden-origin": 403,
    "quota-exceeded": 403,
    "not-found": 404,
    # In a URL, an id or key that breaks the grammar names nothing. Zarr clients probe for
    # `.zarray` and friends and need a plain 404; bodies are checked by their schema (422).
    "invalid-key": 404,
    "method-not-allowed": 405,
    "not-acceptable": 406,
    "request-timeout": 408,
    "not-ready": 409,
    "job-failed": 409,
    "conflict": 409,
    "data-dir-locked": 409,
    "store-taken": 409,
    "lease-lost": 409,
    "too-large": 413,
    "unsupported-media-type": 415,
    "range-not-satisfiable": 416,
    "head-too-large": 431,
    "invalid-request": 422,
    "invalid-array": 422,
    "invalid-kernel": 422,
    "invalid-inputs": 422,
    "invalid-gram": 422,
    "invalid-solve": 422,
    "invalid-analysis": 422,
    "invalid-cursor": 422,
    "exceeds-memory": 422,
    "idempotency-conflict": 422,  # draft-ietf-httpapi-idempotency-key-header, section 2.7
    "too-many-jobs": 429,
    "too-many-requests": 429,
    "internal": 500,
    # Never 404: an absent chunk means "fill values" to a Zarr client, and these are losses.
    "corrupt-chunk": 500,
    "missing-chunk": 500,
    "unsupported-format": 500,
    "missing-extra": 501,
    "too-many-connections": 503,
    "cluster-unavailable": 503,
    "catalog-unavailable": 503,
    "preview-missing": 503,
    "store-unavailable": 503,
    "store-refused": 503,
    "insufficient-storage": 507,
    "disk-full": 507,
}

_KIND_BY_STATUS = {
    400: "malformed-body",
    401: "unauthorized",
    404: "not-found",
    405: "method-not-allowed",
    406: "not-acceptable",
    413: "too-large",
    415: "unsupported-media-type",
    422: "invalid-request",
}


# `Retry-After` of the kinds that pass by themselves.
_RETRY_SECONDS: Mapping[str, int] = {
    "too-many-jobs": 10,
    "cluster-unavailable": 5,
    "catalog-unavailable": 5,
    "store-unavailable": 5,
    "not-ready": 2,
    "preview-missing": 1,
}


def problem(
    kind: str,
    detail: str,
    *,
    advice: str = "",
    instance: str = "",
    status: int | None = None,
    extensions: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """A problem document (RFC 9457 section 3) with our extension members `kind` and `advice`."""
    code = status if status is not None else STATUS_BY_KIND.get(kind, 500)
    document: dict[str, Any] = {
        "type": f"urn:gramian:problem:{kind}",
        "title": HTTPStatus(code).phrase,
        "status": code,
        "detail": detail,
        "kind": kind,
        "advice": advice,
        "instance": instance,
    }
    for name, value in (extensions or {}).items():
        document.setdefault(name, value)
    return document


def problem_response(
    document: Mapping[str, Any], headers: Mapping[str, str] | None = None
) -> Response:
    # What knows better than the table says it itself.
    retry = document.get("retry_after_seconds", _RETRY_SECONDS.get(str(document["kind"])))
    extra = {} if retry is None else {"Retry-After": str(retry)}
    return JSONResponse(
        json_safe(document),
        status_code=int(document["status"]),
        media_type=PROBLEM_MEDIA_TYPE,
        headers={"Cache-Control": "no-store", **extra, **(headers or {})},
    )


def error_response(error: GramianError, instance: str) -> Response:
    """The answer to a request that raised `error`."""
    headers = {"WWW-Authenticate": "Bearer"} if error.kind == "unauthorized" else None
    return problem_response(error_document(error, instance), headers)


def error_document(error: GramianError, instance: str) -> dict[str, Any]:
    return problem(
        error.kind,
        error.message,
        advice=error.advice,
        instance=instance,
        extensions=error.details,
    )


def json_safe(value: Any) -> Any:
    """`value` with non-finite numbers as null and anything foreign to JSON as text."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, str | int | bool):
        return value
    if isinstance(value, Mapping):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, Iterable) and not isinstance(value, bytes | bytearray):
        return [json_safe(item) for item in value]
    return str(value)


def validation_problem(errors: Iterable[Mapping[str, Any]], instance: str) -> dict[str, Any]:
    """One document for all faults pydantic found; `errors` lists where and what."""
    found = list(errors)
    malformed = next((e for e in found if e["type"] == "json_invalid"), None)
    if malformed is not None:
        reason = malformed.get("ctx", {}).get("error", "not JSON")
        return problem(
            "malformed-body",
            f"The body is not valid JSON: {reason}.",
            advice="Send one JSON object encoded in UTF-8.",
            instance=instance,
        )
    places = [
        {"where": ".".join(str(part) for part in e["loc"]), "what": e["msg"], "code": e["type"]}
        for e in found
    ]
    shown = "; ".join(f"{p['where']}: {p['what']}" for p in places[:3])
    more = f" (and {len(places) - 3} more)" if len(places) > 3 else ""
    return problem(
        "invalid-request",
        f"{shown}{more}",
        advice="Correct the fields listed in `errors`; /openapi.json describes every body.",
        instance=instance,
        extensions={"errors": places},
    )


def add_error_handlers(app: FastAPI) -> None:
    """Every error leaves `app` as a problem document."""

    def on_gramian_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, GramianError):
            raise error
        document = error_document(error, request.url.path)
        if document["status"] >= 500 and document["status"] not in (503, 507):
            logger.error("%s %s: %s", request.method, request.url.path, error, exc_info=error)
        return error_response(error, request.url.path)

    def on_os_error(request: Request, error: Exception) -> Response:
        if isinstance(error, OSError) and (full := DiskFullError.of(error)):
            logger.error("%s %s: %s", request.method, request.url.path, full)
            return error_response(full, request.url.path)
        raise error

    def on_validation_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, RequestValidationError):
            raise error
        return problem_response(validation_problem(error.errors(), request.url.path))

    def on_http_error(request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        headers = dict(error.headers or {})
        detail, advice = str(error.detail), ""
        if error.status_code == 404:
            detail = f"There is nothing at {request.url.path[:200]}."
            advice = "GET /v1 lists the routes."
        elif error.status_code == 405:
            headers["Allow"] = ", ".join(allowed_methods(app, request.url.path))
            detail = f"{request.method} is not possible here."
            advice = f"Possible: {headers['Allow']}."
        elif error.status_code == 400:
            advice = "Send one JSON object encoded in UTF-8, or a well-formed multipart body."
        document = problem(
            _KIND_BY_STATUS.get(error.status_code, "internal"),
            detail,
            advice=advice,
            instance=request.url.path,
            status=error.status_code,
        )
        return problem_response(document, headers)

    def on_bug(request: Request, error: Exception) -> Response:
        # The traceback goes to the log (Starlette re-raises after this response); the client gets
        # the request id to quote.
        request_id = request.scope.get("gramian.request_id", "")
        document = problem(
            "internal",
            "The service met an unexpected condition.",
            advice="Report this with its request id; the server log has the reason.",
            instance=request.url.path,
            extensions={"request_id": request_id},
        )
        return problem_response(document, {"X-Request-ID": request_id} if request_id else None)

    app.add_exception_handler(GramianError, on_gramian_error)
    app.add_exception_handler(OSError, on_os_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_error)
    app.add_exception_handler(Exception, on_bug)


def allowed_methods(app: FastAPI, path: str) -> list[str]:
    """All methods of `path`: RFC 9110 section 15.5.6 wants the whole list, not one route's."""
    # What is not in the document: the console and the document itself.
    routes = [r for r in app.routes if isinstance(r, Route) and r.path_regex.match(path)]
    found = {method for route in routes for method in route.methods or ()}
    for template, operations in app.openapi()["paths"].items():
        # `{key}` of the zarr route spans slashes; in OpenAPI its converter is not visible.
        pattern, _, _ = compile_path(re.sub(r"/zarr/\{key\}$", "/zarr/{key:path}", template))
        if pattern.match(path):
            found.update(method.upper() for method in operations if method != "parameters")
    return sorted(found)
