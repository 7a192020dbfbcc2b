"""What the service believes about its workers, and for how long."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from service.jobs.compute import Compute
from service.settings import ServiceSettings


class Scheduler:
    """A client of a scheduler that counts how often it is asked."""

    status = "running"

    def __init__(self) -> None:
        self.asked = 0
        self.workers: dict[str, dict[str, int]] = {}

    def scheduler_info(self, n_workers: int) -> dict[str, Any]:
        assert n_workers == -1, "all of them"
        self.asked += 1
        return {"workers": self.workers}

    def close(self, timeout: float) -> None:
        pass


@pytest.fixture
def scheduler(monkeypatch: pytest.MonkeyPatch) -> Scheduler:
    one = Scheduler()
    monkeypatch.setattr("service.jobs.compute.connect", lambda settings: one)
    return one


def connected(folder: Path, **settings: Any) -> Compute:
    given = {"data_dir": folder, "scheduler_address": "tcp://127.0.0.1:1", **settings}
    compute = Compute(ServiceSettings(**given))
    there = threading.Event()
    compute.start(there.set)
    assert there.wait(20)
    return compute


def test_plans_made_together_ask_the_scheduler_once(tmp_path: Path, scheduler: Scheduler) -> None:
    scheduler.workers = {
        "a": {"nthreads": 1, "memory_limit": 5 << 30},
        "b": {"nthreads": 2, "memory_limit": 6 << 30},
    }
    compute = connected(tmp_path, cluster_view_seconds=3600.0)
    try:
        for _ in range(5):
            assert compute.expected_workers() == 3
            assert compute.limit_bytes() == 3 << 30
        assert scheduler.asked == 1
    finally:
        compute.close()


def test_what_is_not_believed_any_more_is_asked_again(tmp_path: Path, scheduler: Scheduler) -> None:
    compute = connected(
        tmp_path, cluster_view_seconds=0.0, n_workers=7, worker_memory_limit_bytes=1 << 30
    )
    try:
        assert (compute.expected_workers(), compute.limit_bytes()) == (7, 1 << 30)
        scheduler.workers = {"a": {"nthreads": 1, "memory_limit": 0}}  # 0: it has no limit
        assert (compute.expected_workers(), compute.limit_bytes()) == (1, 1 << 30)
        scheduler.workers = {"a": {"nthreads": 1, "memory_limit": 9}}
        assert compute.limit_bytes() == 9
    finally:
        compute.close()
