"""The task type `submatrix`: chosen rows and columns of a stored Gram matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.inputs import symmetric_gram
from service.jobs.plans import Plan
from service.jobs.progress import Reporter
from service.jobs.tile_runs import run_tiles, stored_manifest
from service.schemas.common import EXAMPLE_MATRIX
from service.schemas.tasks import OnGram
from storage.catalog import JobRecord
from storage.format import MatrixManifest
from workers.estimate import Estimate
from workers.gram import request_digest
from workers.memory import WORKER_BASE_BYTES
from workers.solves.source import StoredTiles
from workers.submatrix import estimate_submatrix, submatrix_manifest

Indices = Annotated[
    tuple[Annotated[int, Field(ge=0)], ...],
    Field(strict=False, min_length=1, max_length=1 << 20),
]


class SubmatrixTask(OnGram):
    """Take chosen rows and columns out of a stored symmetric Gram matrix: a part of a training
    set, or the observed pixels of an image. With rows alone the result is symmetric and solves
    like any Gram matrix; with columns it is the cross-Gram that belongs to the result with these
    columns as rows. Targets are one per chosen row, in a data set of their own."""

    type: Literal["submatrix"]
    rows: Indices = Field(description="Ascending, from 0 on.")
    columns: Indices | None = Field(
        default=None, description="Likewise; null: the rows, symmetric.", strict=False
    )


class SubmatrixJobs:
    """The task type `submatrix`."""

    name: ClassVar[str] = "submatrix"
    schema: ClassVar[type[SubmatrixTask]] = SubmatrixTask
    examples: ClassVar[Mapping[str, dict[str, Any]]] = MappingProxyType(
        {
            "submatrix": {
                "summary": "The Gram matrix of a part of the samples",
                "value": {"matrix": EXAMPLE_MATRIX, "rows": [0, 1, 4, 7]},
            },
            "submatrix-cross": {
                "summary": "The others against them",
                "value": {"matrix": EXAMPLE_MATRIX, "rows": [2, 3], "columns": [0, 1, 4, 7]},
            },
        }
    )

    def plan(self, context: JobContext, task: dict[str, Any]) -> Plan:
        """Raises NotFoundError, NotReadyError, InvalidSolveError."""
        request = SubmatrixTask.model_validate(task)
        source = symmetric_gram(context, request.matrix, request.array)
        manifest = submatrix_manifest(
            source,
            np.array(request.rows, np.int64),
            None if request.columns is None else np.array(request.columns, np.int64),
            compute_block_rows=context.settings.compute_block_rows,
            max_chunk_bytes=context.settings.max_chunk_bytes,
            workers=context.compute.expected_workers(),
        )
        manifest = stored_manifest(context, manifest.id) or manifest
        return Plan(
            manifest=manifest,
            request_digest=request_digest({"task": self.name, "matrix": manifest.id}),
            estimate=_estimate(context, source, manifest).to_json(),
        )

    def run(
        self,
        context: JobContext,
        job: JobRecord,
        manifest: MatrixManifest | None,
        reporter: Reporter,
        should_stop: Callable[[], bool],
    ) -> dict[str, Any] | None:
        assert manifest is not None  # every plan of this type has one
        request = manifest.provenance["request"]
        source = symmetric_gram(context, request["matrix"], request["array"])
        return run_tiles(
            context,
            job,
            manifest,
            reporter,
            should_stop,
            seconds_per_tile=_estimate(context, source, manifest).seconds_per_tile,
            rate_key=None,
        )


def _estimate(context: JobContext, source: StoredTiles, manifest: MatrixManifest) -> Estimate:
    return estimate_submatrix(
        source,
        manifest,
        workers=context.compute.expected_workers(),
        worker_base_bytes=WORKER_BASE_BYTES,
    )
