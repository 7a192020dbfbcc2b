"""The task types whose matrices are made of tiles that can be computed again, one by one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from service.jobs.tasks.gram import GramJobs
from service.jobs.tasks.pixel_gram import PixelGramJobs
from service.jobs.tasks.submatrix import SubmatrixJobs
from service.jobs.tile_runs import TiledTask
from storage.format import MatrixManifest

TILED_TASKS: Mapping[str, TiledTask] = MappingProxyType(
    {task.name: task for task in (GramJobs(), PixelGramJobs(), SubmatrixJobs())}
)


def made_by(manifest: MatrixManifest) -> str:
    """The task type that made a matrix: requests of gram jobs do not say theirs, others do.

    A derived Gram matrix (label-kernel) is of kind "gram", too, but no tile of it has a record.
    """
    return str(manifest.provenance.get("request", {}).get("task", manifest.kind))
