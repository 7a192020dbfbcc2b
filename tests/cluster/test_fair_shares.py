"""Many long jobs of one owner leave another owner's job its share of real workers."""

from __future__ import annotations

import os
import threading
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from distributed import Client

from service.jobs.shares import Shares
from storage.blobs import BlobStore
from storage.catalog.records import TileRecord
from support.gram_runs import gram_task, random_dataset
from workers.driver import DriverSettings, GramOutcome, run_gram
from workers.plan import Tile, TilePlan
from workers.tiles import BatchResult, GramTask, TileResult

pytestmark = pytest.mark.cluster

TILE_SECONDS = 0.1  # long beside what a driver needs to send the next one on a busy machine


def slow(journal: Path, owner: str, task: GramTask, tiles: tuple[Tile, ...]) -> BatchResult:
    """What compute_batch returns, after a while; `journal` keeps the order in which workers ran."""
    time.sleep(TILE_SECONDS * len(tiles))
    file = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(file, f"{owner}\n".encode() * len(tiles))  # one write: whole, whoever else appends
    finally:
        os.close(file)
    record = TileRecord("ntk", 0, 0, bytes(32), TILE_SECONDS, 0.0, 1.0, 0, 1)
    done = tuple(TileResult(tile, (record,), True, TILE_SECONDS) for tile in tiles)
    return BatchResult(done=done, failed=(), stopped=False)


def test_four_long_jobs_of_one_owner_and_one_job_of_another(
    shared_client: Client, blobs: BlobStore, tmp_path: Path
) -> None:
    shares, ended, busy = Shares(), threading.Event(), threading.Event()
    journal = tmp_path / "journal"

    def run(owner: str, depth: int, rows: int) -> GramOutcome:
        kernel = {"preset": "fc", "depth": depth}
        task = gram_task(blobs, random_dataset(blobs, rows, features=2), kernel=kernel)

        def on_results(results: list[TileResult]) -> None:
            shares.charge(owner, sum(result.seconds for result in results))
            busy.set()

        with shares.running(owner):
            return run_gram(
                shared_client,
                task,
                stored=np.zeros(TilePlan.of(task.manifest).grid, bool),
                on_results=on_results,
                should_stop=ended.is_set if owner == "alice" else lambda: False,
                seconds_per_tile=TILE_SECONDS,
                settings=DriverSettings(batch_seconds=TILE_SECONDS),
                compute=partial(slow, journal, owner),
                priority=lambda: shares.priority(owner),
            )

    long_jobs = [threading.Thread(target=run, args=("alice", n + 1, 64 * 40)) for n in range(4)]
    for thread in long_jobs:
        thread.start()
    busy.wait()
    outcome = run("bob", 1, 64 * 8)
    ended.set()
    for thread in long_jobs:
        thread.join()
    order = journal.read_text().split()
    assert outcome.computed_tiles == order.count("bob") == 36
    first = order.index("bob")
    last = len(order) - order[::-1].index("bob")
    # In turn by task, four jobs would have got four times what one gets. Half is fair; the rest is
    # what was already on its way to the workers. Counted between bob's own tiles: how long his
    # driver takes to start is not the scheduler's doing.
    assert order[first:last].count("alice") < 2 * 36
