"""The transition table says exactly what design section 3 says, and nothing else."""

from __future__ import annotations

from itertools import product

import pytest

from storage.catalog.states import (
    OPEN,
    TERMINAL,
    TRANSITIONS,
    JobEvent,
    JobState,
    Target,
    retarget,
    transition,
    wanted_event,
)
from storage.errors import ConflictError

LEGAL = {
    ("queued", "start"): "running",
    ("queued", "fail"): "failed",
    ("queued", "cancelled"): "cancelled",
    ("running", "resume"): "running",
    ("running", "finish"): "succeeded",
    ("running", "fail"): "failed",
    ("running", "cancelled"): "cancelled",
}


@pytest.mark.parametrize(("state", "event"), list(product(JobState, JobEvent)))
def test_every_pair_of_state_and_event(state: JobState, event: JobEvent) -> None:
    if (state, event) in LEGAL:
        assert transition(state, event) == LEGAL[state, event]
    else:
        with pytest.raises(ConflictError) as caught:
            transition(state, event)
        assert caught.value.details == {"state": state.value, "event": event.value}
        assert caught.value.advice


def test_terminal_states_have_no_way_out() -> None:
    assert {state for state, _ in TRANSITIONS} == OPEN
    assert set(JobState) == OPEN | TERMINAL
    assert not OPEN & TERMINAL


def test_every_state_is_reached_from_queued() -> None:
    reached = {JobState.QUEUED}
    for _ in JobState:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(JobState)


def test_what_a_runner_wants_is_always_legal() -> None:
    for state, target in product(JobState, Target):
        event = wanted_event(state, target)
        if state in TERMINAL:
            assert event is None
        else:
            assert event is not None
            after = transition(state, event)
            assert after is (JobState.RUNNING if target is Target.RUN else JobState.CANCELLED)


def test_a_cancellation_is_final_and_can_be_repeated() -> None:
    for state in OPEN:
        assert retarget(state, Target.RUN, Target.RUN) is Target.RUN
        assert retarget(state, Target.RUN, Target.CANCEL) is Target.CANCEL
        assert retarget(state, Target.CANCEL, Target.CANCEL) is Target.CANCEL
        with pytest.raises(ConflictError, match="cannot be taken back"):
            retarget(state, Target.CANCEL, Target.RUN)


@pytest.mark.parametrize("state", [JobState.SUCCEEDED, JobState.FAILED])
def test_an_ended_job_cannot_be_cancelled(state: JobState) -> None:
    with pytest.raises(ConflictError, match="already ended"):
        retarget(state, Target.RUN, Target.CANCEL)


def test_cancelling_a_cancelled_job_changes_nothing() -> None:
    assert retarget(JobState.CANCELLED, Target.CANCEL, Target.CANCEL) is Target.CANCEL
    # The work was given up without anybody asking for it: still cancelled, so still no change.
    assert retarget(JobState.CANCELLED, Target.RUN, Target.CANCEL) is Target.RUN
