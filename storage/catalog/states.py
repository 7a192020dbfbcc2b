"""The life of a job as a pure transition table.

    queued --start--> running --finish--> succeeded
       |                 |-----fail-----> failed
       |---fail / cancelled (as from running)
    running --resume--> running      a runner took the job up again after a restart

A job has a state (what is so) and a target (what is wanted). Whoever wants a job to stop changes
only its target; the runner compares the two (`wanted_event`) and takes one step. A restarted
runner does exactly the same, so a restart is not a special case. Terminal states never change.
"""

from __future__ import annotations

from enum import StrEnum
from types import MappingProxyType

from storage.errors import ConflictError


class JobState(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Target(StrEnum):
    """What is wanted of a job. A cancellation cannot be taken back: workers may have stopped."""

    RUN = "run"
    CANCEL = "cancel"


class JobEvent(StrEnum):
    START = "start"
    RESUME = "resume"  # a runner takes up a job that an earlier runner left running
    FINISH = "finish"
    FAIL = "fail"
    CANCELLED = "cancelled"  # the last piece of work ended after the target became `cancel`


TERMINAL = frozenset({JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED})
OPEN = frozenset({JobState.QUEUED, JobState.RUNNING})

TRANSITIONS = MappingProxyType(
    {
        (JobState.QUEUED, JobEvent.START): JobState.RUNNING,
        (JobState.QUEUED, JobEvent.FAIL): JobState.FAILED,
        (JobState.QUEUED, JobEvent.CANCELLED): JobState.CANCELLED,
        (JobState.RUNNING, JobEvent.RESUME): JobState.RUNNING,
        (JobState.RUNNING, JobEvent.FINISH): JobState.SUCCEEDED,
        (JobState.RUNNING, JobEvent.FAIL): JobState.FAILED,
        (JobState.RUNNING, JobEvent.CANCELLED): JobState.CANCELLED,
    }
)


def transition(state: JobState, event: JobEvent) -> JobState:
    """The state after `event`. Raises ConflictError when the event is illegal in `state`."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        if state in TERMINAL:
            advice = "A job that has ended never changes; submit a new one."
        else:
            advice = "Another process may be working on this job; read its state again."
        raise ConflictError(
            f"A {state} job cannot take the step '{event}'.",
            advice=advice,
            state=str(state),
            event=str(event),
        ) from None


def retarget(state: JobState, current: Target, wanted: Target) -> Target:
    """The target after somebody asked for `wanted`; asking twice is the same as asking once.

    Raises ConflictError for a job that ended otherwise, and for taking a cancellation back.
    """
    if current is wanted:
        return current
    if state in TERMINAL:
        if wanted is Target.CANCEL and state is JobState.CANCELLED:
            return current
        raise ConflictError(
            f"The job has already ended ({state}).",
            advice="A job that has ended never changes; submit a new one.",
            state=str(state),
        )
    if current is Target.CANCEL:
        raise ConflictError(
            "A cancellation cannot be taken back.",
            advice="Submit the job again: finished tiles are not recomputed.",
            state=str(state),
        )
    return wanted


def wanted_event(state: JobState, target: Target) -> JobEvent | None:
    """The step a runner that is not yet working on a job should take; None once it has ended.

    `CANCELLED` may only be applied when no task of the job runs any more.
    """
    if state in TERMINAL:
        return None
    if target is Target.CANCEL:
        return JobEvent.CANCELLED
    return JobEvent.START if state is JobState.QUEUED else JobEvent.RESUME
