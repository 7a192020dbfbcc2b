"""Stored matrices: what they are, parts of them, and deleting them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response
from starlette.responses import JSONResponse

from service.access.ownership import give_up
from service.deps import CallerDep, PageDep, ServicesDep
from service.errors import InvalidRequestError, json_safe
from service.http.slices import (
    NPY,
    SLICE_PATTERN,
    check_slice_size,
    choose_media_type,
    npy_bytes,
    parse_slice,
)
from service.schemas.common import EXAMPLE_MATRIX, Page, error_responses
from service.schemas.matrices import MatrixOut, SliceOut
from service.schemas.tasks import ArrayName
from service.views import matrix_view, next_link
from storage import matrices
from storage.catalog import MatrixState
from storage.errors import NotFoundError, NotReadyError
from storage.format import ArrayLayout, MatrixManifest
from storage.keys import check_matrix_id

router = APIRouter(prefix="/v1/matrices", tags=["matrices"])

MatrixIdPath = Annotated[
    str,
    Path(alias="id", max_length=100, openapi_examples={"id": {"value": EXAMPLE_MATRIX}}),
]
RowsQuery = Annotated[
    str | None,
    Query(
        pattern=SLICE_PATTERN,
        max_length=40,
        description="Such as 0:100, :100, 100: or 7; all rows by default.",
        openapi_examples={"first": {"value": "0:2"}},
    ),
]
ColsQuery = Annotated[
    str | None,
    Query(
        pattern=SLICE_PATTERN,
        max_length=40,
        description="Likewise; all columns by default.",
        openapi_examples={"first": {"value": "0:1"}},
    ),
]
ArrayQuery = Annotated[
    ArrayName | None, Query(description="Needed when the matrix has several arrays.")
]


@router.get("", summary="List matrices", responses=error_responses("invalid-request"))
def list_matrices(
    services: ServicesDep,
    caller: CallerDep,
    page: PageDep,
    state: Annotated[MatrixState | None, Query(description="Only matrices in this state.")] = None,
) -> Page[MatrixOut]:
    """Newest first, complete or not."""
    records, cursor = services.catalog.list_matrices(
        page.limit, page.cursor, state=state, visible_to=caller.visible_to
    )
    return Page(
        items=[matrix_view(record) for record in records],
        next=next_link("/v1/matrices", cursor, limit=page.limit, state=state and state.value),
    )


@router.get("/{id}", summary="One matrix", responses=error_responses("not-found", "invalid-key"))
def get_matrix(services: ServicesDep, caller: CallerDep, matrix_id: MatrixIdPath) -> MatrixOut:
    """Arrays, digest and provenance."""
    record = services.catalog.get_matrix(check_matrix_id(matrix_id), visible_to=caller.visible_to)
    return matrix_view(record)


@router.delete(
    "/{id}",
    summary="Delete a matrix",
    status_code=204,
    responses=error_responses("not-found", "invalid-key", "conflict"),
)
def delete_matrix(services: ServicesDep, caller: CallerDep, matrix_id: MatrixIdPath) -> None:
    """Refused while an open job builds or reads it. A matrix that others own too stays for
    them."""
    # The catalog first: it decides, under a lock, whether anybody still needs the matrix. Bytes
    # that a crash leaves behind are found again when the same matrix is asked for.
    with services.context.names:
        catalog = services.catalog
        catalog.get_matrix(check_matrix_id(matrix_id), visible_to=caller.visible_to)
        if not give_up(catalog, caller, matrix_id):
            return
        catalog.delete_matrix(matrix_id)
        matrices.delete(services.blobs, matrix_id)


@router.get(
    "/{id}/slice",
    summary="A part of an array",
    response_class=Response,
    responses={
        200: {
            "description": "The rows and columns asked for.",
            "content": {
                NPY: {"schema": {"type": "string", "format": "binary"}},
                "application/json": {"schema": {"$ref": "#/components/schemas/SliceOut"}},
            },
        },
        **error_responses(
            "not-found", "invalid-key", "not-ready", "not-acceptable", "invalid-request"
        ),
    },
)
def get_slice(
    services: ServicesDep,
    caller: CallerDep,
    matrix_id: MatrixIdPath,
    rows: RowsQuery = None,
    cols: ColsQuery = None,
    array: ArrayQuery = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> Response:
    """`.npy` by default (`numpy.load`), JSON for few numbers with `Accept: application/json`."""
    record = services.catalog.get_matrix(check_matrix_id(matrix_id), visible_to=caller.visible_to)
    if not record.sealed:
        raise NotReadyError(
            "The matrix is not complete.", advice="Wait for its job.", state=str(record.state)
        )
    media_type = choose_media_type(accept)
    manifest = MatrixManifest.from_json(record.manifest)
    layout = choose_array(manifest, array)
    row_part = parse_slice(rows, layout.shape[0], "rows")
    col_part = _column_part(cols, layout)
    shape = _slice_shape(layout, row_part, col_part)
    check_slice_size(services.settings, shape, layout.itemsize, media_type)
    values = matrices.read_slice(services.blobs, manifest, layout.name, row_part, col_part)
    if media_type == NPY:
        return Response(
            npy_bytes(values),
            media_type=NPY,
            headers={"Content-Disposition": f'attachment; filename="{layout.name}.npy"'},
        )
    return JSONResponse(
        SliceOut(
            array=layout.name,
            rows=(row_part.start, row_part.stop),
            cols=None if col_part is None else (col_part.start, col_part.stop),
            dtype=layout.dtype,
            values=json_safe(values.tolist()),
        ).model_dump(mode="json")
    )


def choose_array(manifest: MatrixManifest, name: str | None) -> ArrayLayout:
    names = [layout.name for layout in manifest.arrays]
    if name is None and len(names) > 1:
        raise InvalidRequestError(
            f"The matrix has the arrays {', '.join(names)}.", advice="Choose one: array=<name>."
        )
    if name is not None and name not in names:
        raise NotFoundError(
            f"The matrix has no array {name!r}.", advice=f"It has: {', '.join(names)}."
        )
    return manifest.array(name or names[0])


def _column_part(text: str | None, layout: ArrayLayout) -> slice | None:
    if len(layout.shape) > 1:
        return parse_slice(text, layout.shape[1], "cols")
    if text is not None:
        raise InvalidRequestError(
            f"The array {layout.name!r} has one dimension.", advice="Leave cols out."
        )
    return None


def _slice_shape(layout: ArrayLayout, rows: slice, cols: slice | None) -> tuple[int, ...]:
    wanted = [rows] if cols is None else [rows, cols]
    return (*(part.stop - part.start for part in wanted), *layout.shape[len(wanted) :])
