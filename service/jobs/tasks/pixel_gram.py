"""The task type `pixel_gram`: the kernel of all pixel pairs of one or two images, as a matrix."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.tasks.gram import DTypeName, Output
from service.jobs.tasks.inputs import dataset
from service.jobs.tile_runs import TileCost, TiledTask, stored_manifest
from service.schemas.common import EXAMPLE_IMAGES, DatasetId
from service.schemas.tasks import Asked
from storage.datasets import DatasetInfo
from storage.format import MatrixManifest
from workers.driver import ComputeBatch
from workers.gram import gram_dtype
from workers.kernels.spec import KernelSpec, parse_kernel
from workers.memory import WORKER_BASE_BYTES
from workers.pixel_gram import (
    PixelTask,
    compute_pixel_batch,
    estimate_pixel_gram,
    pixel_manifest,
    pixel_rate_key,
)
from workers.tiles import TileTask


class PixelGramTask(Asked):
    """Compute the kernel of all pairs of pixels of an image, of a convolutional network without
    readout: a (P, Q, P, Q) tensor, stored as the symmetric matrix of P Q by P Q pixels, row by
    row, which every solve takes. Its provenance says `pixel_shape`: [P, Q]."""

    type: Literal["pixel_gram"]
    kernel: str | dict[str, Any] = Field(
        description="A list of layers that ends with a conv: no flatten, global_avg_pool or dense.",
    )
    x: DatasetId = Field(description="Data set of images (n, P, Q, C) or sequences (n, T, C).")
    image: int = Field(default=0, ge=0, description="Which of them, from 0 on.")
    other: int | None = Field(
        default=None,
        ge=0,
        description="Another image for the columns: the matrix is then not symmetric.",
    )
    outputs: tuple[Output, ...] = Field(
        default=("ntk",),
        strict=False,
        min_length=1,
        max_length=2,
        description="Both come from one pass.",
    )
    dtype: DTypeName | None = Field(default=None, description="Null: that of the data.")


class PixelGramJobs(TiledTask):
    """The task type `pixel_gram`."""

    name: ClassVar[str] = "pixel_gram"
    schema: ClassVar[type[PixelGramTask]] = PixelGramTask
    examples: ClassVar[Mapping[str, dict[str, Any]]] = MappingProxyType(
        {
            "pixel-gram": {
                "summary": "All pixel pairs of one image, for in-painting",
                "value": {
                    "kernel": {
                        "layers": [
                            {"op": "conv", "filter": [3, 3], "w_std": 1.4142135623730951},
                            {"op": "activation", "fn": "relu"},
                            {"op": "conv", "filter": [3, 3]},
                        ]
                    },
                    "x": EXAMPLE_IMAGES,
                    "image": 0,
                },
            }
        }
    )

    def manifest(self, context: JobContext, task: PixelGramTask) -> MatrixManifest:
        """Raises NotFoundError, InvalidKernelError, InvalidInputsError, InvalidGramError."""
        spec, x = parse_kernel(task.kernel), dataset(context.catalog, task.x)
        other = task.image if task.other is None else task.other
        manifest = pixel_manifest(
            spec,
            x,
            (task.image, other),
            dtype=gram_dtype(x, None, task.dtype),
            outputs=task.outputs,
        )
        return stored_manifest(context, manifest.id) or manifest

    def cost(self, context: JobContext, manifest: MatrixManifest) -> TileCost:
        spec, x = _inputs(context, manifest)
        key = pixel_rate_key(spec, x, manifest)
        estimate = estimate_pixel_gram(
            spec,
            x,
            manifest,
            workers=context.compute.expected_workers(),
            panel_cache_bytes=context.settings.panel_cache_bytes,
            worker_base_bytes=WORKER_BASE_BYTES,
            measured_seconds_per_pair=context.catalog.rate(key),
        )
        return TileCost(estimate, key)

    def tiles(
        self, context: JobContext, manifest: MatrixManifest, common: dict[str, Any]
    ) -> tuple[TileTask, ComputeBatch]:
        spec, x = _inputs(context, manifest)
        first, second = manifest.provenance["request"]["images"]
        task = PixelTask(**common, kernel=spec.canonical(), x=x, images=(first, second))
        return task, compute_pixel_batch

    def facts(self, manifest: MatrixManifest) -> dict[str, Any]:
        return {"pixel_shape": manifest.provenance["pixel_shape"]}


def _inputs(context: JobContext, manifest: MatrixManifest) -> tuple[KernelSpec, DatasetInfo]:
    request = manifest.provenance["request"]
    return parse_kernel(request["kernel"]), dataset(context.catalog, request["x1"])
