"""Threads that want the same thing at once: exactly one gets it, nobody fails for being second.

The second half runs several processes on one database.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest

from storage.catalog import Catalog, JobEvent, JobState, open_catalog
from storage.catalog.matrices import lock
from storage.errors import ConflictError, GramianError, NotFoundError
from support.catalogs import add_dataset, create_job, hex_digest, mx, submit, tile

THREADS = 8

T = TypeVar("T")


def at_once(act: Callable[[int], T], threads: int = THREADS) -> list[T | GramianError]:
    """What `act(0)`, `act(1)`, ... return or (GramianError only) raise, started together."""
    barrier = threading.Barrier(threads)

    def run(n: int) -> T | GramianError:
        barrier.wait(30)
        try:
            return act(n)
        except GramianError as error:
            return error

    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(run, range(threads)))


def test_one_key_posted_at_once_is_one_job(catalog: Catalog) -> None:
    for round_ in range(5):
        key = f"key {round_}"
        # Different request digests, so that only the key can make them one job.
        answers = at_once(
            lambda n, key=key: submit(catalog, f"{key} {n}", body="same", idempotency_key=key)
        )
        jobs = [answer for answer in answers if isinstance(answer, tuple)]
        assert len(jobs) == THREADS, answers
        assert len({job.id for job, _ in jobs}) == 1
        assert sum(created for _, created in jobs) == 1
    assert len(catalog.open_jobs()) == 5


def test_one_request_posted_at_once_is_one_job(catalog: Catalog) -> None:
    for round_ in range(5):
        answers = at_once(
            lambda n, round_=round_: submit(catalog, round_, idempotency_key=f"{round_}/{n}")
        )
        jobs = [answer for answer in answers if isinstance(answer, tuple)]
        assert len(jobs) == THREADS, answers
        assert sum(created for _, created in jobs) == 1
        # Every key is remembered, also those whose sender did not create the job.
        for n in range(THREADS):
            job, created = submit(catalog, round_, idempotency_key=f"{round_}/{n}")
            assert (job.id, created) == (jobs[0][0].id, False)


def test_one_key_with_many_bodies_is_one_job_and_refusals(catalog: Catalog) -> None:
    answers = at_once(lambda n: submit(catalog, n, idempotency_key="k"))
    refused = [answer for answer in answers if isinstance(answer, ConflictError)]
    assert len(refused) == THREADS - 1
    assert {error.kind for error in refused} == {"idempotency-conflict"}
    assert len(catalog.open_jobs()) == 1


@pytest.mark.parametrize("event", [JobEvent.START, JobEvent.FAIL])
def test_one_of_many_runners_moves_a_job(catalog: Catalog, event: JobEvent) -> None:
    job = create_job(catalog).id
    answers = at_once(
        lambda n: catalog.apply(job, event, error={"by": n}, announce=("state", {"by": n}))
    )
    assert sum(isinstance(answer, ConflictError) for answer in answers) == THREADS - 1
    (event_record,) = catalog.events_after(job, 0)
    moved = catalog.get_job(job)
    assert moved.error == event_record.data, "the error is that of the runner that won"
    assert moved.attempts == (1 if event is JobEvent.START else 0)


def test_one_of_many_runners_resumes_a_job(catalog: Catalog) -> None:
    job = create_job(catalog).id
    seen = catalog.apply(job, JobEvent.START).attempts
    answers = at_once(lambda n: catalog.apply(job, JobEvent.RESUME, expected_attempts=seen))
    assert sum(isinstance(answer, ConflictError) for answer in answers) == THREADS - 1
    assert catalog.get_job(job).attempts == 2


def test_opposite_ends_at_once_leave_one(catalog: Catalog) -> None:
    for round_ in range(5):
        job = create_job(catalog, round_).id
        catalog.apply(job, JobEvent.START)
        ends = [JobEvent.FINISH, JobEvent.CANCELLED, JobEvent.FAIL]
        answers = at_once(lambda n, job=job, ends=ends: catalog.apply(job, ends[n]), threads=3)
        (winner,) = [answer for answer in answers if not isinstance(answer, GramianError)]
        assert catalog.get_job(job) == winner
        assert winner.state is not JobState.RUNNING


def test_event_numbers_have_no_gaps_and_appear_in_order(catalog: Catalog) -> None:
    job = create_job(catalog).id
    each = 15
    stop = threading.Event()
    problems: list[str] = []

    def watch() -> None:
        seen = 0
        while not stop.is_set():
            for event in catalog.events_after(job, seen):
                if event.sequence != seen + 1:
                    problems.append(f"{event.sequence} after {seen}")
                seen = event.sequence

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answers = at_once(
            lambda n: [catalog.append_event(job, "progress", {"by": n}) for _ in range(each)]
        )
    finally:
        stop.set()
        watcher.join()
    numbers = sorted(number for answer in answers if isinstance(answer, list) for number in answer)
    assert numbers == list(range(1, THREADS * each + 1))
    assert problems == []


def test_overlapping_tile_batches_do_not_deadlock(catalog: Catalog) -> None:
    matrix = mx("k")
    catalog.add_matrix(matrix, "gram", {"id": matrix})
    batch = [tile(i, j) for i in range(20) for j in range(20)]

    def add(n: int) -> None:
        for _ in range(4):
            catalog.add_tiles(matrix, batch if n % 2 else batch[::-1])

    assert at_once(add) == [None] * THREADS
    assert list(catalog.tiles(matrix)) == batch


def test_tiles_against_seal(catalog: Catalog) -> None:
    """What is recorded was recorded before the seal; what came later was refused."""
    matrix = mx("k")
    catalog.add_matrix(matrix, "gram", {"id": matrix})

    def act(n: int) -> int:
        if n == 0:
            catalog.seal_matrix(matrix, hex_digest("k"), 1)
            return catalog.tile_count(matrix)
        catalog.add_tiles(matrix, [tile(n, n)])
        return 1

    at_seal, *added = at_once(act)
    assert at_seal == catalog.tile_count(matrix)
    assert at_seal == sum(answer == 1 for answer in added)
    assert all(answer == 1 or isinstance(answer, ConflictError) for answer in added)


def test_a_seal_waits_for_tiles_that_are_being_recorded(catalog: Catalog) -> None:
    matrix = mx("k")
    catalog.add_matrix(matrix, "gram", {"id": matrix})
    with ThreadPoolExecutor(1) as pool:
        with catalog._database.write() as session:
            lock(session, matrix, shared=True)  # as `add_tiles` does before it writes
            sealing = pool.submit(catalog.seal_matrix, matrix, hex_digest("k"), 1)
            with pytest.raises(TimeoutError):
                sealing.result(timeout=0.5)
            assert not catalog.get_matrix(matrix).sealed
        assert sealing.result(timeout=30).sealed


def test_a_data_set_is_used_or_deleted_but_not_both(catalog: Catalog) -> None:
    for round_ in range(8):
        x1 = add_dataset(catalog, f"set {round_}")

        def act(n: int, x1: str = x1, round_: int = round_) -> object:
            if n % 2:
                return catalog.delete_dataset(x1)
            return submit(catalog, f"{round_}/{n}", task={"x1": x1})

        answers = at_once(act, threads=4)
        jobs = [answer for answer in answers[::2] if isinstance(answer, tuple)]
        if jobs:
            assert catalog.get_dataset(x1).id == x1
            assert all(isinstance(answer, ConflictError) for answer in answers[1::2])
        else:
            assert all(isinstance(answer, NotFoundError) for answer in answers[::2])
            with pytest.raises(NotFoundError):
                catalog.get_dataset(x1)


WORKER = """
import sys, threading
from storage.catalog import JobEvent, TileRecord, open_catalog
from storage.errors import ConflictError

