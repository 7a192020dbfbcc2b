"""The task type `gram`: the Gram matrix of a data set, or of one data set against another."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.tasks.inputs import dataset
from service.jobs.tile_runs import TileCost, TiledTask, stored_manifest
from service.schemas.common import EXAMPLE_DATASET, EXAMPLE_TEST_SET, DatasetId
from service.schemas.tasks import Asked
from storage.datasets import DatasetInfo
from storage.format import MatrixManifest
from workers.driver import ComputeBatch
from workers.estimate import Estimate, estimate_gram, rate_key, seconds_per_pair_model
from workers.gram import TileLimits, gram_dtype, plan_gram
from workers.kernels.presets import preset_model
from workers.kernels.spec import KernelSpec, parse_kernel
from workers.memory import WORKER_BASE_BYTES
from workers.tiles import GramTask as GramTiles
from workers.tiles import TileTask, compute_batch

Output = Literal["nngp", "ntk"]
DTypeName = Literal["float32", "float64"]


class GramTask(Asked):
    """Compute a Gram matrix: `x1` against itself (symmetric), or `x1` (rows) against `x2`
    (columns). For predictions, `x1` is the test set and `x2` the training set."""

    type: Literal["gram"]
    kernel: str | dict[str, Any] = Field(
        description="A preset name, a preset with parameters, or a list of layers;"
        " see /v1/kernels.",
    )
    x1: DatasetId = Field(description="Data set of the rows.")
    x2: DatasetId | None = Field(
        default=None, description="Data set of the columns; null: the symmetric Gram of x1."
    )
    outputs: tuple[Output, ...] | None = Field(
        default=None,
        strict=False,
        min_length=1,
        max_length=2,
        description="Both come from one pass. Null: what the preset says, else the NTK.",
    )
    dtype: DTypeName | None = Field(
        default=None, description="Null: that of the data (float64 if either set is)."
    )
    tile_rows: int | None = Field(
        default=None,
        ge=1,
        le=1 << 20,
        description="Edge of a tile; null: chosen from cost and memory. Never changes the values.",
    )


class GramJobs(TiledTask):
    """The task type `gram`."""

    name: ClassVar[str] = "gram"
    schema: ClassVar[type[GramTask]] = GramTask
    examples: ClassVar[Mapping[str, dict[str, Any]]] = MappingProxyType(
        {
            "gram": {
                "summary": "The NTK of a data set",
                "value": {
                    "kernel": {"preset": "fc", "depth": 3},
                    "x1": EXAMPLE_DATASET,
                    "outputs": ["ntk"],
                },
            },
            "cross-gram": {
                "summary": "Test set against training set",
                "value": {
                    "kernel": {
                        "layers": [
                            {"op": "dense", "w_std": 1.4142135623730951},
                            {"op": "activation", "fn": "relu"},
                            {"op": "dense"},
                        ]
                    },
                    "x1": EXAMPLE_TEST_SET,
                    "x2": EXAMPLE_DATASET,
                    "outputs": ["nngp", "ntk"],
                    "dtype": "float32",
                },
            },
        }
    )

    def manifest(self, context: JobContext, task: GramTask) -> MatrixManifest:
        """Raises NotFoundError, InvalidKernelError, InvalidGramError."""
        spec = parse_kernel(task.kernel)
        x1 = dataset(context.catalog, task.x1)
        x2 = None if task.x2 is None else dataset(context.catalog, task.x2)
        return _manifest(context, task, spec, x1, x2)

    def cost(self, context: JobContext, manifest: MatrixManifest) -> TileCost:
        spec, x1, _ = _inputs(context, manifest)
        estimate = _estimate(context, spec, x1, manifest)
        return TileCost(estimate, rate_key(spec, x1, manifest))

    def tiles(
        self, context: JobContext, manifest: MatrixManifest, common: dict[str, Any]
    ) -> tuple[TileTask, ComputeBatch]:
        spec, x1, x2 = _inputs(context, manifest)
        return GramTiles(**common, kernel=spec.canonical(), x1=x1, x2=x2), compute_batch


def _inputs(
    context: JobContext, manifest: MatrixManifest
) -> tuple[KernelSpec, DatasetInfo, DatasetInfo | None]:
    request = manifest.provenance["request"]
    x2 = None if request["x2"] is None else dataset(context.catalog, request["x2"])
    return parse_kernel(request["kernel"]), dataset(context.catalog, request["x1"]), x2


def cross_tiling(
    context: JobContext,
    spec: KernelSpec,
    x1: DatasetInfo,
    x2: DatasetInfo,
    *,
    dtype: DTypeName,
    output: Output,
    tile_rows: int | None,
) -> tuple[MatrixManifest, Estimate]:
    """The cross-Gram of `x1` and `x2` as a gram job would cut it, and what its tiles cost.

    `tile_rows` None: chosen as for a job. Raises InvalidKernelError, InvalidGramError.
    """
    request = GramTask(
        type="gram",
        kernel=spec.canonical(),
        x1=x1.id,
        x2=x2.id,
        outputs=(output,),
        dtype=dtype,
        tile_rows=tile_rows,
    )
    manifest = _manifest(context, request, spec, x1, x2)
    return manifest, _estimate(context, spec, x1, manifest)


def _manifest(
    context: JobContext,
    request: GramTask,
    spec: KernelSpec,
    x1: DatasetInfo,
    x2: DatasetInfo | None,
) -> MatrixManifest:
    """The manifest that a job for this request would use.

    A matrix that was begun keeps its tile size. Otherwise tiles shrink, unless the request names
    their size, until the projected memory fits a worker.
    """
    settings = context.settings
    dtype = gram_dtype(x1, x2, request.dtype)
    outputs = request.outputs or _default_outputs(request.kernel)

    def planned(tile_rows: int | None, seconds_per_pair: float) -> MatrixManifest:
        return plan_gram(
            spec,
            x1,
            x2,
            dtype=dtype,
            outputs=outputs,
            tile_rows=tile_rows,
            limits=TileLimits(
                compute_block_rows=settings.compute_block_rows,
                max_chunk_bytes=settings.max_chunk_bytes,
                max_tile_seconds=settings.max_tile_seconds,
            ),
            workers=context.compute.expected_workers(),
            seconds_per_pair=seconds_per_pair,
        )

    wanted_rows = request.tile_rows or settings.tile_rows or None
    manifest = planned(wanted_rows, seconds_per_pair_model(spec, x1, dtype))
    begun = stored_manifest(context, manifest.id)
    if begun is not None:
        return begun
    if wanted_rows is not None:
        return manifest
    measured = context.catalog.rate(rate_key(spec, x1, manifest))
    if measured is not None:
        manifest = planned(None, measured)
    limit_bytes = context.compute.limit_bytes()
    tile_rows = manifest.arrays[0].chunk_shape[0]
    while (
        tile_rows > manifest.block_rows
        and _estimate(context, spec, x1, manifest).peak_bytes_per_worker > limit_bytes
    ):
        tile_rows //= 2
        manifest = planned(tile_rows, 0.0)
    return manifest


def _default_outputs(kernel: str | dict[str, Any]) -> tuple[str, ...]:
    preset = kernel if isinstance(kernel, str) else kernel.get("preset")
    return preset_model(preset).outputs if isinstance(preset, str) else ("ntk",)


def _estimate(
    context: JobContext, spec: KernelSpec, x1: DatasetInfo, manifest: MatrixManifest
) -> Estimate:
    return estimate_gram(
        spec,
        x1,
        manifest,
        workers=context.compute.expected_workers(),
        panel_cache_bytes=context.settings.panel_cache_bytes,
        worker_base_bytes=WORKER_BASE_BYTES,
        measured_seconds_per_pair=context.catalog.rate(rate_key(spec, x1, manifest)),
    )
