"""The task type `verify`: is a stored matrix still what was sealed, and if not, repair it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from service.errors import InvalidRequestError
from service.jobs.context import JobContext
from service.jobs.plans import Plan
from service.jobs.progress import Reporter
from service.jobs.results import DenseCost
from service.jobs.tasks.tiled_tasks import TILED_TASKS, made_by
from service.jobs.tile_runs import driver_settings, seal, tile_fields
from service.schemas.common import EXAMPLE_MATRIX, MatrixId
from service.schemas.tasks import Asked
from storage import matrices
from storage.catalog import JobRecord
from storage.errors import GramianError, NotReadyError
from storage.format import MatrixManifest
from storage.verify import ChunkName
from workers.driver import run_gram
from workers.gram import request_digest
from workers.memory import WORKER_BASE_BYTES
from workers.one_worker import Call, run_in_one_worker
from workers.plan import Tile, TilePlan
from workers.verification import verify_stored

# Chunk digests travel to the worker in one message: 32 bytes each and as much again for the name.
_MAX_RECORDED_TILES = 200_000
_SHOWN_PROBLEMS = 100
# A chunk as bytes, decoded, as a mask of its padding, and for the symmetry check.
_CHUNK_COPIES = 4


class RepairFailedError(GramianError):
    """The matrix is still damaged after everything damaged was computed again."""

    kind = "repair-failed"


class VerifyTask(Asked):
    """Read every chunk of a sealed matrix and compare checksums and digests with what was sealed.

    With `repair`, missing and damaged tiles of a Gram matrix are computed again, and written only
    if they have the digests they had."""

    type: Literal["verify"]
    matrix: MatrixId = Field(description="A sealed matrix of any kind.")
    repair: bool = Field(default=False, description="Compute again what is damaged.")


class VerifyJobs:
    """The task type `verify`. Never answered by an earlier job: disks change."""

    name: ClassVar[str] = "verify"
    schema: ClassVar[type[VerifyTask]] = VerifyTask
    examples: ClassVar[Mapping[str, dict[str, Any]]] = MappingProxyType(
        {
            "verify": {
                "summary": "Is a matrix still intact?",
                "value": {"matrix": EXAMPLE_MATRIX, "repair": False},
            }
        }
    )

    def plan(self, context: JobContext, task: dict[str, Any]) -> Plan:
        """Raises NotFoundError, NotReadyError, InvalidRequestError."""
        request = VerifyTask.model_validate(task)
        manifest = _sealed_manifest(context, request.matrix)
        if request.repair and made_by(manifest) not in TILED_TASKS:
            raise InvalidRequestError(
                f"{manifest.id} was made by {made_by(manifest)}: only tiles of"
                f" {' and '.join(TILED_TASKS)} jobs are repaired.",
                advice="Delete it and submit the request in its provenance again.",
            )
        chunk_bytes = max(int(np.prod(a.chunk_shape)) * a.itemsize for a in manifest.arrays)
        cost = DenseCost(
            flops=0.0,
            bytes_read=manifest.stored_bytes,
            peak_bytes_per_worker=WORKER_BASE_BYTES + _CHUNK_COPIES * chunk_bytes,
        )
        once = {"task": self.name, "matrix": manifest.id, "nonce": secrets.token_hex(16)}
        return Plan(None, request_digest(once), {**cost.to_json(), "bytes_written": 0})

    def run(
        self,
        context: JobContext,
        job: JobRecord,
        manifest: MatrixManifest | None,
        reporter: Reporter,
        should_stop: Callable[[], bool],
    ) -> dict[str, Any] | None:
        request = VerifyTask.model_validate(job.task)
        target = _sealed_manifest(context, request.matrix)
        if request.repair and not matrices.is_sealed(context.blobs, target.id):
            # Its documents are gone. The records of its tiles give them back, byte for byte.
            seal(context, target)
        recorded = _recorded(context, target)
        reporter.report({"phase": "verifying", "fraction": None}, force=True)
        problems = _verify(context, target, recorded, should_stop)
        repaired = 0
        if problems and request.repair:
            tiles = _damaged_tiles(target, problems)
            reporter.report({"phase": "repairing", "tiles": len(tiles)}, force=True)
            if not _recompute(context, job, target, tiles, recorded, should_stop):
                return None
            repaired = len(tiles)
            reporter.report({"phase": "verifying", "fraction": None}, force=True)
            problems = _verify(context, target, recorded, should_stop)
            if problems:
                raise RepairFailedError(
                    f"Matrix {target.id} is still damaged: {problems[0]['message']}",
                    advice="Delete it and submit its request again.",
                    problems=problems[:_SHOWN_PROBLEMS],
                )
        if problems is None:
            return None
        reporter.report({"phase": "done", "fraction": 1.0}, force=True)
        return {
            "intact": not problems,
            "problem_count": len(problems),
            "problems": problems[:_SHOWN_PROBLEMS],
            "repaired_tiles": repaired,
            "digest": context.catalog.get_matrix(target.id).digest,
        }


def _sealed_manifest(context: JobContext, matrix_id: str) -> MatrixManifest:
    record = context.catalog.get_matrix(matrix_id)
    if not record.sealed:
        raise NotReadyError("The matrix is not complete.", advice="Wait for its job.")
    return MatrixManifest.from_json(record.manifest)


def _recorded(context: JobContext, manifest: MatrixManifest) -> dict[ChunkName, bytes]:
    if context.catalog.tile_count(manifest.id) > _MAX_RECORDED_TILES:
        return {}
    tiles = context.catalog.tiles(manifest.id)
    return {(tile.array, (tile.i, tile.j)): tile.digest for tile in tiles}


def _verify(
    context: JobContext,
    manifest: MatrixManifest,
    recorded: dict[ChunkName, bytes],
    should_stop: Callable[[], bool],
) -> list[dict[str, Any]] | None:
    """What is wrong; None if told to stop."""
    if not matrices.is_sealed(context.blobs, manifest.id):
        message = "The documents of the matrix are gone: it cannot be opened."
        return [
            {"array": None, "coordinates": None, "kind": "missing-document", "message": message}
        ]
    call = Call(verify_stored, (context.blobs.url, manifest, recorded), context.blobs.url, None)
    written = run_in_one_worker(context.compute.client(), call, should_stop=should_stop)
    if written is None:
        return None
    problems: list[dict[str, Any]] = written.summary["problems"]
    return problems


def _damaged_tiles(manifest: MatrixManifest, problems: list[dict[str, Any]]) -> set[Tile]:
    """The tiles to compute again. Where only an array is known to be wrong: all of them."""
    chunks = {tuple(p["coordinates"]) for p in problems if p["coordinates"] is not None}
    if not chunks:
        return set(TilePlan.of(manifest).tiles())
    return {(i, j) for i, j in chunks}


def _recompute(
    context: JobContext,
    job: JobRecord,
    manifest: MatrixManifest,
    tiles: set[Tile],
    recorded: dict[ChunkName, bytes],
    should_stop: Callable[[], bool],
) -> bool:
    """Compute tiles again; False if told to stop. Raises what a Gram job raises."""
    plan = TilePlan.of(manifest)
    stored = np.ones(plan.grid, dtype=np.bool_)
    if plan.symmetric:
        stored = np.triu(stored)  # tiles below the diagonal are nobody's
    for tile in tiles:
        stored[tile] = False
    repair = {(name, (i, j)): d for (name, (i, j)), d in recorded.items() if (i, j) in tiles}
    fields = tile_fields(context, job, manifest, repair=repair)
    task, compute = TILED_TASKS[made_by(manifest)].tiles(context, manifest, fields)
    outcome = run_gram(
        context.compute.client(),
        task,
        stored=stored,
        on_results=context.metrics.count_tiles,
        should_stop=should_stop,
        seconds_per_tile=context.settings.max_tile_seconds,
        settings=driver_settings(context),
        compute=compute,
    )
    return not outcome.stopped
