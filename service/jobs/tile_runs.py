"""Matrices that are computed tile by tile: what their tiles are, running them, sealing them."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.jobs.context import JobContext
from service.jobs.inputs import dataset, symmetric_gram
from service.jobs.progress import Reporter
from service.jobs.tile_progress import TileProgress
from storage import matrices
from storage.catalog import JobRecord
from storage.digest import array_digest
from storage.errors import NotFoundError
from storage.format import MatrixManifest
from workers.driver import ComputeBatch, DriverSettings, run_gram
from workers.errors import ClusterUnavailableError
from workers.kernels.spec import parse_kernel
from workers.pixel_gram import PixelTask, compute_pixel_batch
from workers.plan import Tile, TilePlan
from workers.submatrix import SubmatrixTask, compute_submatrix_batch, unpack_indices
from workers.tiles import GramTask, TileResult, TileTask, compute_batch

TILED_TASKS = ("gram", "pixel_gram", "submatrix")
"""Task types whose matrices are made of tiles that can be computed again, one by one."""


def tile_task(
    context: JobContext,
    job: JobRecord,
    manifest: MatrixManifest,
    *,
    repair: Mapping[tuple[str, Tile], bytes] | None = None,
) -> tuple[TileTask, ComputeBatch]:
    """What computes tiles of `manifest`, by its provenance, and the function that runs it in the
    workers. `repair`: see `workers.tiles.TileTask`. Raises NotFoundError."""
    request = manifest.provenance["request"]
    common: dict[str, Any] = {
        "store_url": context.blobs.url,
        "manifest": manifest,
        "panel_cache_bytes": context.settings.panel_cache_bytes,
        "run": secrets.token_hex(8),
        "job": job.id,
        "repair": repair,
    }
    if request.get("task") == "submatrix":
        source = symmetric_gram(context, request["matrix"], request["array"])
        rows, columns = unpack_indices(request["rows"]), request["columns"]
        chosen = None if columns is None else unpack_indices(columns)
        task = SubmatrixTask(**common, source=source, rows=rows, columns=chosen)
        return task, compute_submatrix_batch
    kernel = parse_kernel(request["kernel"]).canonical()
    x1 = dataset(context.catalog, request["x1"])
    if request.get("task") == "pixel_gram":
        first, second = request["images"]
        return PixelTask(**common, kernel=kernel, x=x1, images=(first, second)), compute_pixel_batch
    x2 = None if request["x2"] is None else dataset(context.catalog, request["x2"])
    return GramTask(**common, kernel=kernel, x1=x1, x2=x2), compute_batch


def run_tiles(
    context: JobContext,
    job: JobRecord,
    manifest: MatrixManifest,
    reporter: Reporter,
    should_stop: Callable[[], bool],
    *,
    seconds_per_tile: float,
    rate_key: str | None,
) -> dict[str, Any] | None:
    """Compute what is missing of a matrix and seal it; the summary, or None if told to stop.

    `seconds_per_tile`: what a tile is expected to take. `rate_key`: under which the speed that is
    measured is kept, if it is. Raises what `run_gram` raises, and ClusterUnavailableError.
    """
    progress = TileProgress(context.catalog, reporter, manifest, stored_grid(context, manifest))
    reporter.report(progress.snapshot(), force=True)
    client = context.compute.client()

    def on_results(results: list[TileResult]) -> None:
        context.shares.charge(job.owner, sum(result.seconds for result in results))
        context.metrics.count_tiles(results)
        progress.on_results(results)

    def interrupted() -> bool:
        return should_stop() or client.status == "closed"

    task, compute = tile_task(context, job, manifest)
    outcome = run_gram(
        client,
        task,
        stored=progress.stored,
        on_results=on_results,
        should_stop=interrupted,
        priority=lambda: context.shares.priority(job.owner),
        seconds_per_tile=seconds_per_tile,
        settings=driver_settings(context),
        compute=compute,
    )
    if rate_key is not None:
        progress.record_rate(rate_key)
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
