"""The pure scheduler: nothing lost, nothing done twice, whatever order faults come in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.plan import TilePlan
from workers.schedule import TileSchedule


def make_schedule(
    plan: TilePlan, stored: np.ndarray | None = None, *, max_attempts: int = 3, seconds: float = 0.5
) -> TileSchedule:
    return TileSchedule(
        plan,
        np.zeros(plan.grid, bool) if stored is None else stored,
        seconds_per_tile=seconds,
        batch_seconds=2.0,
        max_batch_tiles=256,
        max_attempts=max_attempts,
    )


@given(st.data())
def test_every_missing_tile_is_finished_exactly_once_under_random_faults(
    data: st.DataObject,
) -> None:
    plan = TilePlan((90, 90), data.draw(st.booleans()), 8, 8)
    stored = np.zeros(plan.grid, bool)
    for tile in data.draw(st.lists(st.sampled_from(list(plan.tiles())), max_size=30)):
        stored[tile] = True
    schedule = make_schedule(plan, stored, max_attempts=10**6)
    finished: list[tuple[int, int]] = []
    rounds = 0
    while schedule.remaining:
        batch = schedule.next_batch(workers=3)
        assert batch
        rounds += 1
        fate = data.draw(st.sampled_from(["ok", "ok", "lost", "killed", "one fails"]))
        if rounds > 400:
            fate = "ok"
        if fate == "lost":
            schedule.returned(batch)
        elif fate == "killed":
            assert schedule.killed_worker(batch) is None
        else:
            for tile in batch:
                if fate == "one fails" and tile == batch[-1]:
                    assert schedule.failed(tile)
                else:
                    finished.append(tile)
                    schedule.finished(tile, 0.1, computed=True)
    assert sorted(finished) == sorted(t for t in plan.tiles() if not stored[t])
    assert schedule.next_batch(workers=3) == ()


def test_a_tile_that_kills_workers_is_isolated_and_named() -> None:
    schedule = make_schedule(TilePlan((32, 32), False, 8, 8), seconds=0.2)
    batch = schedule.next_batch(workers=1)
    guilty = batch[2]
    assert len(batch) > 3
    assert schedule.killed_worker(batch) is None
    culprit = None
    while culprit is None:
        single = schedule.next_batch(workers=1)
        if single == (guilty,):
            culprit = schedule.killed_worker(single)
        else:
            for tile in single:
                schedule.finished(tile, 0.2, computed=True)
    assert culprit == guilty


def test_batches_aim_at_the_requested_seconds_and_follow_measurements() -> None:
    schedule = make_schedule(TilePlan((8 * 100, 8 * 100), False, 8, 8), seconds=0.5)
    assert len(schedule.next_batch(workers=2)) == 4
    for _ in range(60):
        schedule.finished((0, 0), 0.1, computed=True)
    assert schedule.seconds_per_tile == pytest.approx(0.1, rel=1e-3)
    assert len(schedule.next_batch(workers=2)) in (19, 20)


def test_the_last_batches_are_shared_between_workers() -> None:
    schedule = make_schedule(TilePlan((8 * 3, 8 * 4), False, 8, 8), seconds=1e-6)
    assert len(schedule.next_batch(workers=3)) == 2


def test_tiles_found_stored_do_not_bend_the_measured_rate() -> None:
    schedule = make_schedule(TilePlan((80, 80), False, 8, 8), seconds=0.5)
    schedule.finished((0, 0), 1e-4, computed=False)
    assert schedule.seconds_per_tile == 0.5


def test_a_symmetric_matrix_has_nothing_stored_below_its_diagonal() -> None:
    plan = TilePlan((80, 80), True, 8, 8)
    with pytest.raises(ValueError, match="below the diagonal"):
        make_schedule(plan, np.ones(plan.grid, bool))
    assert make_schedule(plan, np.triu(np.ones(plan.grid, bool))).remaining == 0
