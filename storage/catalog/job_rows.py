"""Rows of jobs: read as records, and moved by compare-and-set inside a transaction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.catalog import events
from storage.catalog.paging import now
from storage.catalog.records import JobRecord
from storage.catalog.states import TERMINAL, JobEvent, JobState, Target, transition
from storage.catalog.tables import Job, JobInput, Lease
from storage.errors import ConflictError, NotFoundError

Announcement = tuple[str, dict[str, Any]]


def advance(
    session: Session,
    job_id: str,
    event: JobEvent,
    *,
    values: Mapping[str, Any],
    expected_attempts: int | None,
    announce: Announcement | None,
) -> JobRecord:
    """As `Catalog.apply`, inside the transaction of `session`. `values`: columns; None: kept.

    A job that has ended needs no lease any more: it goes with the step, so whoever held it, or
    lost it, finds that it is gone.
    """
    event = JobEvent(event)
    while True:
        state, target = position(session, job_id)
        following = transition(state, event)
        moment = now()
        changes: dict[str, Any] = {"state": following.value}
        if event in (JobEvent.START, JobEvent.RESUME):
            changes["attempts"] = Job.attempts + 1
            changes["started_at"] = sa.func.coalesce(
                Job.started_at, sa.literal(moment, Job.started_at.type)
            )
        if following in TERMINAL:
            changes["finished_at"] = moment
        changes |= {name: value for name, value in values.items() if value is not None}
        if expected_attempts is not None:
            _check_attempts(session, job_id, expected_attempts)
        if compare_and_set(session, job_id, state, target, changes, expected_attempts):
            break
    if following in TERMINAL:
        session.execute(
            sa.delete(Lease)
            .where(Lease.name == job_id)
            .execution_options(synchronize_session=False)
        )
    if announce is not None:
        events.append(session, job_id, *announce)
    return get(session, job_id)


def position(session: Session, job_id: str) -> tuple[JobState, Target]:
    row = session.execute(sa.select(Job.state, Job.target).where(Job.id == job_id)).one_or_none()
    if row is None:
        raise missing(job_id)
    return JobState(row.state), Target(row.target)


def compare_and_set(
    session: Session,
    job_id: str,
    state: JobState,
    target: Target,
    values: dict[str, Any],
    attempts: int | None = None,
) -> bool:
    """Change the job if it still is where it was seen; False if somebody else moved it."""
    statement = (
        sa.update(Job)
        .where(Job.id == job_id, Job.state == state.value, Job.target == target.value)
        .values(updated_at=now(), **values)
        .returning(Job.id)
        .execution_options(synchronize_session=False)
    )
    if attempts is not None:
        statement = statement.where(Job.attempts == attempts)
    return session.scalar(statement) is not None


def _check_attempts(session: Session, job_id: str, expected: int) -> None:
    attempts = session.scalar(sa.select(Job.attempts).where(Job.id == job_id))
    if attempts != expected:
        raise ConflictError(
            f"Another runner has taken up job {job_id}.",
            advice="Leave the job to it.",
            attempts=attempts,
        )


def missing(job_id: str) -> NotFoundError:
    return NotFoundError(f"There is no job {job_id}.", advice="GET /v1/jobs lists all jobs.")


def get(session: Session, job_id: str) -> JobRecord:
    row = session.get(Job, job_id)
    if row is None:
        raise missing(job_id)
    return records_of(session, [row])[0]


def records_of(session: Session, rows: list[Job]) -> list[JobRecord]:
    inputs: dict[str, list[str]] = {row.id: [] for row in rows}
    query = (
        sa.select(JobInput.job_id, JobInput.input_id)
        .where(JobInput.job_id.in_(list(inputs)))
        .order_by(JobInput.job_id, JobInput.input_id)
    )
    for job_id, input_id in session.execute(query):
        inputs[job_id].append(input_id)
    return [
        JobRecord(
            id=row.id,
            owner=row.owner,
            task=row.task,
            request_digest=row.request_digest,
            body_digest=row.body_digest,
            matrix_id=row.matrix_id,
            inputs=tuple(inputs[row.id]),
            state=JobState(row.state),
            target=Target(row.target),
            attempts=row.attempts,
            estimate=row.estimate,
            progress=row.progress,
            error=row.error,
            result=row.result,
            created_at=row.created_at,
            started_at=row.started_at,
            finished_at=row.finished_at,
            updated_at=row.updated_at,
        )
        for row in rows
    ]
