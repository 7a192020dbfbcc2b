"""From catalog records to wire models. Links are paths, so they survive proxies and host names."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from service.errors import json_safe
from service.schemas.datasets import DatasetOut, TargetsOut
from service.schemas.jobs import JobError, JobOut, JobResult
from service.schemas.matrices import ArrayOut, MatrixOut
from storage.catalog import DatasetRecord, JobRecord, MatrixRecord, Target
from storage.datasets import DatasetInfo
from storage.format import MatrixManifest

API = "/v1"


def dataset_view(record: DatasetRecord) -> DatasetOut:
    info = DatasetInfo.from_json(record.info)
    targets = info.targets
    return DatasetOut(
        id=record.id,
        name=record.name,
        shape=list(info.shape),
        dtype=info.dtype,
        targets=targets and TargetsOut(shape=list(targets.shape), dtype=targets.dtype),
        stored_bytes=info.stored_bytes,
        digest=info.digest,
        created_at=record.created_at,
        links={"self": f"{API}/datasets/{record.id}"},
    )


def job_view(record: JobRecord) -> JobOut:
    path = f"{API}/jobs/{record.id}"
    links = {"self": path, "events": f"{path}/events", "result": f"{path}/result"}
    if record.matrix_id:
        links["matrix"] = f"{API}/matrices/{record.matrix_id}"
    return JobOut(
        id=record.id,
        owner=record.owner,
        type=str(record.task["type"]),
        state=record.state.value,
        cancelling=record.target is Target.CANCEL and not record.ended,
        task=record.task,
        progress=json_safe(record.progress),
        estimate=json_safe(record.estimate),
        matrix=record.matrix_id,
        error=JobError.model_validate(record.error) if record.error else None,
        attempts=record.attempts,
        created_at=record.created_at,
        started_at=record.started_at,
        finished_at=record.finished_at,
        links=links,
    )


def result_view(record: JobRecord) -> JobResult:
    """`record`: a job that succeeded."""
    result: dict[str, Any] = record.result or {}
    matrix = result.get("matrix")
    links = {"job": f"{API}/jobs/{record.id}"}
    if matrix:
        links |= {
            "matrix": f"{API}/matrices/{matrix}",
            "zarr": f"{API}/matrices/{matrix}/zarr",
        }
    return JobResult(
        job=record.id, matrix=matrix, summary=json_safe(result.get("summary", {})), links=links
    )


def matrix_view(record: MatrixRecord) -> MatrixOut:
    manifest = MatrixManifest.from_json(record.manifest)
    path = f"{API}/matrices/{record.id}"
    links = {"self": path}
    if record.sealed:
        links |= {"slice": f"{path}/slice", "zarr": f"{path}/zarr"}
    return MatrixOut(
        id=record.id,
        kind=record.kind,
        state=record.state.value,
        arrays=[
            ArrayOut(
                name=layout.name,
                shape=list(layout.shape),
                chunk_shape=list(layout.chunk_shape),
                dtype=layout.dtype,
                symmetric=layout.symmetric,
            )
            for layout in manifest.arrays
        ],
        digest=record.digest,
        stored_bytes=record.stored_bytes,
        provenance=manifest.provenance,
        created_at=record.created_at,
        sealed_at=record.sealed_at,
        links=links,
    )


def next_link(path: str, cursor: str | None, **parameters: str | int | None) -> str | None:
    """Path and query of the page after this one, or None."""
    if cursor is None:
        return None
    given = {name: value for name, value in parameters.items() if value is not None}
    return f"{path}?{urlencode({**given, 'cursor': cursor})}"
