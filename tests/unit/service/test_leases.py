"""Two services over one catalog, in one process: leases kept, lost, and what is left to a loser."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest
import sqlalchemy as sa

from service.events import EventBus
from service.jobs.compute import Compute
from service.jobs.context import JobContext
from service.jobs.leases import LeaseKeeper
from service.jobs.plans import Plan
from service.jobs.progress import Reporter
from service.jobs.runner import Runner
from service.settings import ServiceSettings
from storage.blobs import open_blobs
from storage.catalog import Catalog, JobRecord, JobState, LeaseRecord, Target, open_catalog
from storage.catalog.paging import now
from storage.catalog.tables import Lease
from storage.errors import ConflictError
from storage.keys import new_job_id
from workers.stops import run_name, stop_key

Work = Callable[[Callable[[], bool]], dict[str, Any] | None]
WAIT_SECONDS = 20.0


class PresentCompute:
    """A cluster that is always there."""

    def client(self) -> object:
        return object()

    def workers(self) -> int:
        return 1


class Kind:
    """Runs `work`; tells when it began."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.began = threading.Event()
        self.ended = threading.Event()

    def plan(self, context: JobContext, task: dict[str, Any]) -> Plan:
        return Plan(None, "", {})

    def run(
        self,
        context: JobContext,
        job: JobRecord,
        manifest: None,
        reporter: Reporter,
        should_stop: Callable[[], bool],
    ) -> dict[str, Any] | None:
        self.began.set()
        try:
            return self.work(should_stop)
        finally:
            self.ended.set()


class Service:
    """A runner with a keeper, as the application puts them together."""

    def __init__(self, context: JobContext, holder: str, work: Work, seconds: float) -> None:
        self.kind = Kind(work)
        self.leases = LeaseKeeper(context.catalog, holder, seconds)
        self.runner = Runner(context, EventBus(), {"test": self.kind}, self.leases)
        self.leases.start()
        self.runner.start()

    def close(self) -> None:
        self.runner.close()
        self.leases.close()


Start = Callable[..., Service]


@pytest.fixture
def context(tmp_path: Path) -> Iterator[JobContext]:
    settings = ServiceSettings(data_dir=tmp_path, reconcile_seconds=0.1, shutdown_seconds=10.0)
    with open_catalog(settings.resolved_catalog_url) as catalog:
        yield JobContext(
            settings, catalog, open_blobs(settings.store_dir), cast("Compute", PresentCompute())
        )


@pytest.fixture
def start(context: JobContext) -> Iterator[Start]:
    started: list[Service] = []

    def make(holder: str, work: Work, seconds: float = 60.0) -> Service:
        service = Service(context, holder, work, seconds)
        started.append(service)
        return service

    yield make
    for service in started:
        service.close()


def submit(catalog: Catalog) -> str:
    id_ = new_job_id()
    catalog.create_job(
        id=id_, task={"type": "test"}, request_digest=id_.rjust(64, "0"), body_digest="0" * 64
    )
    return id_


def expire(catalog: Catalog, job: str) -> None:
    """As if its holder had been silent for long enough."""
    with catalog._database.write() as session:
        session.execute(
            sa.update(Lease)
            .where(Lease.name == job)
            .values(expires_at=now() - timedelta(seconds=1))
        )


def until(catalog: Catalog, job: str, state: JobState) -> JobRecord:
    deadline = threading.Event()
    for _ in range(int(WAIT_SECONDS / 0.01)):
        found = catalog.get_job(job)
        if found.state is state:
            return found
        deadline.wait(0.01)
    raise AssertionError(f"{found.state}, not {state}")


def until_stopped(should_stop: Callable[[], bool]) -> None:
    while not should_stop():
        threading.Event().wait(0.005)


def states(catalog: Catalog, job: str) -> list[str]:
    return [e.data["state"] for e in catalog.events_after(job, 0) if e.type == "state"]


def test_a_job_runs_at_one_service_only(context: JobContext, start: Start) -> None:
    both = threading.Barrier(2)

    def work(should_stop: Callable[[], bool]) -> dict[str, Any]:
        with pytest.raises(threading.BrokenBarrierError):
            both.wait(0.3)  # passes only if both run it
        return {}

    start("a", work)
    start("b", work)
    job = submit(context.catalog)
    assert until(context.catalog, job, JobState.SUCCEEDED).attempts == 1
    assert context.catalog.live_leases() == {}


