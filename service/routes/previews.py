"""Looking at stored matrices: heat maps of any part, and statistics."""

from __future__ import annotations

import math
from typing import Annotated, Any, NamedTuple

import numpy as np
from blake3 import blake3
from fastapi import APIRouter, Depends, Header, Query, Request, Response
from starlette.responses import JSONResponse

from service.deps import CallerDep, Services, ServicesDep
from service.errors import InvalidRequestError, json_safe
from service.http.byte_ranges import matches_etag
from service.http.slices import NPY, choose_media_type, npy_bytes, parse_slice
from service.pictures import heatmap
from service.pictures.cells import Cells, Source, read_cells
from service.pictures.colors import ColorMap
from service.pictures.heatmap import Scale
from service.pictures.statistics import statistics
from service.pictures.window import ReadLimits, fit, flat_shape
from service.routes.matrices import (
    ArrayQuery,
    ColsQuery,
    MatrixIdPath,
    RowsQuery,
    choose_array,
)
from service.schemas.common import error_responses
from service.schemas.pictures import PreviewOut, StatisticsOut
from storage.catalog import MatrixRecord
from storage.errors import NotReadyError, TooLargeError
from storage.format import MatrixManifest
from storage.keys import check_matrix_id

router = APIRouter(prefix="/v1/matrices", tags=["pictures"])

PNG = "image/png"
MAX_SIZE, DEFAULT_SIZE = 1024, 512

IMMUTABLE = "private, max-age=31536000, immutable"

SizeQuery = Annotated[
    int | None,
    Query(
        ge=1,
        le=MAX_SIZE,
        description="Most cells along the longer side (one more where cells are cut by the"
        " window); 512 by default.",
        openapi_examples={"small": {"value": 64}},
    ),
]


class WindowQuery(NamedTuple):
    rows: str | None
    cols: str | None


class ColorQuery(NamedTuple):
    colors: ColorMap
    low: float | None
    high: float | None


def window_query(rows: RowsQuery = None, cols: ColsQuery = None) -> WindowQuery:
    return WindowQuery(rows, cols)


def color_query(
    colors: Annotated[
        ColorMap,
        Query(description="`diverging` has its bright middle at 0, or half-way of low and high."),
    ] = "sequential",
    low: Annotated[
        float | None,
        Query(allow_inf_nan=False, description="Number that gets the first colour; with `high`."),
    ] = None,
    high: Annotated[
        float | None, Query(allow_inf_nan=False, description="Number that gets the last colour.")
    ] = None,
) -> ColorQuery:
    return ColorQuery(colors, low, high)


WindowDep = Annotated[WindowQuery, Depends(window_query)]
ColorDep = Annotated[ColorQuery, Depends(color_query)]

_ERRORS = error_responses(
    *("not-found", "invalid-key", "not-ready", "invalid-request"),
    *("corrupt-chunk", "preview-missing"),
)
UNCHANGED: dict[int | str, dict[str, Any]] = {
    304: {"description": "The copy with this ETag is current."}
}
PNG_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "One pixel per cell; what it shows is in X-Gramian- headers.",
        "content": {PNG: {"schema": {"type": "string", "format": "binary"}}},
    },
}


@router.get(
    "/{id}/preview.png",
    summary="A picture of a part of an array",
    response_class=Response,
    responses={**PNG_ANSWER, **UNCHANGED, **_ERRORS},
)
def get_picture(
    services: ServicesDep,
    caller: CallerDep,
    request: Request,
    matrix_id: MatrixIdPath,
    window: WindowDep,
    coloring: ColorDep,
    size: SizeQuery = None,
    array: ArrayQuery = None,
) -> Response:
    """A heat map, made from the previews of tiles, or from the entries themselves if the window
    has hardly more of them than the picture has pixels. An array of one dimension appears as one
    column; of more than two, all dimensions but the first are its columns. `X-Gramian-Rows`,
    `-Cols`, `-Cell`, `-Level` and `-Scale` say what is seen. Numbers that are not finite are
    magenta."""
    record = _sealed(services, caller.visible_to, matrix_id)
    check_scale(coloring)
    etag = picture_etag(record, array, window, size, coloring)
    if matches_etag(request.headers.get("if-none-match"), etag):
        return unchanged(etag)
    source = source_of(services, record, array)
    cells = look(services, source, window, size or DEFAULT_SIZE)
    return png_response(source, cells, coloring, {"ETag": etag, "Cache-Control": IMMUTABLE})


