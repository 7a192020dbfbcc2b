"""Data sets: upload, look at, delete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from fastapi import APIRouter, Header, Query, Request, Response
from fastapi import Path as PathParameter
from numpy.typing import NDArray
from starlette.concurrency import run_in_threadpool
from starlette.responses import JSONResponse

from service.access.identity import Caller
from service.access.ownership import give_up
from service.deps import CallerDep, PageDep, Services, ServicesDep
from service.errors import InsufficientStorageError, InvalidRequestError
from service.http.receive import ReceivedForm, received_form
from service.http.slices import (
    NPY,
    check_slice_size,
    choose_media_type,
    npy_bytes,
    parse_slice,
)
from service.jobs.quotas import check_stored_bytes
from service.routes.matrices import RowsQuery
from service.schemas.common import EXAMPLE_DATASET, Page, error_responses, link
from service.schemas.datasets import DatasetOut
from service.schemas.matrices import SliceOut
from service.views import dataset_view, next_link
from storage import datasets
from storage.catalog import DatasetRecord
from storage.errors import NotFoundError
from storage.keys import check_dataset_id
from storage.uploads import UploadLimits, read_upload

router = APIRouter(prefix="/v1/datasets", tags=["data sets"])

_FILES = frozenset({"x", "y"})
_VALUES = frozenset({"name"})
_MAX_NAME_CHARACTERS = 200

DatasetIdPath = Annotated[
    str,
    PathParameter(alias="id", max_length=100, openapi_examples={"id": {"value": EXAMPLE_DATASET}}),
]

_UPLOAD_BODY: dict[str, Any] = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "required": ["x"],
                "additionalProperties": False,
                "properties": {
                    "x": {
                        "type": "string",
                        "format": "binary",
                        "description": "Samples (m, ...) as .npy, or .npz with x and optional y.",
                    },
                    "y": {
                        "type": "string",
                        "format": "binary",
                        "description": "Targets as .npy: integer labels (m,) or real (m, k).",
                    },
                    "name": {"type": "string", "maxLength": _MAX_NAME_CHARACTERS},
                },
            },
            "examples": {
                "upload": {
                    "summary": "curl -F x=@train.npy -F y=@labels.npy -F name=train",
                    "value": {"x": "@train.npy", "y": "@labels.npy", "name": "train"},
                }
            },
        }
    },
}


_ID = "$response.body#/id"
_GRAM = {"type": "gram", "kernel": {"preset": "fc"}, "x1": f"{{{_ID}}}"}
_LINKS = {
    "dataset": link("get_dataset", id=_ID),
    "delete": link("delete_dataset", id=_ID),
    "gram": link("submit_job", {"task": _GRAM}),
    "estimate": link("estimate_job", {"task": _GRAM}),
}


@router.post(
    "",
    summary="Upload a data set",
    status_code=201,
    response_model=DatasetOut,
    responses={
        200: {
            "model": DatasetOut,
            "description": "The same content was there already.",
            "links": _LINKS,
        },
        201: {"description": "The data set is stored.", "links": _LINKS},
        **error_responses(
            *("invalid-array", "invalid-request", "unsupported-media-type"),
            *("insufficient-storage", "disk-full", "quota-exceeded"),
        ),
    },
    openapi_extra={"requestBody": _UPLOAD_BODY},
)
async def upload_dataset(
    services: ServicesDep, request: Request, response: Response, caller: CallerDep
) -> DatasetOut:
    """Takes `.npy` or `.npz` files, streamed to disk under a byte limit and never unpickled.

    The id is a function of the content, so uploading twice is harmless; who uploads what is there
    becomes one of its owners.
    """
    scratch = services.settings.scratch_dir
    form_parts = received_form(request, scratch, file_fields=_FILES, value_fields=_VALUES)
    async with form_parts as (form, folder):
        record, created = await run_in_threadpool(_store, services, caller, form, folder)
    response.status_code = 201 if created else 200
    view = dataset_view(record)
    response.headers["Location"] = view.links["self"]
    return view


@router.get("", summary="List data sets", responses=error_responses("invalid-request"))
def list_datasets(services: ServicesDep, caller: CallerDep, page: PageDep) -> Page[DatasetOut]:
    """Newest first."""
    records, cursor = services.catalog.list_datasets(
        page.limit, page.cursor, visible_to=caller.visible_to
    )
    return Page(
        items=[dataset_view(record) for record in records],
        next=next_link("/v1/datasets", cursor, limit=page.limit),
    )


@router.get("/{id}", summary="One data set", responses=error_responses("not-found", "invalid-key"))
def get_dataset(services: ServicesDep, caller: CallerDep, dataset_id: DatasetIdPath) -> DatasetOut:
    """Shape, dtype and targets of a data set."""
    record = services.catalog.get_dataset(
        check_dataset_id(dataset_id), visible_to=caller.visible_to
    )
    return dataset_view(record)


@router.get(
    "/{id}/rows",
    summary="Some samples or targets",
    response_class=Response,
    responses={
        200: {
            "description": "The rows asked for.",
            "content": {
                NPY: {"schema": {"type": "string", "format": "binary"}},
                "application/json": {"schema": {"$ref": "#/components/schemas/SliceOut"}},
            },
        },
        **error_responses("not-found", "invalid-key", "not-acceptable", "invalid-request"),
    },
)
def get_rows(
    services: ServicesDep,
    caller: CallerDep,
    dataset_id: DatasetIdPath,
    rows: RowsQuery = None,
    part: Annotated[Literal["x", "y"], Query(description="Samples or targets.")] = "x",
    accept: Annotated[str, Header(include_in_schema=False)] = "*/*",
) -> Response:
    """`.npy` by default (`numpy.load`), JSON for few numbers with `Accept: application/json`."""
    record = services.catalog.get_dataset(
        check_dataset_id(dataset_id), visible_to=caller.visible_to
    )
    info = datasets.DatasetInfo.from_json(record.info)
    media_type = choose_media_type(accept)
    wanted = parse_slice(rows, info.samples, "rows")
    source = info if part == "x" else info.targets
    if source is None:
        raise NotFoundError("The data set has no targets.", advice="Ask for part=x.")
    shape = (wanted.stop - wanted.start, *source.shape[1:])
    check_slice_size(services.settings, shape, np.dtype(source.dtype).itemsize, media_type)
    values: NDArray[Any] | None
    if part == "x":
        values = datasets.read_rows(services.blobs, info, wanted.start, wanted.stop)
    else:
        values = datasets.read_targets(services.blobs, info)
        assert values is not None  # it has targets: see above
        values = values[wanted]
    if media_type == NPY:
        return Response(npy_bytes(values), media_type=NPY)
    return JSONResponse(
        SliceOut(
            array=part,
            rows=(wanted.start, wanted.stop),
            cols=None,
            dtype=source.dtype,
            values=values.tolist(),
        ).model_dump(mode="json")
    )


@router.delete(
    "/{id}",
    summary="Delete a data set",
    status_code=204,
    responses=error_responses("not-found", "invalid-key", "conflict"),
)
def delete_dataset(services: ServicesDep, caller: CallerDep, dataset_id: DatasetIdPath) -> None:
    """Refused while an open job or a stored matrix depends on it. A data set that others own too
    stays for them."""
    with services.context.names:
        catalog = services.catalog
        catalog.get_dataset(check_dataset_id(dataset_id), visible_to=caller.visible_to)
        if not give_up(catalog, caller, dataset_id):
            return
        catalog.delete_dataset(dataset_id)
        datasets.delete(services.blobs, dataset_id)


def _store(
    services: Services, caller: Caller, form: ReceivedForm, folder: Path
) -> tuple[DatasetRecord, bool]:
    """Check and keep an uploaded data set; the record, and whether the content is new.

    Raises InvalidArrayError, TooLargeError, InsufficientStorageError, InvalidRequestError,
    QuotaExceededError.
    """
    name = form.values.get("name") or None
    if name is not None and (len(name) > _MAX_NAME_CHARACTERS or not name.isprintable()):
        raise InvalidRequestError(
            f"The name is longer than {_MAX_NAME_CHARACTERS} characters or not printable.",
            advice="Names are labels for people; choose a short one.",
        )
    if "x" not in form.files:
        raise InvalidRequestError(
            "The part x with the samples is missing.", advice="curl -F x=@train.npy ..."
        )
    limits = UploadLimits(
        file_bytes=services.settings.max_upload_bytes,
        array_bytes=services.settings.max_dataset_bytes,
    )
    arrays: dict[str, NDArray[np.generic]] = {}
    for field, file in sorted(form.files.items()):
        found = read_upload(file.path, filename=file.filename, limits=limits, scratch=folder)
        if field == "y":
            if set(found) != {"x"}:
                raise InvalidRequestError(
                    "The part y must be one array.", advice="Save it with numpy.save."
                )
            found = {"y": found["x"]}
        if arrays.keys() & found.keys():
            raise InvalidRequestError(
                "Targets come twice: inside the .npz and as the part y.",
                advice="Send them once.",
            )
        arrays |= found
    needed = sum(array.nbytes for array in arrays.values())
    _check_space(services, needed)
    check_stored_bytes(services.catalog, caller, needed)
    while True:
        info = datasets.ingest(services.blobs, arrays["x"], arrays.get("y"), limits=limits)
        with services.context.names:
            try:
                datasets.load_info(services.blobs, info.id)
            except NotFoundError:
                continue  # the same content was deleted while it came in again
            created = not _is_known(services, info.id)
            record = services.catalog.add_dataset(info.to_json(), name, owner=caller.owner)
            return record, created


def _is_known(services: Services, dataset_id: str) -> bool:
    try:
        services.catalog.get_dataset(dataset_id)
    except NotFoundError:
        return False
    return True


def _check_space(services: Services, needed: int) -> None:
    free = services.blobs.free_bytes()
    reserve = services.settings.reserved_disk_bytes
    if free is not None and needed > free - reserve:
        raise InsufficientStorageError(
            f"The data set needs {needed} bytes; {free} are free, of which {reserve} stay"
            " reserved.",
            advice="Delete what is no longer needed, or use a larger disk.",
            needed_bytes=needed,
            free_bytes=free,
            reserved_disk_bytes=reserve,
        )
    quota = services.settings.max_store_bytes
    if quota and needed + (stored := services.catalog.stored_bytes()) > quota:
        raise InsufficientStorageError(
            f"The data set needs {needed} bytes. The store holds {stored}; its limit is {quota}.",
            advice="Delete what is no longer needed, or raise the setting max_store_bytes.",
            needed_bytes=needed,
            stored_bytes=stored,
            max_store_bytes=quota,
        )
