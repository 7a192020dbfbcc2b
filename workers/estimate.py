"""What a Gram job would cost, before anything runs."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from storage.datasets import DatasetInfo
from storage.format import DType, MatrixManifest
from workers.kernels import cost
from workers.kernels.spec import KernelSpec
from workers.memory import gram_task_memory
from workers.plan import TilePlan


@dataclass(frozen=True)
class Estimate:
    """Projected cost of a job.

    `seconds` is wall time on `workers` workers; `basis` says whether it rests on tiles of the
    same kernel and width measured here earlier or on the static cost model.
    """

    tiles: int
    tile_rows: int
    pairs: int  # kernel evaluations
    flops: float
    bytes_written: int
    peak_bytes_per_worker: int
    seconds_per_tile: float
    seconds: float
    workers: int
    representation: str  # what is carried per pair: a number, or which pixel pairs
    basis: Literal["measured", "model"]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def rate_key(spec: KernelSpec, x: DatasetInfo, manifest: MatrixManifest) -> str:
    """Under which measured seconds per pair of this kernel are kept."""
    names = "+".join(layout.name for layout in manifest.arrays)
    samples = "x".join(map(str, x.shape[1:])) if spec.spatial else x.features
    return f"{spec.digest[:32]}:{samples}:{manifest.arrays[0].dtype}:{names}"


def seconds_per_pair_model(spec: KernelSpec, x: DatasetInfo, dtype: DType) -> float:
    """Static model of the seconds one kernel evaluation takes on one core.

    Raises InvalidInputsError if the samples do not fit the network.
    """
    return cost.kernel_cost(spec, x.shape[1:], dtype).nanoseconds_per_pair * 1e-9


def estimate_gram(
    spec: KernelSpec,
    x1: DatasetInfo,
    manifest: MatrixManifest,
    *,
    workers: int,
    panel_cache_bytes: int,
    worker_base_bytes: int,
    measured_seconds_per_pair: float | None,
) -> Estimate:
    """Cost of computing every tile of `manifest` on `workers` single-core workers."""
    layout = manifest.arrays[0]
    plan = TilePlan.of(manifest)
    per_pair = measured_seconds_per_pair
    if per_pair is None:
        per_pair = seconds_per_pair_model(spec, x1, layout.dtype)
    kernel = cost.kernel_cost(spec, x1.shape[1:], layout.dtype)
    memory = gram_task_memory(
        tile_rows=plan.tile_rows,
        features=x1.features,
        data_itemsize=8 if x1.dtype == "float64" else 4,
        itemsize=layout.itemsize,
        outputs=len(manifest.arrays),
        block_bytes=kernel.block_bytes(manifest.block_rows),
        panel_bytes_per_sample=kernel.panel_bytes_per_sample,
        panel_cache_bytes=panel_cache_bytes,
        base_bytes=worker_base_bytes,
    )
    total_seconds = plan.computed_pairs * per_pair
    return Estimate(
        tiles=plan.n_tiles,
        tile_rows=plan.tile_rows,
        pairs=plan.pairs,
        flops=plan.computed_pairs * kernel.flops_per_pair,
        bytes_written=manifest.stored_bytes,
        peak_bytes_per_worker=memory.total,
        seconds_per_tile=total_seconds / plan.n_tiles,
        seconds=total_seconds / max(1, min(workers, plan.n_tiles)),
        workers=workers,
        representation=kernel.representation,
        basis="model" if measured_seconds_per_pair is None else "measured",
    )
