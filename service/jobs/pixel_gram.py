"""The task type `pixel_gram`: the kernel of all pixel pairs of one or two images, as a matrix."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.gram import DTypeName, Output
from service.jobs.inputs import dataset
from service.jobs.plans import Plan
from service.jobs.progress import Reporter
from service.jobs.tile_runs import run_tiles, stored_manifest
from service.schemas.common import EXAMPLE_IMAGES, DatasetId
from service.schemas.tasks import Asked
from storage.catalog import JobRecord
from storage.datasets import DatasetInfo
from storage.format import MatrixManifest
from workers.estimate import Estimate
from workers.gram import gram_dtype, request_digest
from workers.kernels.spec import KernelSpec, parse_kernel
from workers.memory import WORKER_BASE_BYTES
from workers.pixel_gram import estimate_pixel_gram, pixel_manifest, pixel_rate_key


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


class PixelGramJobs:
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

    def plan(self, context: JobContext, task: dict[str, Any]) -> Plan:
        """Raises NotFoundError, InvalidKernelError, InvalidInputsError, InvalidGramError."""
        request = PixelGramTask.model_validate(task)
        spec = parse_kernel(request.kernel)
        x = dataset(context.catalog, request.x)
        other = request.image if request.other is None else request.other
        manifest = pixel_manifest(
            spec,
            x,
            (request.image, other),
            dtype=gram_dtype(x, None, request.dtype),
            outputs=request.outputs,
        )
        manifest = stored_manifest(context, manifest.id) or manifest
        estimate = _estimate(context, spec, x, manifest)
        return Plan(
            manifest=manifest,
            request_digest=request_digest({"task": self.name, "matrix": manifest.id}),
            estimate=estimate.to_json(),
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
        spec, x = parse_kernel(request["kernel"]), dataset(context.catalog, request["x1"])
        summary = run_tiles(
            context,
            job,
            manifest,
            reporter,
            should_stop,
            seconds_per_tile=_estimate(context, spec, x, manifest).seconds_per_tile,
            rate_key=pixel_rate_key(spec, x, manifest),
        )
        shape = {"pixel_shape": manifest.provenance["pixel_shape"]}
        return None if summary is None else {**summary, **shape}


def _estimate(
    context: JobContext, spec: KernelSpec, x: DatasetInfo, manifest: MatrixManifest
) -> Estimate:
    return estimate_pixel_gram(
        spec,
        x,
        manifest,
        workers=context.compute.expected_workers(),
        panel_cache_bytes=context.settings.panel_cache_bytes,
        worker_base_bytes=WORKER_BASE_BYTES,
        measured_seconds_per_pair=context.catalog.rate(pixel_rate_key(spec, x, manifest)),
    )
