"""The catalog's jobs against a model in a dictionary, under arbitrary sequences of calls.

The model knows nothing of SQL: it is the transition table and the rule which job answers a
request, written down a second time.
"""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from storage.catalog import (
    Catalog,
    IdempotencyConflictError,
    JobEvent,
    JobState,
    Target,
    open_catalog,
)
from storage.errors import ConflictError
from support.catalogs import hex_digest, mx

LEGAL = {
    "queued": {"start": "running", "fail": "failed", "cancelled": "cancelled"},
    "running": {
        "resume": "running",
        "finish": "succeeded",
        "fail": "failed",
        "cancelled": "cancelled",
    },
}
REQUESTS = st.sampled_from(["a", "b", "c"])
KEYS = st.sampled_from([None, "k1", "k2"])


@dataclass
class ModelJob:
    request: str
    matrix: str | None
    state: str = "queued"
    target: str = "run"
    attempts: int = 0
    error: dict[str, Any] | None = None
    events: list[str] = field(default_factory=list)


class JobLives(RuleBasedStateMachine):
    catalog: Catalog

    @initialize()
    def open(self) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.url = f"sqlite:///{Path(self.folder.name) / 'catalog.sqlite'}"
        self.catalog = open_catalog(self.url)
        self.numbers = itertools.count()
        self.jobs: dict[str, ModelJob] = {}  # in the order of creation
        self.keys: dict[str, tuple[str, str]] = {}  # key -> (body, job id)
        self.sealed: set[str] = set()

    def teardown(self) -> None:
        if hasattr(self, "catalog"):
            self.catalog.close()
            self.folder.cleanup()

    def answering(self, request: str) -> set[str]:
        """Ids of the jobs that may answer; the rules allow several only among succeeded ones."""
        return {
            id_
            for id_, job in self.jobs.items()
            if job.request == request
            and (
                (job.state in LEGAL and job.target == "run")
                or (job.state == "succeeded" and (job.matrix is None or job.matrix in self.sealed))
            )
        }

    def pick(self, data: st.DataObject) -> str:
        return data.draw(st.sampled_from(sorted(self.jobs)))

    @rule(request=REQUESTS, key=KEYS, with_matrix=st.booleans())
    def submit(self, request: str, key: str | None, with_matrix: bool) -> None:
        id_ = f"job-{next(self.numbers):032x}"
        matrix = mx(request) if with_matrix else None

        def create() -> tuple[Any, bool]:
            return self.catalog.create_job(
                id=id_,
                task={"request": request},
                request_digest=hex_digest(request),
                body_digest=hex_digest(request),
                idempotency_key=key,
                matrix_id=matrix,
            )

        if key in self.keys:
            body, known = self.keys[key]
            if body != request:
                with pytest.raises(IdempotencyConflictError):
                    create()
                return
            expected = {known}
        else:
            expected = self.answering(request)
        job, created = create()
        assert created == (not expected)
        assert job.id in (expected or {id_})
        if created:
            self.jobs[id_] = ModelJob(request, matrix)
        if key is not None and key not in self.keys:
            self.keys[key] = (request, job.id)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), event=st.sampled_from(JobEvent), announce=st.booleans())
    def step(self, data: st.DataObject, event: JobEvent, announce: bool) -> None:
        id_ = self.pick(data)
        model = self.jobs[id_]
        error = {"step": len(model.events), "event": event.value}
        said = (event.value, {}) if announce else None
        following = LEGAL.get(model.state, {}).get(event.value)
        if following is None:
            with pytest.raises(ConflictError):
                self.catalog.apply(id_, event, error=error, announce=said)
            return
        job = self.catalog.apply(id_, event, error=error, announce=said)
        assert job.state == following
        model.state = following
        model.error = error
        model.attempts += event in (JobEvent.START, JobEvent.RESUME)
        model.events += [event.value] if announce else []

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), wish=st.sampled_from(Target))
    def want(self, data: st.DataObject, wish: Target) -> None:
        id_ = self.pick(data)
        model = self.jobs[id_]
        no_change = wish.value == model.target or (
            model.state == "cancelled" and wish is Target.CANCEL
        )
        allowed = no_change or (model.state in LEGAL and wish is Target.CANCEL)
        if not allowed:
            with pytest.raises(ConflictError):
                self.catalog.set_target(id_, wish)
            return
        if not no_change:
            model.target = wish.value
        assert self.catalog.set_target(id_, wish).target == model.target

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def say(self, data: st.DataObject) -> None:
        id_ = self.pick(data)
        self.jobs[id_].events.append("said")
        assert self.catalog.append_event(id_, "said", {}) == len(self.jobs[id_].events)

    @rule(request=REQUESTS)
    def seal(self, request: str) -> None:
        matrix = mx(request)
        self.catalog.add_matrix(matrix, "gram", {"id": matrix})
        self.catalog.seal_matrix(matrix, hex_digest(matrix), 1)
        self.sealed.add(matrix)

    @rule(request=REQUESTS)
    def delete(self, request: str) -> None:
        matrix = mx(request)
        if matrix not in self.sealed:
            return
        if any(job.matrix == matrix and job.state in LEGAL for job in self.jobs.values()):
            with pytest.raises(ConflictError):
                self.catalog.delete_matrix(matrix)
        else:
            self.catalog.delete_matrix(matrix)
            self.sealed.discard(matrix)

    @rule()
    def restart(self) -> None:
        self.catalog.close()
        self.catalog = open_catalog(self.url)

    @invariant()
    def catalog_and_model_agree(self) -> None:
        if not hasattr(self, "jobs"):
            return
        stored, end = self.catalog.list_jobs(limit=1000)
        assert end is None
        seen = {
            job.id: (
                job.state.value,
                job.target.value,
                job.attempts,
                job.error,
                job.started_at is not None,
                job.finished_at is not None,
            )
            for job in stored
        }
        assert seen == {
            id_: (
                model.state,
                model.target,
                model.attempts,
                model.error,
                model.attempts > 0,
                model.state not in LEGAL,
            )
            for id_, model in self.jobs.items()
        }
        still_open = [id_ for id_, model in self.jobs.items() if model.state in LEGAL]
        assert [job.id for job in self.catalog.open_jobs()] == still_open
        assert len(self.catalog.open_jobs()) == len(still_open)

    @invariant()
    def at_most_one_wanted_job_works_on_a_request(self) -> None:
        if not hasattr(self, "jobs"):
            return
        wanted = [
            job.request_digest
            for job in self.catalog.open_jobs()
            if job.target is Target.RUN and job.state in (JobState.QUEUED, JobState.RUNNING)
        ]
        assert len(wanted) == len(set(wanted))

    @invariant()
    def events_are_numbered_from_one(self) -> None:
        for id_, model in getattr(self, "jobs", {}).items():
            events = self.catalog.events_after(id_, 0)
            assert [event.sequence for event in events] == list(range(1, len(events) + 1))
            assert [event.type for event in events] == model.events


TestJobLives = JobLives.TestCase
TestJobLives.settings = settings(
    max_examples=15,
    stateful_step_count=20,
    deadline=None,  # every step commits to disk
    suppress_health_check=[HealthCheck.too_slow],
)
