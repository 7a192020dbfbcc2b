"""Jobs: created once per request, moved by compare-and-set."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from storage.catalog import events, grants
from storage.catalog.database import Database
from storage.catalog.errors import IdempotencyConflictError
from storage.catalog.inputs import is_dataset_id, referenced_ids
from storage.catalog.job_rows import (
    Announcement,
    advance,
    compare_and_set,
    get,
    missing,
    position,
    records_of,
)
from storage.catalog.paging import IN_ITEMS, batched, now, page
from storage.catalog.records import JobRecord, MatrixState
from storage.catalog.states import JobEvent, JobState, Target, retarget
from storage.catalog.tables import (
    OPEN_STATES,
    WANTED,
    Dataset,
    IdempotencyKey,
    Job,
    JobInput,
    Matrix,
)
from storage.errors import ConflictError, InvalidKeyError, NotFoundError

MAX_IDEMPOTENCY_KEY_CHARACTERS = 255

# Each loss of the race against another creator of the same job shows that the other one is there,
# so the second try finds it; more are needed only if it ends between the tries.
_CREATE_ATTEMPTS = 10


class Jobs:
    _database: Database

    def create_job(
        self,
        *,
        id: str,  # noqa: A002
        task: dict[str, Any],
        request_digest: str,
        body_digest: str,
        idempotency_key: str | None = None,
        estimate: dict[str, Any] | None = None,
        matrix_id: str | None = None,
        inputs: Iterable[str] = (),
        announce: Announcement | None = None,
        owner: str | None = None,
    ) -> tuple[JobRecord, bool]:
        """A queued job, and True if this call created it; else the job that answers the request.

        An idempotency key that was used with the same body answers with its job, with another
        body raises IdempotencyConflictError. Otherwise a job with the same `request_digest`
        answers if it is open and not being cancelled, or succeeded and its matrix (if it has one)
        still exists sealed; the key, if any, is bound to that job. Failed and cancelled jobs never
        answer for new requests.

        `task`: its data set and matrix ids are recorded as inputs, as are those in `inputs`; a
        data set that does not exist raises NotFoundError. `matrix_id`: the matrix that the job
        will build. `announce`: (type, data) of an event stored with a new job. `owner`: becomes
        an owner of the job that answers, new or not, and of the matrix that it builds.
        """
        if idempotency_key is not None:
            _check_idempotency_key(idempotency_key)
        reads = sorted((referenced_ids(task) | set(inputs)) - {matrix_id})
        moment = now()
        job = {
            "id": id,
            "owner": owner,
            "task": task,
            "request_digest": request_digest,
            "body_digest": body_digest,
            "matrix_id": matrix_id,
            "state": JobState.QUEUED.value,
            "target": WANTED,
            "attempts": 0,
            "event_count": 0,
            "estimate": estimate,
            "created_at": moment,
            "updated_at": moment,
        }
        for _ in range(_CREATE_ATTEMPTS):
            try:
                with self._database.write() as session:
                    if idempotency_key is not None:
                        bound = _job_of_key(session, idempotency_key, body_digest)
                        if bound is not None:
                            return self._owned(session, bound, owner), False
                    found = _answering_job(session, request_digest)
                    if found is None:
                        _hold_inputs(session, reads, matrix_id)
                        session.execute(sa.insert(Job), [job])
                        if reads:
                            rows = [{"job_id": id, "input_id": input_id} for input_id in reads]
                            session.execute(sa.insert(JobInput), rows)
                        if announce is not None:
                            events.append(session, id, *announce)
                    if idempotency_key is not None:
                        # If somebody else has stored the key meanwhile, the unique index refuses
                        # it, the job just inserted vanishes, and the next round finds theirs.
                        key = {
                            "key": idempotency_key,
                            "body_digest": body_digest,
                            "job_id": found or id,
                            "created_at": moment,
                        }
                        session.execute(sa.insert(IdempotencyKey), [key])
                    return self._owned(session, found or id, owner), found is None
            except IntegrityError as error:
                lost = error
        raise ConflictError(
            f"Job {id} could not be created: its id or its request is taken.",
            advice="Send the request again.",
        ) from lost

    def _owned(self, session: Session, job_id: str, owner: str | None) -> JobRecord:
        job = get(session, job_id)
        if owner is not None:
            things = [job_id] if job.matrix_id is None else [job_id, job.matrix_id]
            grants.own(self._database, session, things, owner)
        return job

    def has_answer(self, request_digest: str) -> bool:
        """Whether `create_job` would answer such a request with a job that is there."""
        with self._database.read() as session:
            return _answering_job(session, request_digest) is not None

    def get_job(self, job_id: str, *, visible_to: str | None = None) -> JobRecord:
        """Raises NotFoundError, also if `visible_to` (None: everything is) may not read it."""
        with self._database.read() as session:
            if not grants.may_read(session, job_id, visible_to):
                raise missing(job_id)
            return get(session, job_id)

    def jobs_for(
        self, asked: Collection[tuple[str, str | None]]
    ) -> dict[tuple[str, str | None], JobRecord]:
        """What `get_job` answers to each (job id, `visible_to`) that it finds, all at one moment.

        For many who ask at once: their number hardly changes what it costs.
        """
        found: dict[str, JobRecord] = {}
        with self._database.read() as session:
            for part in batched(sorted({job_id for job_id, _ in asked}), IN_ITEMS):
                rows = session.scalars(sa.select(Job).where(Job.id.in_(part)))
                found |= {record.id: record for record in records_of(session, list(rows))}
            private = [(job_id, reader) for job_id, reader in asked if reader is not None]
            allowed = grants.readable_pairs(session, private) if private else set()
        return {
            (job_id, reader): found[job_id]
            for job_id, reader in asked
            if job_id in found and (reader is None or (job_id, reader) in allowed)
        }

    def list_jobs(
        self,
        limit: int = 100,
        cursor: str | None = None,
        state: JobState | None = None,
        *,
        matrix: str | None = None,
        task_type: str | None = None,
        visible_to: str | None = None,
    ) -> tuple[list[JobRecord], str | None]:
        """One page, newest first, and the cursor of the next page (None after the last).

        `matrix`: only jobs that read or build it. `visible_to`: only what this name may read.
        """
        query = grants.visible(sa.select(Job), Job.id, visible_to)
        if state is not None:
            query = query.where(Job.state == JobState(state).value)
        if matrix is not None:
            readers = sa.select(JobInput.job_id).where(JobInput.input_id == matrix)
            query = query.where(sa.or_(Job.matrix_id == matrix, Job.id.in_(readers)))
        if task_type is not None:
            query = query.where(Job.task["type"].as_string() == task_type)
        with self._database.read() as session:
            rows, following = page(session, Job, query, limit, cursor)
            return records_of(session, rows), following

    def open_jobs(self) -> list[JobRecord]:
        """All queued and running jobs, oldest first: what a runner has to care for."""
        query = sa.select(Job).where(Job.state.in_(OPEN_STATES)).order_by(Job.created_at, Job.id)
        with self._database.read() as session:
            return records_of(session, list(session.scalars(query)))

    def open_results(self) -> list[tuple[str | None, dict[str, Any]]]:
        """Of each queued or running job the matrix that it builds, and its estimate."""
        query = sa.select(Job.matrix_id, Job.estimate).where(Job.state.in_(OPEN_STATES))
        with self._database.read() as session:
            return [(row.matrix_id, row.estimate or {}) for row in session.execute(query)]

    def count_jobs(self) -> dict[JobState, int]:
        """Number of jobs by state; states without jobs are left out."""
        query = sa.select(Job.state, sa.func.count()).group_by(Job.state)
        with self._database.read() as session:
            return {JobState(state): count for state, count in session.execute(query)}

    def set_target(
        self, job_id: str, target: Target, *, announce: Announcement | None = None
    ) -> JobRecord:
        """Say what is wanted of a job. Raises NotFoundError, ConflictError (`states.retarget`).

        `announce`: (type, data) of an event stored with the change; not if nothing changed.
        """
        with self._database.write() as session:
            while True:
                state, current = position(session, job_id)
                wanted = retarget(state, current, Target(target))
                if wanted is current:
                    break
                if compare_and_set(session, job_id, state, current, {"target": wanted.value}):
                    if announce is not None:
                        events.append(session, job_id, *announce)
                    break
            return get(session, job_id)

    def apply(
        self,
        job_id: str,
        event: JobEvent,
        *,
        error: dict[str, Any] | None = None,
        result: dict[str, Any] | None = None,
        matrix_id: str | None = None,
        expected_attempts: int | None = None,
        announce: Announcement | None = None,
    ) -> JobRecord:
        """Move a job by one step of `states.TRANSITIONS`; the job as it is afterwards.

        Raises NotFoundError, or ConflictError if the job's state does not allow the step: of two
        runners that apply START, one succeeds. RESUME does not change the state, so runners that
        may compete for a job pass the `attempts` they have seen as `expected_attempts`.

        `error`, `result`, `matrix_id`: stored with the step when not None. `announce`: (type,
        data) of an event stored in the same transaction, so that a watcher cannot miss it.
        """
        with self._database.write() as session:
            return advance(
                session,
                job_id,
                event,
                values={"error": error, "result": result, "matrix_id": matrix_id},
                expected_attempts=expected_attempts,
                announce=announce,
            )

    def save_progress(self, job_id: str, progress: dict[str, Any]) -> None:
        """Replace the progress of an open job; a job that has ended keeps what it had."""
        with self._database.write() as session:
            session.execute(
                sa.update(Job)
                .where(Job.id == job_id, Job.state.in_(OPEN_STATES))
                .values(progress=progress, updated_at=now())
                .execution_options(synchronize_session=False)
            )


def _job_of_key(session: Session, idempotency_key: str, body_digest: str) -> str | None:
    known = session.get(IdempotencyKey, idempotency_key)
    if known is None:
        return None
    if known.body_digest != body_digest:
        raise IdempotencyConflictError(
            "This idempotency key was used before, with another request body.",
            advice="Choose a new key for a new request.",
            job=known.job_id,
        )
    return known.job_id


def _answering_job(session: Session, request_digest: str) -> str | None:
    sealed = (
        sa.select(Matrix.id)
        .where(Matrix.id == Job.matrix_id, Matrix.state == MatrixState.SEALED.value)
        .exists()
    )
    return session.scalar(
        sa.select(Job.id)
        .where(
            Job.request_digest == request_digest,
            sa.or_(
                sa.and_(Job.state.in_(OPEN_STATES), Job.target == WANTED),
                sa.and_(
                    Job.state == JobState.SUCCEEDED.value,
                    sa.or_(Job.matrix_id.is_(None), sealed),
                ),
            ),
        )
        .order_by(Job.created_at.desc(), Job.id.desc())
        .limit(1)
    )


def _hold_inputs(session: Session, reads: list[str], matrix_id: str | None) -> None:
    """Lock the inputs against deletion until the job is there to protect them."""
    datasets = [input_id for input_id in reads if is_dataset_id(input_id)]
    if datasets:
        query = sa.select(Dataset.id).where(Dataset.id.in_(datasets)).order_by(Dataset.id)
        missing = set(datasets) - set(session.scalars(query.with_for_update(read=True)))
        if missing:
            names = ", ".join(sorted(missing))
            raise NotFoundError(
                f"There is no data set {names}.",
                advice="GET /v1/datasets lists those there are.",
                datasets=sorted(missing),
            )
    # A matrix may not exist yet: the one that the job builds, or one that an open job builds.
    matrices = [*(set(reads) - set(datasets)), *([matrix_id] if matrix_id else [])]
    if matrices:
        query = sa.select(Matrix.id).where(Matrix.id.in_(matrices)).order_by(Matrix.id)
        session.scalars(query.with_for_update(read=True)).all()


def _check_idempotency_key(key: str) -> None:
    if not (0 < len(key) <= MAX_IDEMPOTENCY_KEY_CHARACTERS and key.isprintable()):
        raise InvalidKeyError(
            "The idempotency key is empty, too long, or not printable.",
            advice=f"Use 1 to {MAX_IDEMPOTENCY_KEY_CHARACTERS} printable characters (a UUID).",
        )
