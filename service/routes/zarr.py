"""A sealed matrix as a Zarr v3 hierarchy: what `zarr.open("http://...")` reads."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Request, Response

from service.deps import CallerDep, ServicesDep
from service.http.byte_ranges import matches_etag
from service.http.responses import StoredObjectResponse
from service.routes.matrices import MatrixIdPath
from service.schemas.common import error_responses
from storage.format import MatrixManifest
from storage.keys import check_matrix_id
from storage.reader import resolve

router = APIRouter(prefix="/v1/matrices", tags=["matrices"])

_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The whole object.",
        "content": {
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            "application/json": {"schema": {"type": "object"}},
        },
    },
    206: {"description": "The range asked for."},
    304: {"description": "The copy with this ETag is current."},
    **error_responses(
        "not-found", "invalid-key", "not-ready", "range-not-satisfiable", "corrupt-chunk"
    ),
}


@router.get(
    "/{id}/zarr/{key:path}",
    summary="Zarr v3 access",
    operation_id="get_zarr_object",
    response_class=Response,
    responses=_RESPONSES,
)
@router.head(
    "/{id}/zarr/{key:path}",
    summary="Zarr v3 access, headers only",
    operation_id="head_zarr_object",
    response_class=Response,
    responses=_RESPONSES,
)
def zarr_object(
    services: ServicesDep,
    caller: CallerDep,
    request: Request,
    matrix_id: MatrixIdPath,
    key: Annotated[
        str,
        Path(
            max_length=200,
            description="`zarr.json`, `<array>/zarr.json` or `<array>/c/<i>/<j>`.",
            openapi_examples={"group": {"value": "zarr.json"}},
        ),
    ],
) -> Response:
    """Symmetric matrices appear whole. Chunks may be cached for ever; single ranges, suffix
    ranges, ETag and If-None-Match work. An unsealed matrix answers 409, a damaged one 500, so that
    no reader takes a problem for fill values."""
    record = services.catalog.get_matrix(check_matrix_id(matrix_id), visible_to=caller.visible_to)
    manifest = MatrixManifest.from_json(record.manifest)
    stored = resolve(services.blobs, manifest, key, body=False)
    unchanged = matches_etag(request.headers.get("if-none-match"), stored.etag)
    if request.method == "GET" and not unchanged and not stored.complete:
        stored = resolve(services.blobs, manifest, key)
    return StoredObjectResponse(services.blobs, stored)
