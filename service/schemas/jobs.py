"""Wire models of jobs and estimates."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import ConfigDict, Field
from pydantic.config import JsonDict

from service.schemas.common import (
    EXAMPLE_DATASET,
    EXAMPLE_JOB,
    EXAMPLE_MATRIX,
    JobId,
    MatrixId,
    Wire,
)

StateName = Literal["queued", "running", "succeeded", "failed", "cancelled"]

EXAMPLE_ESTIMATE: JsonDict = {
    "tiles": 36,
    "tile_rows": 512,
    "pairs": 8_002_000,
    "flops": 1.3e10,
    "bytes_written": 37_748_880,
    "preview_bytes": 742_000,
    "peak_bytes_per_worker": 410_000_000,
    "seconds": 1.9,
    "workers": 2,
    "basis": "measured",
}

_EXAMPLE: JsonDict = {
    "id": EXAMPLE_JOB,
    "owner": "alice",
    "type": "gram",
    "state": "running",
    "cancelling": False,
    "task": {
        "type": "gram",
        "kernel": {"preset": "fc", "depth": 3},
        "x1": EXAMPLE_DATASET,
        "outputs": ["ntk"],
    },
    "progress": {
        "phase": "computing",
        "fraction": 0.5,
        "tiles_done": 18,
        "tiles_total": 36,
        "bytes_written": 18_874_440,
        "tiles_per_second": 19.0,
        "seconds_left": 0.95,
    },
    "estimate": EXAMPLE_ESTIMATE,
    "matrix": EXAMPLE_MATRIX,
    "error": None,
    "attempts": 1,
    "created_at": "2026-11-22T10:00:00Z",
    "started_at": "2026-11-22T10:00:01Z",
    "finished_at": None,
    "links": {
        "self": f"/v1/jobs/{EXAMPLE_JOB}",
        "events": f"/v1/jobs/{EXAMPLE_JOB}/events",
        "result": f"/v1/jobs/{EXAMPLE_JOB}/result",
        "matrix": f"/v1/matrices/{EXAMPLE_MATRIX}",
    },
}


class JobError(Wire):
    """Why a job failed, in the vocabulary of the problem documents."""

    model_config = ConfigDict(frozen=True, extra="allow")

    kind: str
    message: str
    advice: str


class JobOut(Wire):
    """One job: `queued -> running -> succeeded | failed | cancelled`; ended jobs never change."""

    model_config = ConfigDict(frozen=True, json_schema_extra={"examples": [_EXAMPLE]})

    id: JobId
    owner: str | None = Field(
        description="Who submitted it first; later ones who ask for the same own it too."
    )
    type: str
    state: StateName
    cancelling: bool = Field(description="A cancellation was asked for and has not ended yet.")
    task: dict[str, Any]
    progress: dict[str, Any] | None = Field(
        description="`phase`, `fraction` in [0, 1] and numbers that depend on the task: tiles,"
        " bytes, seconds left; or applications and residual."
    )
    estimate: dict[str, Any] | None
    matrix: MatrixId | None = Field(description="The matrix that the job builds.")
    error: JobError | None
    attempts: int = Field(description="How often a runner took the job up (restarts add one).")
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    links: dict[str, str]


class JobResult(Wire):
    """What a job that succeeded has made; the numbers in `summary` depend on the task."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "job": EXAMPLE_JOB,
                    "matrix": EXAMPLE_MATRIX,
                    "summary": {"tiles": 36, "seconds": 1.8, "digest": "9c0e" + "0" * 60},
                    "links": {
                        "matrix": f"/v1/matrices/{EXAMPLE_MATRIX}",
                        "zarr": f"/v1/matrices/{EXAMPLE_MATRIX}/zarr",
                    },
                }
            ]
        },
    )

    job: JobId
    matrix: MatrixId | None
    summary: dict[str, Any]
    links: dict[str, str]


class EstimateOut(Wire):
    """What a job would cost, and whether it would be accepted now."""

    model_config = ConfigDict(
        frozen=True,
        json_schema_extra={
            "examples": [
                {
                    "estimate": EXAMPLE_ESTIMATE,
                    "matrix": EXAMPLE_MATRIX,
                    "admitted": True,
                    "refusal": None,
                }
            ]
        },
    )

    estimate: dict[str, Any] = Field(
        description="Numbers with their unit in the name; `basis` tells whether `seconds` rests"
        " on measurements on this service or on the cost model. Where training is followed in"
        " passes over a stored matrix, `applications` is an upper bound and `applications_basis`"
        " says from what: the trace of the matrix, the service's limit, or the request itself;"
        " `model`: it is about that number. `scratch_bytes`: of the store, while the job runs."
    )
    matrix: MatrixId | None = Field(
        description="The id that the result would have; null if it is a summary without arrays."
    )
    admitted: bool
    refusal: dict[str, Any] | None = Field(
        description="The problem document that POST /v1/jobs would answer with now."
    )
