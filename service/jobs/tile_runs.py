"""Task types whose matrices are computed tile by tile: planning, running and sealing them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

from service.jobs.context import JobContext
from service.jobs.plans import Plan
from service.jobs.progress import Reporter
from service.jobs.tile_progress import TileProgress
from storage import matrices, previews
from storage.catalog import JobRecord
from storage.digest import array_digest
from storage.errors import NotFoundError
from storage.format import MatrixManifest
from workers.driver import ComputeBatch, DriverSettings, run_gram
from workers.errors import ClusterUnavailableError
from workers.estimate import Estimate
from workers.gram import request_digest
from workers.plan import Tile, TilePlan
from workers.stops import run_name
from workers.tiles import TileResult, TileTask


@dataclass(frozen=True)
class TileCost:
    """`rate_key`: under which the measured speed of the tiles is kept; None: it is not."""

    estimate: Estimate
    rate_key: str | None = None


class TiledTask(ABC):
    """A task type whose matrix is computed tile by tile: planned, run, and repaired alike."""

    name: ClassVar[str]
    schema: ClassVar[type[BaseModel]]
    examples: ClassVar[Mapping[str, dict[str, Any]]]

    @abstractmethod
    def manifest(self, context: JobContext, task: Any) -> MatrixManifest:
        """What a job for `task`, an instance of `schema`, builds; as it was begun, if it was.

        Checks all that can be checked before any work. Raises GramianError subclasses.
        """

    @abstractmethod
    def cost(self, context: JobContext, manifest: MatrixManifest) -> TileCost:
        """What the tiles of `manifest` cost."""

    @abstractmethod
    def tiles(
        self, context: JobContext, manifest: MatrixManifest, common: dict[str, Any]
    ) -> tuple[TileTask, ComputeBatch]:
        """What computes tiles of `manifest`, by its provenance, and the function that runs it in
        the workers. `common`: the fields of every TileTask. Raises NotFoundError."""

    def facts(self, manifest: MatrixManifest) -> dict[str, Any]:
        """What the summary says beyond tiles and bytes."""
        return {}

    def plan(self, context: JobContext, task: dict[str, Any]) -> Plan:
        """Raises what `manifest` raises."""
        manifest = self.manifest(context, self.schema.model_validate(task))
        return Plan(
            manifest=manifest,
            # The matrix id stands for everything that determines the values.
            request_digest=request_digest({"task": self.name, "matrix": manifest.id}),
            estimate={
                **self.cost(context, manifest).estimate.to_json(),
                "preview_bytes": previews.stored_bytes(manifest),
            },
        )

    def run(
        self,
        context: JobContext,
        job: JobRecord,
        manifest: MatrixManifest | None,
        reporter: Reporter,
        should_stop: Callable[[], bool],
    ) -> dict[str, Any] | None:
        assert manifest is not None  # every plan of these types has one
        task = self.tiles(context, manifest, tile_fields(context, job, manifest))
        cost = self.cost(context, manifest)
        summary = run_tiles(context, job, task, cost, reporter, should_stop)
        return None if summary is None else {**summary, **self.facts(manifest)}


def tile_fields(
    context: JobContext,
    job: JobRecord,
    manifest: MatrixManifest,
    *,
    repair: Mapping[tuple[str, Tile], bytes] | None = None,
) -> dict[str, Any]:
    """The fields that every TileTask has. `repair`: see `workers.tiles.TileTask`."""
    return {
        "store_url": context.blobs.url,
        "manifest": manifest,
        "panel_cache_bytes": context.settings.panel_cache_bytes,
        "run": run_name(job.id, job.attempts),
        "job": job.id,
        "repair": repair,
    }


def run_tiles(
    context: JobContext,
    job: JobRecord,
    task: tuple[TileTask, ComputeBatch],
    cost: TileCost,
    reporter: Reporter,
    should_stop: Callable[[], bool],
) -> dict[str, Any] | None:
    """Compute what is missing of a matrix and seal it; the summary, or None if told to stop.

    Raises what `run_gram` raises, and ClusterUnavailableError.
    """
    tiles, compute = task
    manifest = tiles.manifest
    progress = TileProgress(context.catalog, reporter, manifest, stored_grid(context, manifest))
    reporter.report(progress.snapshot(), force=True)
    client = context.compute.client()
    tile_spans = context.tracing.tiles(context.settings.max_tile_spans_per_job)

    def on_results(results: list[TileResult]) -> None:
        context.shares.charge(job.owner, sum(result.seconds for result in results))
        context.metrics.count_tiles(results)
        progress.on_results(results)
        tile_spans(results)

    def interrupted() -> bool:
        return should_stop() or client.status == "closed"

    outcome = run_gram(
        client,
        tiles,
        stored=progress.stored,
        on_results=on_results,
        should_stop=interrupted,
        priority=lambda: context.shares.priority(job.owner),
        seconds_per_tile=cost.estimate.seconds_per_tile,
        settings=driver_settings(context),
        compute=compute,
        on_failure=progress.on_failure,
    )
    if cost.rate_key is not None:
        progress.record_rate(cost.rate_key)
    if outcome.stopped:
        reporter.flush()
        if not should_stop():
            raise ClusterUnavailableError(
                "The scheduler stayed away, so the connection was given up.",
                advice="The job goes on when a scheduler answers again.",
            )
        return None
    reporter.report(progress.snapshot(phase="sealing"), force=True)
    digest = seal(context, manifest)
    reporter.report(progress.snapshot(phase="done"), force=True)
    totals = context.catalog.tile_summary(manifest.id)
    return {
        "digest": digest,
        "tiles": progress.total,
        "computed_tiles": outcome.computed_tiles,
        "stored_bytes": totals.stored_bytes,
        "minimum": totals.minimum,
        "maximum": totals.maximum,
        "tile_seconds": outcome.tile_seconds,
        "wall_seconds": outcome.wall_seconds,
    }


def driver_settings(context: JobContext) -> DriverSettings:
    """As the settings of the service say."""
    return DriverSettings(
        batch_seconds=context.settings.batch_seconds,
        window_per_worker=context.settings.window_per_worker,
    )


def stored_manifest(context: JobContext, matrix_id: str) -> MatrixManifest | None:
    """The manifest under which a matrix was begun, or None.

    The store is asked too: with a new catalog over an old store, what is there is used again.
    """
    with suppress(NotFoundError):
        return MatrixManifest.from_json(context.catalog.get_matrix(matrix_id).manifest)
    with suppress(NotFoundError):
        return matrices.load_manifest(context.blobs, matrix_id)
    return None


def seal(context: JobContext, manifest: MatrixManifest) -> str:
    """Digest the recorded tiles, publish the matrix, and note it in the catalog.

    Every step may be repeated, so a crash between two of them is repaired by running it again.
    """
    catalog = context.catalog
    digests = {
        layout.name: array_digest(
            layout,
            (((t.i, t.j), t.digest) for t in catalog.tiles(manifest.id, layout.name)),
            manifest.block_rows,
        )
        for layout in manifest.arrays
    }
    catalog.confirm_lease()
    digest = matrices.seal(context.blobs, manifest, digests, {})
    catalog.seal_matrix(manifest.id, digest, manifest.stored_bytes)
    return digest


def stored_grid(context: JobContext, manifest: MatrixManifest) -> NDArray[np.bool_]:
    """Grid of tiles that have a record and a chunk of the right size in every array.

    A record without its chunk (a folder restored from an older backup, a deleted file) is not
    believed; a chunk without a record is found by the worker, which checks it and reports it.
    """
    stored = np.ones(TilePlan.of(manifest).grid, dtype=np.bool_)
    for layout in manifest.arrays:
        recorded = np.zeros_like(stored)
        present = matrices.stored_coords(context.blobs, manifest, layout.name)
        for tile in context.catalog.tiles(manifest.id, layout.name):
            recorded[tile.i, tile.j] = (tile.i, tile.j) in present
        stored &= recorded
    return stored