@router.get(
    "/{id}/preview",
    summary="Means of the cells of a picture",
    response_class=Response,
    responses={
        200: {
            "description": "The mean of every cell, rows by columns.",
            "content": {
                NPY: {"schema": {"type": "string", "format": "binary"}},
                "application/json": {"schema": {"$ref": "#/components/schemas/PreviewOut"}},
            },
        },
        **UNCHANGED,
        **_ERRORS,
        **error_responses("not-acceptable"),
    },
)
def get_preview(
    services: ServicesDep,
    caller: CallerDep,
    request: Request,
    matrix_id: MatrixIdPath,
    window: WindowDep,
    size: SizeQuery = None,
    array: ArrayQuery = None,
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> Response:
    """The numbers behind `preview.png`, to be drawn by whoever asks: `.npy` in the dtype of the
    array by default, JSON for few. Small windows come exact, entry by entry (cell 1)."""
    record = _sealed(services, caller.visible_to, matrix_id)
    media_type = choose_media_type(accept)
    etag = _etag(record, media_type, array, *window, size)
    if matches_etag(request.headers.get("if-none-match"), etag):
        return unchanged(etag)
    source = source_of(services, record, array)
    most = services.settings.max_json_numbers
    default = DEFAULT_SIZE if media_type == NPY else min(DEFAULT_SIZE, math.isqrt(most))
    cells = look(services, source, window, size or default)
    scale = heatmap.finite_range(cells.means)
    headers = {
        **described(source, cells, scale),
        "ETag": etag,
        "Cache-Control": IMMUTABLE,
        "Vary": "Accept",
    }
    if media_type == NPY:
        means = np.where(cells.filled, cells.means, np.nan).astype(f"<{cells.means.dtype.str[1:]}")
        return Response(npy_bytes(means), media_type=NPY, headers=headers)
    if cells.means.size > most:
        raise TooLargeError(
            f"This picture has {cells.means.size} cells; JSON carries at most {most}.",
            advice=f"Ask for Accept: {NPY}, or for a smaller size.",
            limit_numbers=most,
        )
    view = cells.view
    document = PreviewOut(
        array=source.layout.name,
        shape=list(source.layout.shape),
        dtype=source.layout.dtype,
        rows=(view.rows.start, view.rows.stop),
        cols=(view.cols.start, view.cols.stop),
        cell=view.cell[0],
        cell_columns=view.cell[1],
        level=view.step,
        exact=view.cell == (1, 1),
        low=scale and scale.low,
        high=scale and scale.high,
        holes=cells.holes,
        values=json_safe(cells.means.tolist()),
    )
    return JSONResponse(document.model_dump(mode="json"), headers=headers)


@router.get(
    "/{id}/statistics",
    summary="What the numbers are like",
    responses={**UNCHANGED, **_ERRORS},
    response_model=StatisticsOut,
)
def get_statistics(
    services: ServicesDep,
    caller: CallerDep,
    request: Request,
    matrix_id: MatrixIdPath,
    array: ArrayQuery = None,
) -> Response:
    """Range and diagonal, exact; and a histogram of the entries of small arrays, or of the
    means of cells of large ones (`histogram.of` says which)."""
    record = _sealed(services, caller.visible_to, matrix_id)
    etag = _etag(record, "statistics", array)
    if matches_etag(request.headers.get("if-none-match"), etag):
        return unchanged(etag)
    source = source_of(services, record, array)
    summary = services.catalog.tile_summary(record.id, source.layout.name)
    complete = summary.tiles == source.layout.stored_chunks
    found = statistics(source, limits_of(services), summary if complete else None)
    document = StatisticsOut.model_validate(json_safe(found))
    return JSONResponse(
        document.model_dump(mode="json"),
        headers={"ETag": etag, "Cache-Control": IMMUTABLE},
    )


def limits_of(services: Services) -> ReadLimits:
    settings = services.settings
    return ReadLimits(
        read_bytes=settings.max_preview_read_bytes,
        rebuild_bytes=settings.max_preview_rebuild_bytes,
        tiles=settings.max_preview_tiles,
    )


def source_of(services: Services, record: MatrixRecord, array: str | None) -> Source:
    """Raises InvalidRequestError, NotFoundError for an array that it does not have."""
    manifest = MatrixManifest.from_json(record.manifest)
    return Source(services.blobs, manifest, choose_array(manifest, array), sealed=record.sealed)


def look(services: Services, source: Source, window: WindowQuery, size: int) -> Cells:
    """Read what a picture shows. Raises what `fit` and `read_cells` raise."""
    height, width = flat_shape(source.layout.shape)
    limits = limits_of(services)
    view = fit(
        source.layout,
        source.pyramid,
        parse_slice(window.rows, height, "rows"),
        parse_slice(window.cols, width, "cols"),
        size=size,
        limits=limits,
        entries=source.sealed,
    )
    return read_cells(source, view, limits)


def png_response(
    source: Source, cells: Cells, coloring: ColorQuery, headers: dict[str, str]
) -> Response:
    if coloring.low is not None and coloring.high is not None:
        scale: Scale | None = Scale(coloring.low, coloring.high)
    else:
        scale = heatmap.scale_for(heatmap.finite_range(cells.means), coloring.colors)
    drawn = heatmap.draw(cells.means, cells.filled, scale, coloring.colors)
    about = described(source, cells, scale)
    return Response(drawn, media_type=PNG, headers={**about, **headers})


def check_scale(coloring: ColorQuery) -> None:
    """Raises InvalidRequestError unless low and high are both given, in order, or both not."""
    low, high = coloring.low, coloring.high
    if (low is None) != (high is None) or (low is not None and high is not None and low >= high):
        raise InvalidRequestError(
            "low and high must both be given, low below high, or both be left out.",
            advice="Leave both out for a scale from the lowest to the highest number shown.",
        )


def described(source: Source, cells: Cells, scale: Scale | None) -> dict[str, str]:
    """Headers that say what a picture shows."""
    view = cells.view
    return {
        "X-Gramian-Array": source.layout.name,
        "X-Gramian-Shape": ",".join(map(str, source.layout.shape)),
        "X-Gramian-Rows": f"{view.rows.start},{view.rows.stop}",
        "X-Gramian-Cols": f"{view.cols.start},{view.cols.stop}",
        "X-Gramian-Cell": str(view.cell[0]),
        "X-Gramian-Cell-Columns": str(view.cell[1]),
        "X-Gramian-Level": str(view.step),
        "X-Gramian-Scale": "" if scale is None else f"{scale.low!r},{scale.high!r}",
        "X-Gramian-Holes": str(cells.holes),
    }


DESCRIPTION_HEADERS = (
    *("X-Gramian-Array", "X-Gramian-Shape", "X-Gramian-Rows", "X-Gramian-Cols"),
    *("X-Gramian-Cell", "X-Gramian-Cell-Columns", "X-Gramian-Level"),
    *("X-Gramian-Scale", "X-Gramian-Holes"),
)


def _sealed(services: Services, visible_to: str | None, matrix_id: str) -> MatrixRecord:
    record = services.catalog.get_matrix(check_matrix_id(matrix_id), visible_to=visible_to)
    if not record.sealed:
        raise NotReadyError(
            "The matrix is not complete.",
            advice="Wait for its job; /v1/jobs/{id}/preview.png shows what is there.",
            state=str(record.state),
        )
    return record


def picture_etag(
    record: MatrixRecord,
    array: str | None,
    window: WindowQuery,
    size: int | None,
    coloring: ColorQuery,
) -> str:
    return _etag(record, "png", heatmap.DRAWING, array, *window, size, *coloring)


def _etag(record: MatrixRecord, *asked: object) -> str:
    """What is asked of which numbers: sealed matrices never change."""
    return f'"{blake3(repr((record.digest, asked)).encode()).hexdigest(16)}"'


def unchanged(etag: str) -> Response:
    return Response(status_code=304, headers={"ETag": etag, "Cache-Control": IMMUTABLE})
