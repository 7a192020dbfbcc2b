"""The pixel-pair tensor of two images as a Gram matrix: its manifest, cost, and tile task.

Row and column numbers are row-major pixel indices after the last layer, so the (P, Q, P, Q) tensor
is the (P Q, P Q) matrix: `matrix.reshape(P, Q, P, Q)`; `pixel_shape` in the provenance says P, Q.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from storage import datasets
from storage.datasets import DatasetInfo
from storage.format import FORMAT_VERSION, ArrayLayout, DType, MatrixManifest
from storage.keys import matrix_id
from workers.estimate import Estimate
from workers.gram import InvalidGramError, request_digest, software_versions
from workers.kernels.pixels.plan import PixelPlan, check_pixel_kernel, pixel_plan
from workers.kernels.spec import KernelSpec
from workers.panels import PreparedPanel
from workers.plan import Tile, TilePlan
from workers.tiles import BatchResult, TileTask, TileWorker, finish_batch


@dataclass(frozen=True, kw_only=True)
class PixelTask(TileTask):
    """Tiles of the kernel of the pixels of two images of the data set `x`, or of one."""

    kernel: dict[str, Any]  # canonical kernel spec
    x: DatasetInfo
    images: tuple[int, int]


def pixel_manifest(
    spec: KernelSpec,
    x: DatasetInfo,
    images: tuple[int, int],
    *,
    dtype: DType,
    outputs: tuple[str, ...],
    tile_blocks: int = 1,
) -> MatrixManifest:
    """Manifest of the matrix of the pixel pairs of two images of `x`, symmetric if they are one.

    `tile_blocks`: blocks along the edge of a tile, a power of two; the numbers do not depend on
    it. Raises InvalidGramError (an image that is not there), InvalidInputsError (samples that do
    not fit the network), InvalidKernelError (a readout; an NTK that does not exist).
    """
    check_pixel_kernel(spec, outputs)
    for image in images:
        if not 0 <= image < x.samples:
            raise InvalidGramError(
                f"There is no image {image}: the data set has {x.samples} samples.",
                advice=f"Images are numbered from 0 to {x.samples - 1}.",
            )
    plan = pixel_plan(spec, x.shape[1:], dtype)
    names = tuple(sorted(set(outputs)))
    same = images[0] == images[1]
    request = {
        "format": FORMAT_VERSION,
        "task": "pixel_gram",
        "kernel": spec.canonical(),
        "x1": x.id,
        "images": list(images),
        "dtype": dtype,
        "outputs": list(names),
        "block_rows": plan.block_rows,
    }
    edge = plan.block_rows * tile_blocks
    return MatrixManifest(
        id=matrix_id(request_digest(request)),
        kind="gram",
        arrays=tuple(
            ArrayLayout(name, (plan.pixels, plan.pixels), (edge, edge), dtype, symmetric=same)
            for name in names
        ),
        block_rows=plan.block_rows,
        provenance={
            "request": request,
            "pixel_shape": list(plan.out),
            "kernel_digest": spec.digest,
            "software": software_versions(),
        },
    )


def pixel_rate_key(spec: KernelSpec, x: DatasetInfo, manifest: MatrixManifest) -> str:
    """Under which measured seconds per pixel pair are kept."""
    names = "+".join(layout.name for layout in manifest.arrays)
    shape = "x".join(map(str, x.shape[1:]))
    return f"pixels:{spec.digest[:32]}:{shape}:{manifest.arrays[0].dtype}:{names}"


def estimate_pixel_gram(
    spec: KernelSpec,
    x: DatasetInfo,
    manifest: MatrixManifest,
    *,
    workers: int,
    panel_cache_bytes: int,
    worker_base_bytes: int,
    measured_seconds_per_pair: float | None,
) -> Estimate:
    """Cost of computing every tile of `manifest` on `workers` single-core workers."""
    layout, outputs = manifest.arrays[0], len(manifest.arrays)
    plan = pixel_plan(spec, x.shape[1:], layout.dtype)
    tiles = TilePlan.of(manifest)
    seconds = plan.seconds(symmetric=layout.symmetric)
    if measured_seconds_per_pair is not None:
        seconds = tiles.computed_pairs * measured_seconds_per_pair
    chunk = math.prod(layout.chunk_shape) * layout.itemsize
    image = x.features * 16 + plan.panel_bytes
    return Estimate(
        tiles=tiles.n_tiles,
        tile_rows=tiles.tile_rows,
        pairs=tiles.pairs,
        flops=tiles.pairs * plan.flops_per_pair,
        bytes_written=manifest.stored_bytes,
        peak_bytes_per_worker=worker_base_bytes
        + max(panel_cache_bytes, 2 * image)
        + image
        + (outputs + 1) * chunk
        + plan.block_bytes(outputs),
        seconds_per_tile=seconds / tiles.n_tiles,
        seconds=seconds / max(1, min(workers, tiles.n_tiles)),
        workers=workers,
        representation=f"pixel-{plan.representation}",
        basis="model" if measured_seconds_per_pair is None else "measured",
    )


def compute_pixel_batch(task: TileTask, tiles: tuple[Tile, ...]) -> BatchResult:
    """`compute_batch` for a PixelTask. Runs in a Dask worker."""
    return finish_batch(PixelTileWorker, task, tiles)


class PixelTileWorker(TileWorker):
    """Computes the tiles of a pixel-pair matrix: strips of two images at a time."""

    def blocks(self, tile: Tile) -> Iterator[tuple[int, int, dict[str, Any]]]:
        task = self._task
        assert isinstance(task, PixelTask)
        layouts = task.manifest.arrays
        names = tuple(layout.name for layout in layouts)
        kernel = self._pixel_kernel(task)
        plan = pixel_plan(kernel.spec, task.x.shape[1:], layouts[0].dtype)
        symmetric = layouts[0].symmetric
        left, right = (self._image(task.x, index, plan, kernel) for index in task.images)
        per_tile = layouts[0].chunk_shape[0] // plan.block_rows
        for r in range(per_tile):
            for c in range(per_tile):
                strip = tile[0] * per_tile + r, tile[1] * per_tile + c
                beyond = max(strip) >= plan.strips
                if beyond or (self._on_diagonal(tile) and c < r):
                    continue
                self.check_stop()
                yield (
                    r,
                    c,
                    kernel.block(
                        plan,
                        left,
                        right,
                        strip,
                        symmetric=symmetric,
                        outputs=names,
                        check_stop=self.check_stop,
                    ),
                )

    def _pixel_kernel(self, task: PixelTask) -> Any:
        from workers.kernels import parse_kernel
        from workers.kernels.pixels import PixelKernel

        spec = parse_kernel(task.kernel)
        return self._state.kernel(f"pixels:{spec.digest}", lambda: PixelKernel(spec))

    def _image(self, info: DatasetInfo, index: int, plan: PixelPlan, kernel: Any) -> Any:
        """One image, prepared; cached in the worker like a panel of samples."""

        def read() -> PreparedPanel:
            image = datasets.read_rows(self._blobs, info, index, index + 1)[0]
            values = np.ascontiguousarray(image, dtype=plan.dtype)
            return PreparedPanel(1, (kernel.prepare(plan, values),), plan.panel_bytes)

        key = (info.id, index, index + 1, plan.dtype, f"pixels:{kernel.spec.digest}")
        return self._state.panels.get(key, read).blocks[0]