url, matrix, job, name, rounds = *sys.argv[1:5], int(sys.argv[5])
with open_catalog(url) as catalog:
    print("ready", flush=True)
    sys.stdin.readline()

    def write(thread):
        for n in range(rounds):
            catalog.append_event(job, "progress", {"by": name})
            catalog.record_rate("key", 1.0, 1)
            tiles = [TileRecord(name + thread, n, j, bytes(32), 0.5, 0.0, 1.0, 0, 8)
                     for j in range(50)]
            catalog.add_tiles(matrix, tiles)

    threads = [threading.Thread(target=write, args=(str(n),)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    try:
        catalog.apply(job, JobEvent.START)
        print("won", flush=True)
    except ConflictError:
        print("lost", flush=True)
"""


def test_two_processes_write_one_catalog(catalog: Catalog, catalog_url: str) -> None:
    rounds = 15
    matrix, job = mx("k"), create_job(catalog).id
    catalog.add_matrix(matrix, "gram", {"id": matrix})
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, catalog_url, matrix, job, name, str(rounds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for name in ("a", "b")
    ]
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        results = []
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            output, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
            assert errors == ""
            results.append(output)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert sorted(results) == ["lost\n", "won\n"]
    events = [event.sequence for event in catalog.events_after(job, 0)]
    assert events == list(range(1, 2 * 2 * rounds + 1))
    assert catalog.tile_count(matrix) == 2 * 2 * rounds * 50
    assert catalog.get_job(job).attempts == 1


OPENER = """
import sys
from storage.catalog import open_catalog
sys.stdin.readline()
with open_catalog(sys.argv[1]) as catalog:
    catalog.record_rate("key", 1.0, 1)
"""


def test_processes_that_open_a_new_catalog_at_once(catalog_url: str, tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", OPENER, catalog_url],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=tmp_path,
        )
        for _ in range(3)
    ]
    try:
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()
            process.wait()
    with open_catalog(catalog_url, migrate=False) as catalog:
        assert catalog.rate("key") == 1.0
