"""Leases: one holder at a time, and nothing that an earlier one writes arrives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.catalog import (
    Catalog,
    CatalogUnavailableError,
    DatabaseSettings,
    JobEvent,
    JobRecord,
    JobState,
    LeaseLostError,
    LeaseRecord,
    RunningLimits,
    Target,
    open_catalog,
)
from storage.catalog.leases import database_time
from storage.catalog.tables import Lease
from storage.errors import ConflictError
from support.catalogs import create_job, mx, tile

NO_LIMITS = RunningLimits(1000, 1000)
LONG = 3600.0


def expire(catalog: Catalog, name: str) -> None:
    """Let the time of a lease be up."""
    database = catalog._database
    with database.write() as session:
        past = database_time(database, session) - timedelta(seconds=1)
        session.execute(sa.update(Lease).where(Lease.name == name).values(expires_at=past))


def claim(
    catalog: Catalog, job: JobRecord, holder: str, limits: RunningLimits = NO_LIMITS
) -> LeaseRecord | None:
    now = catalog.get_job(job.id)
    event = JobEvent.START if now.state is JobState.QUEUED else JobEvent.RESUME
    taken = catalog.claim_job(now, event, holder=holder, lease_seconds=LONG, limits=limits)
    return None if taken is None else taken[1]


def got(lease: LeaseRecord | None) -> LeaseRecord:
    assert lease is not None
    return lease


def test_a_lease_has_one_holder_until_it_ends(catalog: Catalog) -> None:
    first = got(catalog.acquire_lease("cleaning", "a", LONG))
    assert catalog.acquire_lease("cleaning", "b", LONG) is None
    assert catalog.live_leases() == {"cleaning": "a"}
    assert catalog.renew_lease(first, LONG)
    catalog.release_lease(first)
    assert catalog.live_leases() == {}
    second = got(catalog.acquire_lease("cleaning", "b", LONG))
    assert second.generation > first.generation
    assert not catalog.renew_lease(first, LONG)
    catalog.release_lease(first)  # comes too late, and ends nothing
    assert catalog.live_leases() == {"cleaning": "b"}


def test_a_lease_ends_by_the_clock_of_the_database(catalog: Catalog) -> None:
    got(catalog.acquire_lease("cleaning", "a", 0.0))
    assert catalog.live_leases() == {}
    assert got(catalog.acquire_lease("cleaning", "b", LONG)).holder == "b"


def test_a_lease_whose_time_is_up_is_good_until_somebody_takes_it(catalog: Catalog) -> None:
    job = create_job(catalog)
    lease = got(claim(catalog, job, "a"))
    expire(catalog, job.id)
    catalog.fenced(lease).save_progress(job.id, {"tiles_done": 1})
    assert catalog.renew_lease(lease, LONG)
    assert claim(catalog, job, "b") is None


def test_nothing_that_the_former_holder_writes_arrives(catalog: Catalog) -> None:
    job = create_job(catalog, matrix_id=mx("k"))
    catalog.add_matrix(mx("k"), "gram", {"id": mx("k")})
    stale = catalog.fenced(got(claim(catalog, job, "a")))
    stale.add_tiles(mx("k"), [tile(0, 0)])
    expire(catalog, job.id)
    fresh = catalog.fenced(got(claim(catalog, job, "b")))
    writes: list[Callable[[Catalog], object]] = [
        lambda c: c.save_progress(job.id, {"by": "a"}),
        lambda c: c.append_event(job.id, "progress", {"by": "a"}),
        lambda c: c.add_tiles(mx("k"), [tile(0, 1)]),
        lambda c: c.record_rate("key", 1.0, 1),
        lambda c: c.seal_matrix(mx("k"), "0" * 64, 1),
        lambda c: c.delete_matrix(mx("k")),
        lambda c: c.apply(job.id, JobEvent.FAIL, error={}),
        lambda c: c.apply(job.id, JobEvent.FINISH, result={}, announce=("state", {})),
    ]
    before = (catalog.get_job(job.id), catalog.events_after(job.id, 0))
    for write in writes:
        with pytest.raises(LeaseLostError):
            write(stale)
    with pytest.raises(LeaseLostError):
        stale.confirm_lease()
    fresh.confirm_lease()
    catalog.confirm_lease()  # without a lease there is nothing to lose
    assert (catalog.get_job(job.id), catalog.events_after(job.id, 0)) == before
    assert [(t.i, t.j) for t in catalog.tiles(mx("k"))] == [(0, 0)]
    assert catalog.rate("key") is None
    assert fresh.apply(job.id, JobEvent.FINISH, result={}).state is JobState.SUCCEEDED


def test_a_holder_that_takes_its_lease_again_fences_its_own_past_off(catalog: Catalog) -> None:
    job = create_job(catalog)
    before = catalog.fenced(got(claim(catalog, job, "a")))
    after = catalog.fenced(got(claim(catalog, job, "a")))
    with pytest.raises(LeaseLostError):
        before.save_progress(job.id, {})
    after.save_progress(job.id, {})
    assert catalog.get_job(job.id).attempts == 2


def test_the_lease_goes_with_the_job(catalog: Catalog) -> None:
    job = create_job(catalog)
    lease = got(claim(catalog, job, "a"))
    catalog.fenced(lease).apply(job.id, JobEvent.FINISH, result={})
    assert catalog.live_leases() == {}
    assert not catalog.renew_lease(lease, LONG)
    with pytest.raises(LeaseLostError):
        catalog.fenced(lease).append_event(job.id, "late", {})


def test_who_wants_a_lease_waits_for_the_write_that_it_guards(catalog: Catalog) -> None:
    job = create_job(catalog)
    guarded = catalog.fenced(got(claim(catalog, job, "a")))
    expire(catalog, job.id)
    with ThreadPoolExecutor(1) as pool:
        with guarded._database.write():
            taking = pool.submit(claim, catalog, job, "b")
            with pytest.raises(TimeoutError):
                taking.result(timeout=0.3)
        assert got(taking.result(timeout=30)).holder == "b"


def test_a_holder_that_falls_asleep_in_mid_write_keeps_nobody_waiting_for_ever(
    catalog: Catalog, catalog_url: str
) -> None:
    """A process that is stopped between two statements; its locks would outlive its lease."""
    if not catalog.shared:
        return  # the one service of a SQLite catalog has nobody to keep waiting
    job = create_job(catalog)
    lease = got(claim(catalog, job, "a"))
    expire(catalog, job.id)
    with open_catalog(catalog_url, settings=DatabaseSettings(idle_transaction_seconds=0.3)) as a:
        asleep, awake = threading.Event(), threading.Event()

        def sleep() -> None:
            with a.fenced(lease)._database.write() as session:
                asleep.set()
                assert awake.wait(30)
                session.execute(sa.text("UPDATE jobs SET request_digest = 'changed'"))

        with ThreadPoolExecutor(1) as pool:
            sleeping = pool.submit(sleep)
            assert asleep.wait(30)
            assert got(claim(catalog, job, "b")).holder == "b"
            awake.set()
            with pytest.raises(CatalogUnavailableError):
                sleeping.result(timeout=30)
    assert catalog.get_job(job.id).request_digest == job.request_digest


def at_once(act: Callable[[int], LeaseRecord | None], threads: int) -> list[LeaseRecord | None]:
    barrier = threading.Barrier(threads)

    def run(n: int) -> LeaseRecord | None:
        barrier.wait(30)
        try:
            return act(n)
        except ConflictError:
            return None

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_one_of_many_claims_a_job(catalog: Catalog) -> None:
    for round_ in range(5):
        job = create_job(catalog, round_)
        answers = at_once(lambda n, job=job: claim(catalog, job, f"holder {n}"), threads=6)
        assert sum(answer is not None for answer in answers) == 1
        assert catalog.get_job(job.id).attempts == 1


def test_limits_hold_over_all_who_claim_at_once(catalog: Catalog) -> None:
    owners = ["alice"] * 6 + ["bob"] * 6
    jobs = [create_job(catalog, n, owner=owner) for n, owner in enumerate(owners)]
    limits = RunningLimits(of_one_owner=3, in_all=5)
    answers = at_once(lambda n: claim(catalog, jobs[n], f"holder {n}", limits), threads=12)
    running = [job.owner for job, lease in zip(jobs, answers, strict=True) if lease]
    assert len(running) == 5
    assert max(running.count("alice"), running.count("bob")) <= 3
    states = [catalog.get_job(job.id).state for job in jobs]
    assert states.count(JobState.RUNNING) == 5


def test_jobs_of_the_dead_do_not_count_against_the_limits(catalog: Catalog) -> None:
    limits = RunningLimits(of_one_owner=1, in_all=1)
    first, second = create_job(catalog, 1), create_job(catalog, 2)
    got(claim(catalog, first, "a", limits))
    assert claim(catalog, second, "b", limits) is None
    expire(catalog, first.id)
    got(claim(catalog, second, "b", limits))
    assert claim(catalog, first, "b", limits) is None, "now the other one counts"


def test_a_cancelled_job_is_ended_by_whoever_may(catalog: Catalog) -> None:
    job = create_job(catalog)
    lease = got(claim(catalog, job, "a"))
    catalog.set_target(job.id, Target.CANCEL)
    assert catalog.cancel_unclaimed(job.id, holder="b") is None
    expire(catalog, job.id)
    ended = catalog.cancel_unclaimed(job.id, holder="b", announce=("state", {}))
    assert ended is not None
    assert ended.state is JobState.CANCELLED
    with pytest.raises(LeaseLostError):
        catalog.fenced(lease).apply(job.id, JobEvent.FINISH, result={})
    with pytest.raises(ConflictError):
        catalog.cancel_unclaimed(job.id, holder="b")


def test_a_mutex_excludes_over_catalogs(catalog: Catalog, catalog_url: str) -> None:
    """On SQLite within the process that has the folder to itself."""
    with open_catalog(catalog_url) as other, ThreadPoolExecutor(1) as pool:
        there = other if catalog.shared else catalog
        entered = threading.Event()

        def enter() -> None:
            with there.mutex("names"):
                entered.set()

        with catalog.mutex("names"):
            with there.mutex("something else"):
                pass
            waiting = pool.submit(enter)
            assert not entered.wait(0.3)
        waiting.result(timeout=30)
        assert entered.is_set()


@dataclass
class Model:
    """What is so, written down a second time: a generation, whether its time is up, an end."""

    generation: int = 0
    holder: str = ""
    live: bool = False
    ended: bool = False
    progress: int | None = None
    memories: dict[str, LeaseRecord] = field(default_factory=dict)  # what each believes to have

    def owns(self, who: str) -> bool:
        believed = self.memories.get(who)
        return believed is not None and believed.generation == self.generation and not self.ended


ACTIONS = ["claim", "renew", "release", "expire", "write", "finish", "fail"]


@settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(ACTIONS), st.sampled_from(["a", "b", "c"])), max_size=20
    )
)
def test_whatever_the_order_only_the_last_holder_writes(
    catalog: Catalog, steps: list[tuple[str, str]]
) -> None:
    """Holders that are paused anywhere and go on with what they remember."""
    job = create_job(catalog, f"walk {sum(catalog.count_jobs().values())}")
    model = Model()
    for number, (action, who) in enumerate(steps):
        believed = model.memories.get(who)
        if action == "claim":
            _claim(catalog, job, model, who)
        elif action == "expire":
            expire(catalog, job.id)
            model.live = False
        elif believed is None:
            continue
        elif action == "renew":
            assert catalog.renew_lease(believed, LONG) == model.owns(who)
            model.live = model.live or model.owns(who)
        elif action == "release":
            catalog.release_lease(believed)
            model.live = model.live and not model.owns(who)
        else:
            _write(catalog.fenced(believed), job, model, who, action, number)
    found = catalog.get_job(job.id)
    assert (found.progress or {}).get("step") == model.progress
    assert found.ended == model.ended
    assert found.attempts == model.generation
    live = {job.id: model.holder} if model.live and not model.ended else {}
    assert {n: h for n, h in catalog.live_leases().items() if n == job.id} == live


def _claim(catalog: Catalog, job: JobRecord, model: Model, who: str) -> None:
    if model.ended:
        with pytest.raises(ConflictError):
            claim(catalog, job, who)
        return
    lease = claim(catalog, job, who)
    free = not model.live or model.holder == who
    assert (lease is not None) == free
    if lease is not None:
        model.generation += 1
        assert lease.generation == model.generation
        model.holder, model.live = who, True
        model.memories[who] = lease


def _write(
    fenced: Catalog, job: JobRecord, model: Model, who: str, action: str, number: int
) -> None:
    def write() -> object:
        if action == "write":
            return fenced.save_progress(job.id, {"step": number})
        return fenced.apply(job.id, JobEvent(action), result={}, error={})

    if not model.owns(who):
        with pytest.raises(LeaseLostError):
            write()
        return
    write()
    if action == "write":
        model.progress = number
    else:
        model.ended = True
