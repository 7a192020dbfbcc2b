"""The task type `predict`: predictions for new inputs from the dual coefficients of a solve."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from service.jobs.context import JobContext
from service.jobs.progress import Pace
from service.jobs.results import ResultTask, Running, Work, write_arrays
from service.jobs.tasks.gram import Output, cross_tiling
from service.jobs.tasks.inputs import (
    dataset,
    own_targets,
    required_targets,
    rows_dataset,
    targets_of,
)
from service.schemas.common import EXAMPLE_SOLUTION, EXAMPLE_TEST_SET, DatasetId, MatrixId
from service.schemas.tasks import Asked
from storage import matrices
from storage.datasets import DatasetInfo
from storage.format import MatrixManifest
from workers.driver import DriverSettings
from workers.estimate import Estimate
from workers.kernels.spec import KernelSpec, parse_kernel
from workers.memory import WORKER_BASE_BYTES
from workers.one_worker import Computed, Written
from workers.predictions.products import ProductTask
from workers.predictions.run import begun_tile_rows, run_predictions
from workers.solves.block_operator import BlockOperator
from workers.solves.errors import InvalidSolveError, SolveInterrupted
from workers.solves.memory import placement_bytes
from workers.solves.predict import predict, score
from workers.solves.prepare import checked_test_targets, cross_tiles
from workers.solves.solution import Float64
from workers.solves.source import StoredTiles
from workers.tiles import TileResult

DUAL = "dual"
# Decoded and encoded chunk of the dual coefficients that a worker reads for a tile.
_DUAL_CHUNK_BYTES = 16 << 20
_READ_BYTES_PER_SECOND = 0.5e9


class PredictTask(Asked):
    """Predictions K(X*, X) A for new inputs X*, with the dual coefficients A of a finished solve.

    Named by `x`, the kernel of the new inputs with the training set is computed tile by tile,
    multiplied and forgotten. To keep it, make a cross-Gram with a `gram` task and name it in
    `cross`."""

    type: Literal["predict"]
    solution: MatrixId = Field(description="The sealed result of a solve, with the array `dual`.")
    x: DatasetId | None = Field(default=None, description="Data set of the new inputs.")
    cross: MatrixId | None = Field(
        default=None,
        description="Instead of `x`: a sealed cross-Gram (new rows, training columns).",
    )
    targets: DatasetId | None = Field(
        default=None,
        description="Data set whose targets the predictions are compared with; null: those of the"
        " new inputs, if they have some.",
    )

    @model_validator(mode="after")
    def _one_source(self) -> PredictTask:
        if (self.x is None) == (self.cross is None):
            raise ValueError("name either the new inputs (x) or a stored cross-Gram (cross)")
        return self


@dataclass(frozen=True)
class _Solution:
    """A solve that is finished, and what it was a solve of."""

    manifest: MatrixManifest
    gram: StoredTiles
    classes: NDArray[np.int64] | None
    encoding: Any

    @property
    def columns(self) -> int:
        return self.manifest.array(DUAL).shape[1]

    @property
    def train(self) -> str:
        return rows_dataset(self.gram.manifest)


def prepare(context: JobContext, task: PredictTask) -> Work:
    """Raises NotFoundError, NotReadyError, InvalidSolveError, InvalidGramError,
    InvalidKernelError."""
    solution = _solution(context, task.solution)
    if task.cross is not None:
        context.catalog.get_matrix(task.cross)
        array = solution.gram.array
        cross = cross_tiles(context.blobs, task.cross, array, solution.gram)
        rows, new = cross.layout.shape[0], own_targets(cross.manifest)
    else:
        assert task.x is not None  # the schema has seen to that
        rows, new = dataset(context.catalog, task.x).samples, task.x
    values = None if new is None else targets_of(context, new)
    if task.targets is not None:
        values = required_targets(context, task.targets)
    if values is not None:
        values = checked_test_targets(
            values,
            rows,
            labels=solution.classes is not None,
            columns=solution.columns,
            encoding=solution.encoding,
        )
    job = (
        _Stored(solution, cross, values) if task.cross is not None
        else _streamed(context, solution, dataset(context.catalog, str(task.x)), values)
    )  # fmt: skip
    return Work(
        determines={
            "solution": task.solution,
            "x": task.x,
            "cross": task.cross,
            "targets": (task.targets or new) if values is not None else None,
            "train": own_targets(solution.gram.manifest),
        },
        cost=job.cost(context),
        run=job.run,
        arrays={"predictions": (rows, solution.columns)},
    )


def _solution(context: JobContext, matrix_id: str) -> _Solution:
    context.catalog.get_matrix(matrix_id)  # what the catalog does not know is not offered
    manifest = matrices.load_manifest(context.blobs, matrix_id)
    matrices.require_sealed(context.blobs, matrix_id)
    request = manifest.provenance.get("request", {})
    shapes = {layout.name: layout.shape for layout in manifest.arrays}
    if manifest.kind != "solution" or len(shapes.get(DUAL, ())) != 2 or "matrix" not in request:
        raise InvalidSolveError(
            f"Matrix {matrix_id} holds no dual coefficients of a solve.",
            advice="Name the result of a solve task; gramian status shows its id.",
        )
    gram = StoredTiles(
        context.blobs.url,
        matrices.load_manifest(context.blobs, request["matrix"]),
        request.get("array", "ntk"),
    )
    if gram.layout.shape[0] != shapes[DUAL][0]:
        raise InvalidSolveError(
            f"The dual has {shapes[DUAL][0]} rows; the Gram matrix has {gram.layout.shape[0]}.",
            advice="Solve again.",
        )
    summary = matrices.attributes(context.blobs, matrix_id).get("result", {})
    classes = summary.get("classes")
    return _Solution(
        manifest,
        gram,
        None if classes is None else np.asarray(classes, dtype=np.int64),
        request.get("encoding", "auto"),
    )


def _computed(values: Float64, solution: _Solution, targets: NDArray[Any] | None) -> Computed:
    classes = solution.classes
    summary = {
        "rows": len(values),
        "classes": None if classes is None else classes.tolist(),
        **score(values, targets, classes),
    }
    return Computed(summary, {"predictions": values})


@dataclass(frozen=True)
class _Stored:
    """Predictions through a cross-Gram that is in the store: one pass over it."""

    solution: _Solution
    cross: StoredTiles
    targets: NDArray[Any] | None

    def cost(self, context: JobContext) -> dict[str, Any]:
        layout, columns = self.cross.layout, self.solution.columns
        workers = context.compute.expected_workers()
        projected = placement_bytes(
            layout, rhs=columns, rank=0, workers=workers, base_bytes=WORKER_BASE_BYTES
        )
        return {
            "seconds": layout.stored_bytes / _READ_BYTES_PER_SECOND / max(workers, 1),
            "bytes_read": layout.stored_bytes,
            "flops": 2.0 * layout.shape[0] * layout.shape[1] * columns,
            "peak_bytes_per_worker": projected["stream"],
            "workers": workers,
            "basis": "model",
        }

    def run(self, running: Running) -> Written | None:
        context = running.context
        dual = matrices.read_slice(context.blobs, self.solution.manifest, DUAL, slice(None)).astype(
            np.float64
        )
        operator = BlockOperator(
            context.compute.client(),
            self.cross,
            placement="stream",
            should_stop=running.should_stop,
        )
        try:
            values = predict(operator, dual)
        except SolveInterrupted:
            return None
        finally:
            operator.close()
        return write_arrays(running, _computed(values, self.solution, self.targets))


def _streamed(
    context: JobContext, solution: _Solution, x: DatasetInfo, targets: NDArray[Any] | None
) -> _Streamed:
    gram = solution.gram
    request = gram.manifest.provenance["request"]
    if gram.array not in get_args(Output) or request.get("task", "gram") != "gram":
        raise InvalidSolveError(
            f"Matrix {gram.manifest.id} was not computed from a kernel of networks alone.",
            advice="Make the cross-Gram yourself and name it in `cross`.",
        )
    return _Streamed(
        solution, parse_kernel(request["kernel"]), x, dataset(context.catalog, solution.train),
        targets,
    )  # fmt: skip


@dataclass(frozen=True)
class _Streamed:
    """Predictions from tiles of a cross-Gram that are computed, multiplied and forgotten."""

    solution: _Solution
    spec: KernelSpec
    x: DatasetInfo
    train: DatasetInfo
    targets: NDArray[Any] | None

    def _tiling(
        self, context: JobContext, tile_rows: int | None
    ) -> tuple[MatrixManifest, Estimate]:
        gram = self.solution.gram
        return cross_tiling(
            context,
            self.spec,
            self.x,
            self.train,
            dtype=gram.layout.dtype,
            output=gram.array,  # type: ignore[arg-type]
            tile_rows=tile_rows,
        )

    def cost(self, context: JobContext) -> dict[str, Any]:
        manifest, estimate = self._tiling(context, None)
        vectors = 4 * 8 * manifest.arrays[0].chunk_shape[0] * self.solution.columns
        peak = estimate.peak_bytes_per_worker + vectors + _DUAL_CHUNK_BYTES
        return {**asdict(estimate), "peak_bytes_per_worker": peak}

    def run(self, running: Running) -> Written | None:
        assert running.manifest is not None  # there are always predictions
        context, reporter, pace = running.context, running.reporter, Pace()
        parts = matrices.scratch_key(running.manifest.id)
        cross, estimate = self._tiling(context, begun_tile_rows(context.blobs, parts))
        finished = 0

        def on_tiles(results: list[TileResult], done: int, total: int) -> None:
            nonlocal finished
            finished += len(results)
            pace.add(finished)
            context.metrics.count_tiles(results)
            reporter.report(
                {
                    "phase": "computing",
                    "fraction": done / total,
                    "tiles_done": done,
                    "tiles_total": total,
                    "tiles_resumed": done - finished,
                    "tiles_per_second": pace.per_second(),
                    "seconds_left": pace.seconds_left(total - done),
                },
                force=not results,
            )

        values = run_predictions(
            context.compute.client(),
            ProductTask(
                store_url=context.blobs.url,
                manifest=cross,
                kernel=self.spec.canonical(),
                x1=self.x,
                x2=self.train,
                panel_cache_bytes=context.settings.panel_cache_bytes,
                run=secrets.token_hex(8),
                solution=self.solution.manifest,
                dual=DUAL,
                parts=parts,
            ),
            on_tiles=on_tiles,
            should_stop=running.should_stop,
            seconds_per_tile=estimate.seconds_per_tile,
            settings=DriverSettings(
                batch_seconds=context.settings.batch_seconds,
                window_per_worker=context.settings.window_per_worker,
            ),
        )
        if values is None:
            return None
        return write_arrays(running, _computed(values, self.solution, self.targets))


PREDICT = ResultTask(
    name="predict",
    schema=PredictTask,
    examples={
        "predict": {
            "summary": "Predictions for new inputs; their kernel is not stored",
            "value": {"solution": EXAMPLE_SOLUTION, "x": EXAMPLE_TEST_SET},
        },
    },
    prepare=prepare,
    matrix_kind="predictions",
)
