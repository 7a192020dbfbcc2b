"""What a service does otherwise when it is not alone on a catalog and a folder."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

from service.events import CatalogWatch, EventBus, job_events
from service.http.receive import sweep
from service.reads import JobReads
from service.settings import ServiceSettings
from storage.catalog import Catalog, open_catalog
from support.catalogs import create_job


async def _stream(catalog: Catalog, bus: EventBus, job: str) -> AsyncIterator[bytes]:
    """The stream of a job, after its first frame."""
    stream = job_events(
        JobReads(catalog), bus, job, after=0, heartbeat_seconds=3600.0, retry_milliseconds=1
    )
    assert (await anext(stream)).startswith(b"retry:")
    return stream


def test_streams_find_events_that_nobody_here_announced(tmp_path: Path) -> None:
    async def follow(catalog: Catalog, job: str) -> list[list[bytes]]:
        bus = EventBus()
        streams = [await _stream(catalog, bus, job) for _ in range(3)]
        following = [asyncio.ensure_future(anext(stream)) for stream in streams]
        with watching(catalog, bus):
            await asyncio.sleep(0.1)
            assert not any(each.done() for each in following)
            catalog.append_event(job, "progress", {"n": 1})
            first = [await asyncio.wait_for(each, 20) for each in following]
            catalog.append_event(job, "state", {"state": "succeeded"})
            rest = [[piece async for piece in stream] for stream in streams]
        return [first, *rest]

    with open_catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}") as catalog:
        first, *rest = asyncio.run(follow(catalog, create_job(catalog).id))
    assert len(first) == 3
    assert all(b"id: 1" in piece for piece in first)
    assert [len(pieces) for pieces in rest] == [1, 1, 1], "they are woken, and are silent"
    assert all(b"id: 2" in pieces[0] and b"succeeded" in pieces[0] for pieces in rest)


@contextmanager
def watching(catalog: Catalog, bus: EventBus) -> Iterator[None]:
    watch = CatalogWatch(catalog, bus, 0.02)
    watch.start()
    try:
        yield
    finally:
        watch.close()


def test_whoever_follows_all_jobs_asks_one_question_and_outlives_a_catalog_that_is_away(
    tmp_path: Path,
) -> None:
    class Flaky:
        """Fails at first, and writes down what it is asked."""

        def __init__(self, catalog: Catalog) -> None:
            self.catalog = catalog
            self.asked: list[list[str]] = []

        def event_counts(self, job_ids: list[str]) -> dict[str, int]:
            self.asked.append(sorted(job_ids))
            if len(self.asked) < 3:
                raise OSError("away")
            return self.catalog.event_counts(job_ids)

    async def follow(catalog: Catalog, flaky: Flaky, jobs: list[str]) -> None:
        bus = EventBus()
        streams = [await _stream(catalog, bus, job) for job in jobs for _ in range(5)]
        following = [asyncio.ensure_future(anext(stream)) for stream in streams]
        with watching(cast("Catalog", flaky), bus):
            while len(flaky.asked) < 3:
                await asyncio.sleep(0.01)
            for job in jobs:
                catalog.append_event(job, "state", {"state": "failed"})
            await asyncio.wait_for(asyncio.gather(*following), 20)

    with open_catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}") as catalog:
        jobs = [create_job(catalog, name).id for name in ("a", "b")]
        flaky = Flaky(catalog)
        asyncio.run(follow(catalog, flaky, jobs))
    assert flaky.asked[2] == sorted(jobs)


def test_uploads_of_others_are_left_alone(tmp_path: Path) -> None:
    fresh, stale = tmp_path / "fresh", tmp_path / "stale"
    then = time.time() - 7200
    for folder in (fresh, stale):
        folder.mkdir()
        (folder / "part").write_bytes(b"x")
        for path in (folder / "part", folder):
            os.utime(path, (then, then))
    os.utime(fresh / "part")  # somebody still writes to it
    sweep(tmp_path, untouched_seconds=3600.0)
    assert sorted(tmp_path.iterdir()) == [fresh]
    sweep(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_who_shares_is_told_by_the_catalog_without_its_password(tmp_path: Path) -> None:
    url = "postgresql+psycopg://alice:secret@db.example:5433/gramian"
    assert ServiceSettings(catalog_url=url).shared_catalog == "db.example:5433/gramian"
    assert ServiceSettings(data_dir=tmp_path).shared_catalog is None
