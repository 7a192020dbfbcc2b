"""Trials of tiles are counted while they run, and only those that never end are remembered."""

from __future__ import annotations

import pytest

from storage.blobs import BlobStore
from support.gram_runs import gram_task, random_dataset
from workers.errors import WorkerMemoryError
from workers.tiles import compute_batch
from workers.trials import MAX_DEATHS, trial, trials_folder


def test_what_ends_is_forgotten_and_what_never_ends_is_counted(blobs: BlobStore) -> None:
    with trial(blobs, "run/1", (0, 3)) as before:
        assert before == 0

    def stumble() -> None:
        with trial(blobs, "run/1", (0, 3)) as before:
            raise ValueError(f"after {before}")

    with pytest.raises(ValueError, match="after 0"):
        stumble()
    killed = [trial(blobs, "run/1", (0, 3)) for _ in range(2)]  # a killed process leaves nothing
    assert [one.__enter__() for one in killed] == [0, 1]
    with trial(blobs, "run/1", (3, 0)) as other, trial(blobs, "run/2", (0, 3)) as later:
        assert (other, later) == (0, 0)
    with trial(blobs, "run/1", (0, 3)) as before:
        assert before == 2


def test_a_tile_that_ended_its_worker_too_often_is_not_tried_again(blobs: BlobStore) -> None:
    task = gram_task(blobs, random_dataset(blobs, 100))
    dead = [trial(blobs, task.run, (0, 1)) for _ in range(MAX_DEATHS)]
    for one in dead[:-1]:
        one.__enter__()
    assert [done.tile for done in compute_batch(task, ((0, 1),)).done] == [(0, 1)]
    assert list(blobs.list(trials_folder(task.run))) == []
    dead = [trial(blobs, task.run, (0, 1)) for _ in range(MAX_DEATHS)]
    for one in dead:
        one.__enter__()
    result = compute_batch(task, ((0, 1),))
    assert result.done == ()
    (failure,) = result.failed
    assert (failure.tile, failure.kind, failure.fatal) == ((0, 1), WorkerMemoryError.kind, True)
    assert f"{MAX_DEATHS} times" in failure.message
    # Among others it is: only a tile alone can be blamed.
    assert len(compute_batch(task, ((0, 0), (0, 1))).done) == 2


def test_a_store_that_cannot_be_written_counts_nothing(blobs: BlobStore) -> None:
    folder = blobs.path(trials_folder("run"))
    assert folder is not None
    folder.parent.mkdir(parents=True)
    folder.touch()  # in the way of the folder
    with trial(blobs, "run", (0, 0)) as before:
        assert before == 0
