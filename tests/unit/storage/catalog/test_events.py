"""Events: numbered per job without gaps, and still numbered on after pruning."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from storage.catalog import Catalog, JobEvent
from storage.errors import NotFoundError
from storage.keys import new_job_id
from support.catalogs import create_job


def test_numbers_count_within_each_job(catalog: Catalog) -> None:
    a, b = create_job(catalog, "a").id, create_job(catalog, "b").id
    assert [catalog.append_event(a, "progress", {"tiles": n}) for n in range(3)] == [1, 2, 3]
    assert catalog.append_event(b, "progress", {"tiles": 0}) == 1
    assert [event.data["tiles"] for event in catalog.events_after(a, 0)] == [0, 1, 2]
    assert catalog.events_after(b, 0)[0].created_at.utcoffset() == timedelta(0)


def test_a_watcher_goes_on_where_it_was(catalog: Catalog) -> None:
    job = create_job(catalog).id
    for n in range(1, 8):
        catalog.append_event(job, "progress", {"n": n})
    seen: list[int] = []
    while batch := catalog.events_after(job, seen[-1] if seen else 0, limit=3):
        assert len(batch) <= 3
        seen += [event.sequence for event in batch]
    assert seen == list(range(1, 8))
    assert catalog.events_after(job, 100) == []


def test_one_look_tells_of_news_in_many_jobs(catalog: Catalog) -> None:
    jobs = [create_job(catalog, str(n)).id for n in range(3)]
    for n, job in enumerate(jobs):
        for _ in range(n):
            catalog.append_event(job, "progress", {})
    assert catalog.event_counts([*jobs, new_job_id()]) == dict(zip(jobs, (0, 1, 2), strict=True))
    assert catalog.event_counts([]) == {}
    # More than fit into one statement.
    many = [new_job_id() for _ in range(2000)]
    assert catalog.event_counts([*many, jobs[2]]) == {jobs[2]: 2}


def test_no_event_without_a_job(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError):
        catalog.append_event(new_job_id(), "progress", {})


def test_only_events_of_jobs_that_ended_long_ago_are_pruned(catalog: Catalog) -> None:
    ended, still_open = create_job(catalog, "a").id, create_job(catalog, "b").id
    for job in (ended, still_open):
        catalog.append_event(job, "progress", {})
        catalog.apply(job, JobEvent.START, announce=("state", {}))
    catalog.apply(ended, JobEvent.FAIL, error={"kind": "internal"})

    assert catalog.prune_events(datetime.now(UTC) - timedelta(hours=1)) == 0
    assert catalog.prune_events(datetime.now(UTC) + timedelta(hours=1)) == 2
    assert catalog.events_after(ended, 0) == []
    assert len(catalog.events_after(still_open, 0)) == 2
    # Numbers go on, so that a watcher's Last-Event-ID never names another event.
    assert catalog.append_event(ended, "note", {}) == 3