def test_what_a_service_brings_that_was_away_too_long_is_dropped(
    context: JobContext, start: Start
) -> None:
    catalog, back = context.catalog, threading.Event()

    def paused(should_stop: Callable[[], bool]) -> dict[str, Any]:
        assert back.wait(WAIT_SECONDS)
        return {"by": "a"}

    a = start("a", paused)
    job = submit(catalog)
    assert a.kind.began.wait(WAIT_SECONDS)
    expire(catalog, job)
    start("b", lambda should_stop: {"by": "b"})
    ended = until(catalog, job, JobState.SUCCEEDED)
    back.set()
    assert a.kind.ended.wait(WAIT_SECONDS)
    a.close()
    assert catalog.get_job(job) == ended
    assert ended.result is not None
    assert ended.result["summary"] == {"by": "b"}
    assert ended.attempts == 2
    assert states(catalog, job) == ["running", "running", "succeeded"]


def test_the_work_of_the_one_that_was_away_is_told_to_stop(
    context: JobContext, start: Start
) -> None:
    """Its tasks may still be in the workers, where nobody asks the catalog."""
    catalog, release = context.catalog, threading.Event()

    def hold(should_stop: Callable[[], bool]) -> None:
        assert release.wait(WAIT_SECONDS)

    a, job = start("a", hold), submit(catalog)
    assert a.kind.began.wait(WAIT_SECONDS)
    first, second = (stop_key(run_name(job, attempt)) for attempt in (1, 2))
    assert context.blobs.size(first) is None
    expire(catalog, job)
    b = start("b", lambda should_stop: {} if release.wait(WAIT_SECONDS) else None)
    assert b.kind.began.wait(WAIT_SECONDS)
    assert context.blobs.size(first) is not None
    assert context.blobs.size(second) is None
    release.set()
    until(catalog, job, JobState.SUCCEEDED)
    b.close()
    assert list(context.blobs.list("stops")) == []


def test_a_service_that_hears_of_its_loss_stops_and_ends_nothing(
    context: JobContext, start: Start
) -> None:
    catalog = context.catalog

    a = start("a", until_stopped, seconds=0.2)
    job = submit(catalog)
    assert a.kind.began.wait(WAIT_SECONDS)
    while catalog.live_leases().get(job) != "b":  # the keeper may renew in between
        expire(catalog, job)
        catalog.acquire_lease(job, "b", 60.0)
    assert a.kind.ended.wait(WAIT_SECONDS)
    a.close()
    assert catalog.get_job(job).state is JobState.RUNNING
    assert catalog.live_leases() == {job: "b"}


def test_a_cancellation_reaches_the_service_that_runs_the_job(
    context: JobContext, start: Start
) -> None:
    catalog = context.catalog

    a = start("a", until_stopped)
    job = submit(catalog)
    assert a.kind.began.wait(WAIT_SECONDS)
    start("b", until_stopped)
    catalog.set_target(job, Target.CANCEL)  # at any service: nobody wakes the other one
    assert until(catalog, job, JobState.CANCELLED).attempts == 1


def test_a_service_that_stops_hands_its_jobs_over_at_once(
    context: JobContext, start: Start
) -> None:
    a = start("a", until_stopped, seconds=3600.0)
    job = submit(context.catalog)
    assert a.kind.began.wait(WAIT_SECONDS)
    start("b", lambda should_stop: {}, seconds=3600.0)
    a.close()
    assert until(context.catalog, job, JobState.SUCCEEDED).attempts == 2


class Away:
    """A catalog that cannot be reached."""

    def renew_lease(self, lease: LeaseRecord, seconds: float) -> bool:
        raise OSError("connection refused")

    def release_lease(self, lease: LeaseRecord) -> None:
        raise OSError("connection refused")


def test_a_lease_that_cannot_be_renewed_in_time_is_given_up() -> None:
    keeper, lost = LeaseKeeper(cast("Catalog", Away()), "a", 0.3), threading.Event()
    keeper.start()
    keeper.keep(LeaseRecord("job", "a", 1), lost.set)
    # Not with the first question that fails: that comes after a third of the time.
    assert not lost.wait(0.15)
    assert lost.wait(WAIT_SECONDS)
    keeper.close()


def test_what_is_held_is_renewed_and_given_back(context: JobContext) -> None:
    busy = ConflictError("busy")
    a, b = (LeaseKeeper(context.catalog, holder, 0.3) for holder in "ab")
    a.start()
    with a.held("cleaning", busy):
        threading.Event().wait(0.6)  # twice its time
        for other in (a, b):
            with pytest.raises(ConflictError, match="busy"), other.held("cleaning", busy):
                pytest.fail("two at once")
    with b.held("cleaning", busy):
        pass
    a.close()
