"""The task type `submatrix`: chosen rows and columns of a stored Gram matrix."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.tasks.inputs import symmetric_gram
from service.jobs.tile_runs import TileCost, TiledTask, stored_manifest
from service.schemas.common import EXAMPLE_MATRIX
from service.schemas.tasks import OnGram
from storage.format import MatrixManifest
from workers.driver import ComputeBatch
from workers.memory import WORKER_BASE_BYTES
from workers.solves.source import StoredTiles
from workers.submatrix import SubmatrixTask as SubmatrixTiles
from workers.submatrix import (
    compute_submatrix_batch,
    estimate_submatrix,
    submatrix_manifest,
    unpack_indices,
)
from workers.tiles import TileTask

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


class SubmatrixJobs(TiledTask):
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

    def manifest(self, context: JobContext, task: SubmatrixTask) -> MatrixManifest:
        """Raises NotFoundError, NotReadyError, InvalidSolveError."""
        manifest = submatrix_manifest(
            symmetric_gram(context, task.matrix, task.array),
            np.array(task.rows, np.int64),
            None if task.columns is None else np.array(task.columns, np.int64),
            compute_block_rows=context.settings.compute_block_rows,
            max_chunk_bytes=context.settings.max_chunk_bytes,
            workers=context.compute.expected_workers(),
        )
        return stored_manifest(context, manifest.id) or manifest

    def cost(self, context: JobContext, manifest: MatrixManifest) -> TileCost:
        estimate = estimate_submatrix(
            _source(context, manifest),
            manifest,
            workers=context.compute.expected_workers(),
            worker_base_bytes=WORKER_BASE_BYTES,
        )
        return TileCost(estimate)

    def tiles(
        self, context: JobContext, manifest: MatrixManifest, common: dict[str, Any]
    ) -> tuple[TileTask, ComputeBatch]:
        request, source = manifest.provenance["request"], _source(context, manifest)
        rows, columns = unpack_indices(request["rows"]), request["columns"]
        chosen = None if columns is None else unpack_indices(columns)
        task = SubmatrixTiles(**common, source=source, rows=rows, columns=chosen)
        return task, compute_submatrix_batch


def _source(context: JobContext, manifest: MatrixManifest) -> StoredTiles:
    request = manifest.provenance["request"]
    return symmetric_gram(context, request["matrix"], request["array"])
