"""Admission: each limit refuses what is over it, by one, with numbers; and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from service.errors import ExceedsMemoryError, InsufficientStorageError, TooManyJobsError
from service.jobs.admission import admit
from service.jobs.compute import Compute
from service.jobs.context import JobContext
from service.jobs.plans import Plan
from service.settings import ServiceSettings
from storage.blobs import BlobStore, LocalBlobs
from storage.catalog import Catalog, TileRecord, open_catalog
from storage.errors import TooLargeError
from storage.format import ArrayLayout, MatrixManifest
from storage.keys import matrix_id, new_job_id

FREE = 10_000_000


class SmallDisk(LocalBlobs):
    def free_bytes(self) -> int:
        return FREE


class FixedCompute:
    def limit_bytes(self) -> int:
        return 1_000_000


def manifest(n: int = 0, rows: int = 100) -> MatrixManifest:
    layout = ArrayLayout("ntk", (rows, rows), (64, 64), "float32", True)
    return MatrixManifest(matrix_id(f"{n:064x}"[::-1]), "gram", (layout,), 64)


def plan(n: int = 0, *, rows: int = 100, peak: int = 1_000_000, written: int = 1_000_000) -> Plan:
    estimate = {"peak_bytes_per_worker": peak, "bytes_written": written, "seconds": 1.0}
    return Plan(manifest(n, rows), str(n), estimate)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[JobContext]:
    settings = ServiceSettings(
        data_dir=tmp_path, reserved_disk_bytes=1_000_000, max_matrix_rows=200, max_open_jobs=3
    )
    with open_catalog(settings.resolved_catalog_url) as catalog:
        blobs = SmallDisk(settings.store_dir)
        yield JobContext(
            settings, catalog, cast("BlobStore", blobs), cast("Compute", FixedCompute())
        )


def open_job(catalog: Catalog, n: int, written: int, previews: int = 0) -> None:
    catalog.create_job(
        id=new_job_id(),
        task={"type": "gram"},
        request_digest=f"open {n}",
        body_digest="b",
        estimate={"bytes_written": written, "preview_bytes": previews},
        matrix_id=manifest(n).id,
    )


def build(catalog: Catalog, n: int, tile_bytes: int) -> None:
    """A matrix with one recorded tile."""
    catalog.add_matrix(manifest(n).id, "gram", {"n": n})
    tile = TileRecord("ntk", 0, 0, b"\0" * 32, 0.1, 0.0, 1.0, 0, tile_bytes)
    catalog.add_tiles(manifest(n).id, [tile])


def test_what_is_exactly_at_every_limit_is_admitted(context: JobContext) -> None:
    admit(context, plan(rows=200, peak=1_000_000, written=FREE - 1_000_000))


def test_rows(context: JobContext) -> None:
    with pytest.raises(TooLargeError) as caught:
        admit(context, plan(rows=201))
    assert caught.value.details == {"rows": 201, "limit_rows": 200}


def test_memory(context: JobContext) -> None:
    with pytest.raises(ExceedsMemoryError) as caught:
        admit(context, plan(peak=1_000_001))
    assert caught.value.details == {
        "peak_bytes_per_worker": 1_000_001,
        "worker_limit_bytes": 1_000_000,
    }


def test_disk(context: JobContext) -> None:
    with pytest.raises(InsufficientStorageError) as caught:
        admit(context, plan(written=FREE - 999_999))
    assert caught.value.details["free_bytes"] == FREE


def test_what_open_jobs_have_yet_to_write_is_not_free(context: JobContext) -> None:
    open_job(context.catalog, 1, written=5_000_000)
    build(context.catalog, 1, tile_bytes=2_000_000)  # that much of it is on the disk already
    admit(context, plan(written=6_000_000))
    with pytest.raises(InsufficientStorageError) as caught:
        admit(context, plan(written=6_000_001))
    assert caught.value.details["pledged_bytes"] == 3_000_000


def test_previews_need_room_too_and_are_there_with_their_tiles(context: JobContext) -> None:
    with_previews = plan(written=6_000_000)
    with_previews.estimate["preview_bytes"] = 120_000
    open_job(context.catalog, 1, written=4_000_000, previews=80_000)
    build(context.catalog, 1, tile_bytes=1_000_000)  # 3 060 000 are yet to come
    with pytest.raises(InsufficientStorageError) as caught:
        admit(context, with_previews)
    assert caught.value.details["needed_bytes"] == 6_120_000
    assert caught.value.details["pledged_bytes"] == 3_060_000


def test_the_quota_counts_data_sets_and_matrices(context: JobContext) -> None:
    info: dict[str, Any] = {"id": "ds-" + "1" * 32, "stored_bytes": 100}
    context.catalog.add_dataset(info)
    build(context.catalog, 1, tile_bytes=30)
    context.catalog.add_matrix(manifest(2).id, "gram", {"n": 2})
    context.catalog.seal_matrix(manifest(2).id, "0" * 64, 500)
    assert context.catalog.stored_bytes() == 630
    small = replace(context, settings=context.settings.model_copy(update={"max_store_bytes": 1000}))
    admit(small, plan(written=370))
    with pytest.raises(InsufficientStorageError) as caught:
        admit(small, plan(written=371))
    assert caught.value.details["max_store_bytes"] == 1000
    assert caught.value.details["stored_bytes"] == 630


def test_open_jobs(context: JobContext) -> None:
    for n in range(1, 3):
        open_job(context.catalog, n, written=0)
    admit(context, plan())
    open_job(context.catalog, 3, written=0)
    with pytest.raises(TooManyJobsError) as caught:
        admit(context, plan())
    assert caught.value.details == {"open_jobs": 3, "max_open_jobs": 3}


def test_what_can_never_work_is_said_first(context: JobContext) -> None:
    for n in range(1, 4):
        open_job(context.catalog, n, written=FREE)
    with pytest.raises(ExceedsMemoryError):
        admit(context, plan(peak=2_000_000))
