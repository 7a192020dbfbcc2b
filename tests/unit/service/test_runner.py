"""The reconciler with job kinds that do exactly one thing each; no cluster, a real catalog."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from service.events import EventBus
from service.jobs.compute import Compute
from service.jobs.context import JobContext
from service.jobs.leases import LeaseKeeper
from service.jobs.plans import Plan
from service.jobs.progress import Reporter
from service.jobs.runner import Runner
from service.settings import ServiceSettings
from storage.blobs import open_blobs
from storage.catalog import JobRecord, JobState, Target, open_catalog
from storage.errors import GramianError
from storage.format import ArrayLayout, MatrixManifest
from storage.keys import matrix_id, new_job_id
from workers.errors import ClusterUnavailableError

Work = Callable[[Callable[[], bool]], dict[str, Any] | None]


class FakeCompute:
    """A cluster that is there or not."""

    def __init__(self) -> None:
        self.there = True

    def client(self) -> object:
        if not self.there:
            raise ClusterUnavailableError("gone")
        return object()

    def workers(self) -> int:
        return int(self.there)


class Kind:
    """Runs `work` for every job, and remembers who ran."""

    def __init__(self, work: Work) -> None:
        self.work = work
        self.running: set[str] = set()
        self.most_at_once = 0
        self.runs = 0

    def plan(self, context: JobContext, task: dict[str, Any]) -> Plan:
        return Plan(manifest(task["n"]), str(task["n"]), {})

    def run(
        self,
        context: JobContext,
        job: JobRecord,
        manifest: MatrixManifest,
        reporter: Reporter,
        should_stop: Callable[[], bool],
    ) -> dict[str, Any] | None:
        assert context.catalog.get_matrix(manifest.id).id == job.matrix_id
        self.runs += 1
        self.running.add(job.id)
        self.most_at_once = max(self.most_at_once, len(self.running))
        try:
            return self.work(should_stop)
        finally:
            self.running.discard(job.id)


def manifest(n: int) -> MatrixManifest:
    return MatrixManifest(
        id=matrix_id(f"{n:064x}"[::-1]),
        kind="gram",
        arrays=(ArrayLayout("ntk", (8, 8), (8, 8), "float32", True),),
        block_rows=8,
    )


@pytest.fixture
def context(tmp_path: Path) -> Iterator[JobContext]:
    settings = ServiceSettings(
        data_dir=tmp_path,
        max_running_jobs=2,
        reconcile_seconds=30.0,  # tests must not depend on it: everything is woken
        cluster_retry_seconds=0.05,
        shutdown_seconds=10.0,
    )
    with open_catalog(settings.resolved_catalog_url) as catalog:
        yield JobContext(
            settings, catalog, open_blobs(settings.store_dir), cast("Compute", FakeCompute())
        )


class Bench:
    def __init__(self, context: JobContext, kind: Kind, holder: str = "service") -> None:
        self.catalog = context.catalog
        self.kind = kind
        self.leases = LeaseKeeper(context.catalog, holder, lease_seconds=60.0)
        self.runner = Runner(context, EventBus(), {"test": kind}, self.leases)

    def submit(self, n: int = 0, owner: str | None = None) -> str:
        record, created = self.catalog.create_job(
            id=new_job_id(),
            task={"type": "test", "n": n},
            request_digest=f"{n:064x}",
            body_digest=f"{n:064x}",
            matrix_id=manifest(n).id,
            announce=("state", {"state": "queued"}),
            owner=owner,
        )
        assert created
        self.runner.wake()
        return record.id

    def cancel(self, job: str) -> None:
        self.catalog.set_target(job, Target.CANCEL)
        self.runner.wake()

    def until(self, job: str, state: JobState) -> JobRecord:
        eventually(lambda: self.catalog.get_job(job).state is state)
        return self.catalog.get_job(job)

    def states(self, job: str) -> list[str]:
        events = self.catalog.events_after(job, 0)
        return [e.data["state"] for e in events if e.type == "state"]


@pytest.fixture
def start(context: JobContext) -> Iterator[Callable[[Work], Bench]]:
    """Starts a runner of jobs that do `work`; all of them are closed at the end."""
    started: list[Bench] = []

    def make(work: Work) -> Bench:
        bench = Bench(context, Kind(work))
        bench.runner.start()
        started.append(bench)
        return bench

    yield make
    for bench in started:
        bench.runner.close()
        assert not bench.runner.alive()
        assert not bench.kind.running


Start = Callable[[Work], Bench]


def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for 20 seconds"
        time.sleep(0.005)


def until_stopped(should_stop: Callable[[], bool]) -> None:
    while not should_stop():
        time.sleep(0.002)


def test_a_job_succeeds(start: Start) -> None:
    bench = start(lambda should_stop: {"answer": 42})
    job = bench.submit()
    record = bench.until(job, JobState.SUCCEEDED)
    assert record.result == {"matrix": manifest(0).id, "summary": {"answer": 42}}
    assert bench.states(job) == ["queued", "running", "succeeded"]


def test_a_job_fails_with_kind_message_and_advice(start: Start) -> None:
    class NarrowError(GramianError):
        kind = "narrow"

    def work(should_stop: Callable[[], bool]) -> None:
        raise NarrowError("It is too narrow.", advice="Widen it.", width=3)

    bench = start(work)
    record = bench.until(bench.submit(), JobState.FAILED)
    assert record.error == {
        "kind": "narrow",
        "message": "It is too narrow.",
        "advice": "Widen it.",
        "width": 3,
    }


def test_a_bug_fails_the_job_without_telling_its_text(start: Start) -> None:
    def work(should_stop: Callable[[], bool]) -> None:
        raise ZeroDivisionError("secret path /home/user")

    bench = start(work)
    record = bench.until(bench.submit(), JobState.FAILED)
    assert record.error is not None
    assert record.error["kind"] == "internal"
    assert "ZeroDivisionError" in record.error["message"]
    assert "secret" not in str(record.error)
    assert bench.until(bench.submit(1), JobState.FAILED).error == record.error


def test_a_job_is_cancelled_only_after_its_work_has_ended(start: Start) -> None:
    release = threading.Event()

    def work(should_stop: Callable[[], bool]) -> None:
        until_stopped(should_stop)
        release.wait(20)  # the last tile takes its time

    bench = start(work)
    job = bench.submit()
    eventually(lambda: bool(bench.kind.running))
    bench.cancel(job)
    time.sleep(0.1)
    assert bench.catalog.get_job(job).state is JobState.RUNNING
    release.set()
    bench.until(job, JobState.CANCELLED)
    assert bench.states(job) == ["queued", "running", "cancelled"]


def test_work_that_finishes_although_cancelled_has_succeeded(start: Start) -> None:
    def work(should_stop: Callable[[], bool]) -> dict[str, Any]:
        until_stopped(should_stop)
        return {"late": True}

    bench = start(work)
    job = bench.submit()
    eventually(lambda: bool(bench.kind.running))
    bench.cancel(job)
    assert bench.until(job, JobState.SUCCEEDED).result is not None


def test_no_more_jobs_run_at_once_than_allowed_and_all_run(start: Start) -> None:
    pair = threading.Barrier(2, timeout=20)

    def work(should_stop: Callable[[], bool]) -> dict[str, Any]:
        pair.wait()  # passes only if two jobs really run side by side
        return {}

    bench = start(work)
    jobs = [bench.submit(n) for n in range(8)]
    for job in jobs:
        bench.until(job, JobState.SUCCEEDED)
    assert bench.kind.most_at_once == 2
    assert bench.kind.runs == 8


def test_the_long_jobs_of_one_owner_do_not_keep_out_a_job_of_another(start: Start) -> None:
    release = threading.Event()
    quick = threading.Event()

    def work(should_stop: Callable[[], bool]) -> dict[str, Any]:
        if not quick.is_set():
            release.wait(20)
        return {}

    bench = start(work)
    greedy = [bench.submit(n, "alice") for n in range(5)]
    eventually(lambda: len(bench.kind.running) == 2)
    quick.set()
    small = bench.submit(10, "bob")
    bench.until(small, JobState.SUCCEEDED)
    states = [bench.catalog.get_job(job).state for job in greedy]
    assert states == [JobState.RUNNING] * 2 + [JobState.QUEUED] * 3
    release.set()
    for job in greedy:
        bench.until(job, JobState.SUCCEEDED)


def test_a_queued_job_is_cancelled_without_running(start: Start) -> None:
    def work(should_stop: Callable[[], bool]) -> None:
        until_stopped(should_stop)

    bench = start(work)
    first, second, third = (bench.submit(n) for n in range(3))
    eventually(lambda: len(bench.kind.running) == 2)
    bench.cancel(third)
    bench.until(third, JobState.CANCELLED)
    assert bench.kind.runs == 2
    for job in (first, second):
        bench.cancel(job)
        bench.until(job, JobState.CANCELLED)


def test_a_restart_takes_running_jobs_up_again(start: Start) -> None:
    def stop_without_result(should_stop: Callable[[], bool]) -> None:
        until_stopped(should_stop)

    before = start(stop_without_result)
    job = before.submit()
    eventually(lambda: bool(before.kind.running))
    before.runner.close()
    assert before.catalog.get_job(job).state is JobState.RUNNING
    after = start(lambda should_stop: {})
    assert after.until(job, JobState.SUCCEEDED).attempts == 2
    assert after.states(job) == ["queued", "running", "running", "succeeded"]


def test_what_breaks_during_the_shutdown_does_not_fail_the_job(start: Start) -> None:
    def work(should_stop: Callable[[], bool]) -> None:
        until_stopped(should_stop)
        raise OSError("the cluster was taken away")

    bench = start(work)
    job = bench.submit()
    eventually(lambda: bool(bench.kind.running))
    bench.runner.close()
    assert bench.catalog.get_job(job).state is JobState.RUNNING


def test_a_cancellation_is_honoured_after_a_restart(start: Start) -> None:
    before = start(lambda should_stop: until_stopped(should_stop))
    job = before.submit()
    eventually(lambda: bool(before.kind.running))
    before.runner.close()
    before.catalog.set_target(job, Target.CANCEL)
    after = start(lambda should_stop: {})
    after.until(job, JobState.CANCELLED)
    assert after.kind.runs == 0


def test_jobs_wait_for_a_cluster(start: Start, context: JobContext) -> None:
    compute = cast("FakeCompute", context.compute)
    compute.there = False
    bench = start(lambda should_stop: {})
    job = bench.submit()
    time.sleep(0.1)
    assert bench.catalog.get_job(job).state is JobState.QUEUED
    compute.there = True
    bench.runner.wake()
    bench.until(job, JobState.SUCCEEDED)


def test_a_job_that_loses_the_cluster_goes_on_with_the_next_one(
    start: Start, context: JobContext
) -> None:
    compute = cast("FakeCompute", context.compute)

    def work(should_stop: Callable[[], bool]) -> dict[str, Any]:
        if bench.kind.runs == 1:
            compute.there = False
            raise ClusterUnavailableError("The scheduler is gone.")
        return {}

    bench = start(work)
    job = bench.submit()
    eventually(lambda: not compute.there and not bench.kind.running)
    time.sleep(0.2)
    assert bench.catalog.get_job(job).state is JobState.RUNNING
    assert bench.kind.runs == 1
    compute.there = True
    assert bench.until(job, JobState.SUCCEEDED).attempts == 2


def test_the_runner_outlives_a_catalog_that_is_away_for_a_moment(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = start(lambda should_stop: {})
    real = type(bench.catalog).open_jobs
    failures = []

    def flaky(self: Any) -> list[JobRecord]:
        if not failures:
            failures.append(1)
            raise OSError("connection refused")
        return real(self)

    monkeypatch.setattr(type(bench.catalog), "open_jobs", flaky)
    job = bench.submit()
    eventually(lambda: bool(failures))
    bench.runner.wake()
    bench.until(job, JobState.SUCCEEDED)


def test_a_request_that_would_build_another_matrix_now_fails_clearly(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = start(lambda should_stop: {})
    monkeypatch.setattr(
        bench.kind, "plan", lambda context, task: Plan(manifest(task["n"] + 100), "", {})
    )
    record = bench.until(bench.submit(), JobState.FAILED)
    assert record.error is not None
    assert record.error["kind"] == "conflict"
    assert "compute_block_rows" in record.error["advice"]
    assert bench.kind.runs == 0
