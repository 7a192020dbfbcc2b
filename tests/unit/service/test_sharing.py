"""What a service does otherwise when it is not alone on a catalog and a folder."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from service.events import EventBus, job_events
from service.http.receive import sweep
from service.settings import ServiceSettings
from storage.catalog import Catalog, open_catalog
from support.catalogs import create_job


def test_a_stream_finds_events_that_nobody_here_announced(tmp_path: Path) -> None:
    async def follow(catalog: Catalog, job: str) -> list[bytes]:
        stream = job_events(
            catalog,
            EventBus(),
            job,
            after=0,
            heartbeat_seconds=3600.0,
            retry_milliseconds=1,
            poll_seconds=0.02,
        )
        seen = [await anext(stream)]
        following = asyncio.ensure_future(anext(stream))
        await asyncio.sleep(0.1)
        assert not following.done()
        catalog.append_event(job, "state", {"state": "succeeded"})
        seen.append(await asyncio.wait_for(following, 20))
        return [*seen, *[piece async for piece in stream]]

    with open_catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}") as catalog:
        pieces = asyncio.run(follow(catalog, create_job(catalog).id))
    assert len(pieces) == 2, "it polls, and is silent"
    assert b"succeeded" in pieces[1]


def test_a_stream_that_polls_keeps_the_pace_of_its_heartbeat(tmp_path: Path) -> None:
    async def first(catalog: Catalog, job: str) -> tuple[bytes, float]:
        stream = job_events(
            catalog,
            EventBus(),
            job,
            after=0,
            heartbeat_seconds=0.3,
            retry_milliseconds=1,
            poll_seconds=0.01,
        )
        await anext(stream)
        began = time.monotonic()
        return await anext(stream), time.monotonic() - began

    with open_catalog(f"sqlite:///{tmp_path / 'catalog.sqlite'}") as catalog:
        piece, seconds = asyncio.run(first(catalog, create_job(catalog).id))
    assert piece.startswith(b":")
    assert seconds >= 0.25


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
