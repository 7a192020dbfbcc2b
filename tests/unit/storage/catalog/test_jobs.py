"""Jobs: which requests share a job, what each step stores, what is refused."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from storage.catalog import (
    Catalog,
    IdempotencyConflictError,
    JobEvent,
    JobState,
    Target,
    open_catalog,
)
from storage.errors import ConflictError, InvalidKeyError, NotFoundError
from storage.keys import new_job_id
from support.catalogs import add_dataset, create_job, ds, hex_digest, mx, submit


def finish(catalog: Catalog, job_id: str) -> None:
    catalog.apply(job_id, JobEvent.START)
    catalog.apply(job_id, JobEvent.FINISH, result={"matrix": None})


def sealed_matrix(catalog: Catalog, name: str) -> str:
    matrix = mx(name)
    catalog.add_matrix(matrix, "gram", {"id": matrix, "name": name})
    catalog.seal_matrix(matrix, hex_digest(name), 10)
    return matrix


def test_a_new_job_holds_what_was_given(catalog: Catalog) -> None:
    x1, x2 = add_dataset(catalog, "x1"), add_dataset(catalog, "x2")
    before = datetime.now(UTC)
    task = {"type": "gram", "x1": x1, "nested": [{"x2": x2}], "matrix": mx("in"), "ridge": 0.1}
    job = create_job(catalog, task=task, matrix_id=mx("out"), estimate={"seconds": 1.5})

    assert catalog.get_job(job.id) == job
    assert job.task == task
    assert job.inputs == tuple(sorted([x1, x2, mx("in")]))
    assert (job.state, job.target, job.attempts) == (JobState.QUEUED, Target.RUN, 0)
    assert job.estimate == {"seconds": 1.5}
    assert job.progress is job.error is job.result is job.started_at is job.finished_at is None
    assert job.created_at.utcoffset() == timedelta(0)
    assert before <= job.created_at <= datetime.now(UTC)
    assert not job.ended


def test_rows_survive_reopening(catalog: Catalog, catalog_url: str) -> None:
    job = create_job(catalog)
    catalog.apply(job.id, JobEvent.START)
    left = catalog.get_job(job.id)
    catalog.close()
    with open_catalog(catalog_url) as reopened:
        assert reopened.open_jobs() == [left]


def test_same_key_and_body_is_the_same_job_in_every_state(catalog: Catalog) -> None:
    job = create_job(catalog, idempotency_key="k")
    for event in (JobEvent.START, JobEvent.FAIL):
        catalog.apply(job.id, event, error={"kind": "internal"})
        again, created = submit(catalog, idempotency_key="k")
        assert not created
        assert again == catalog.get_job(job.id)


def test_same_key_with_another_body_is_refused_and_stores_nothing(catalog: Catalog) -> None:
    job = create_job(catalog, idempotency_key="k")
    with pytest.raises(IdempotencyConflictError) as caught:
        submit(catalog, "other", idempotency_key="k")
    assert caught.value.kind == "idempotency-conflict"
    assert isinstance(caught.value, ConflictError)
    assert caught.value.details["job"] == job.id
    assert catalog.list_jobs()[0] == [job]


@pytest.mark.parametrize("key", ["", "x" * 256, "a\x00b", "a\nb"])
def test_unusable_idempotency_keys_are_refused(catalog: Catalog, key: str) -> None:
    with pytest.raises(InvalidKeyError):
        submit(catalog, idempotency_key=key)
    assert len(catalog.open_jobs()) == 0


@pytest.mark.parametrize("key", [None, "new"])
def test_same_request_is_answered_while_open(catalog: Catalog, key: str | None) -> None:
    job = create_job(catalog, idempotency_key="first")
    assert submit(catalog, idempotency_key=key) == (job, False)
    running = catalog.apply(job.id, JobEvent.START)
    assert submit(catalog, idempotency_key=key) == (running, False)


def test_a_key_stays_with_the_job_that_answered(catalog: Catalog) -> None:
    job = create_job(catalog)
    assert submit(catalog, idempotency_key="late") == (job, False)
    catalog.apply(job.id, JobEvent.CANCELLED)
    # A retry of that same request must not start work that its sender never asked for twice.
    again, created = submit(catalog, idempotency_key="late")
    assert (again.id, created) == (job.id, False)
    with pytest.raises(IdempotencyConflictError):
        submit(catalog, "other", idempotency_key="late")


def test_a_result_without_matrix_answers(catalog: Catalog) -> None:
    job = create_job(catalog)
    finish(catalog, job.id)
    assert submit(catalog) == (catalog.get_job(job.id), False)


def test_a_result_answers_only_while_its_matrix_is_sealed(catalog: Catalog) -> None:
    job = create_job(catalog, matrix_id=mx("m"))
    finish(catalog, job.id)
    catalog.add_matrix(mx("m"), "gram", {"id": mx("m"), "name": "m"})
    rebuilt, created = submit(catalog, matrix_id=mx("m"))
    assert created, "an unsealed matrix is no result"
    catalog.apply(rebuilt.id, JobEvent.CANCELLED)

    sealed_matrix(catalog, "m")
    assert submit(catalog, matrix_id=mx("m")) == (catalog.get_job(job.id), False)

    catalog.delete_matrix(mx("m"))
    assert submit(catalog, matrix_id=mx("m"))[1]


@pytest.mark.parametrize("end", [JobEvent.FAIL, JobEvent.CANCELLED])
def test_failed_and_cancelled_jobs_do_not_answer(catalog: Catalog, end: JobEvent) -> None:
    job = create_job(catalog)
    catalog.apply(job.id, end)
    again, created = submit(catalog)
    assert created
    assert again.id != job.id


def test_a_job_being_cancelled_does_not_answer(catalog: Catalog) -> None:
    job = create_job(catalog)
    catalog.apply(job.id, JobEvent.START)
    catalog.set_target(job.id, Target.CANCEL)
    again, created = submit(catalog)
    assert created
    assert {open_job.id for open_job in catalog.open_jobs()} == {job.id, again.id}


def test_other_requests_get_other_jobs(catalog: Catalog) -> None:
    assert submit(catalog, "a")[1]
    assert submit(catalog, "b")[1]
    assert len(catalog.open_jobs()) == 2


def test_what_open_jobs_will_write(catalog: Catalog) -> None:
    create_job(catalog, "a", matrix_id=mx("a"), estimate={"bytes_written": 7})
    create_job(catalog, "b", estimate=None)
    finish(catalog, create_job(catalog, "c", matrix_id=mx("c")).id)
    found = sorted(catalog.open_results(), key=str)
    assert found == [(mx("a"), {"bytes_written": 7}), (None, {})]


def test_a_missing_data_set_is_named(catalog: Catalog) -> None:
    known = add_dataset(catalog)
    with pytest.raises(NotFoundError) as caught:
        create_job(catalog, task={"x1": known, "x2": ds("gone")}, idempotency_key="k")
    assert caught.value.details == {"datasets": [ds("gone")]}
    assert len(catalog.open_jobs()) == 0
    # The refused request has not used up its key.
    assert submit(catalog, "other", idempotency_key="k")[1]


def test_a_taken_id_is_refused(catalog: Catalog) -> None:
    job = create_job(catalog, "a")
    with pytest.raises(ConflictError, match="taken"):
        submit(catalog, "b", id=job.id)


def test_steps_store_their_values_and_times(catalog: Catalog) -> None:
    job = create_job(catalog)
    started = catalog.apply(job.id, JobEvent.START, matrix_id=mx("m"))
    assert (started.state, started.attempts, started.matrix_id) == (JobState.RUNNING, 1, mx("m"))
    assert started.started_at is not None
    assert started.started_at >= job.created_at

    resumed = catalog.apply(job.id, JobEvent.RESUME)
    assert (resumed.state, resumed.attempts) == (JobState.RUNNING, 2)
    assert resumed.started_at == started.started_at
    assert resumed.finished_at is None

    done = catalog.apply(job.id, JobEvent.FINISH, result={"accuracy": 0.97})
    assert (done.state, done.result, done.error) == (
        JobState.SUCCEEDED,
        {"accuracy": 0.97},
        None,
    )
    assert done.ended
    assert done.finished_at is not None
    assert done.finished_at >= started.started_at
    assert catalog.get_job(job.id) == done


def test_a_failure_keeps_its_error(catalog: Catalog) -> None:
    job = create_job(catalog)
    error = {"kind": "too-large", "detail": "12 GiB > 4 GiB"}
    assert catalog.apply(job.id, JobEvent.FAIL, error=error).error == error


def test_events_may_be_given_by_name(catalog: Catalog) -> None:
    job = create_job(catalog)
    assert catalog.apply(job.id, "start").state is JobState.RUNNING  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a valid JobEvent"):
        catalog.apply(job.id, "restart")  # type: ignore[arg-type]


def test_an_ended_job_never_changes(catalog: Catalog) -> None:
    job = create_job(catalog)
    finish(catalog, job.id)
    ended = catalog.get_job(job.id)
    for event in JobEvent:
        with pytest.raises(ConflictError):
            catalog.apply(job.id, event, error={}, result={}, announce=("state", {}))
    with pytest.raises(ConflictError):
        catalog.set_target(job.id, Target.CANCEL, announce=("target", {}))
    catalog.save_progress(job.id, {"late": True})
    assert catalog.get_job(job.id) == ended
    assert catalog.events_after(job.id, 0) == []


def test_a_step_and_its_announcement_are_one(catalog: Catalog) -> None:
    job = create_job(catalog, announce=("state", {"state": "queued"}))
    catalog.apply(job.id, JobEvent.START, announce=("state", {"state": "running"}))
    catalog.set_target(job.id, Target.CANCEL, announce=("target", {"target": "cancel"}))
    catalog.set_target(job.id, Target.CANCEL, announce=("target", {"target": "cancel"}))
    # The announcement is not JSON, so it cannot be stored: then the step has not happened either.
    with pytest.raises(Exception, match=r"not JSON|JSON compliant"):
        catalog.apply(job.id, JobEvent.CANCELLED, announce=("state", {"x": float("nan")}))
    assert catalog.get_job(job.id).state is JobState.RUNNING
    assert [(event.sequence, event.data) for event in catalog.events_after(job.id, 0)] == [
        (1, {"state": "queued"}),
        (2, {"state": "running"}),
        (3, {"target": "cancel"}),
    ]


def test_a_runner_that_lost_the_job_is_told(catalog: Catalog) -> None:
    job = create_job(catalog)
    seen = catalog.apply(job.id, JobEvent.START)
    catalog.apply(job.id, JobEvent.RESUME, expected_attempts=seen.attempts)
    with pytest.raises(ConflictError, match="Another runner"):
        catalog.apply(job.id, JobEvent.RESUME, expected_attempts=seen.attempts)
    assert catalog.get_job(job.id).attempts == 2


def test_targets(catalog: Catalog) -> None:
    job = create_job(catalog)
    assert catalog.set_target(job.id, Target.RUN) == job
    wanted = catalog.set_target(job.id, Target.CANCEL)
    assert (wanted.target, wanted.state) == (Target.CANCEL, JobState.QUEUED)
    with pytest.raises(ConflictError):
        catalog.set_target(job.id, Target.RUN)
    catalog.apply(job.id, JobEvent.CANCELLED)
    assert catalog.set_target(job.id, Target.CANCEL).state is JobState.CANCELLED


def test_progress_is_replaced(catalog: Catalog) -> None:
    job = create_job(catalog)
    catalog.save_progress(job.id, {"tiles": 1, "note": "α"})
    catalog.save_progress(job.id, {"tiles": 2})
    assert catalog.get_job(job.id).progress == {"tiles": 2}


def test_unknown_jobs(catalog: Catalog) -> None:
    nobody = new_job_id()
    with pytest.raises(NotFoundError):
        catalog.get_job(nobody)
    with pytest.raises(NotFoundError):
        catalog.apply(nobody, JobEvent.START)
    with pytest.raises(NotFoundError):
        catalog.set_target(nobody, Target.CANCEL)


def test_open_jobs_oldest_first(catalog: Catalog) -> None:
    jobs = [create_job(catalog, n) for n in range(5)]
    catalog.apply(jobs[1].id, JobEvent.START)
    finish(catalog, jobs[2].id)
    catalog.apply(jobs[3].id, JobEvent.CANCELLED)
    assert [job.id for job in catalog.open_jobs()] == [jobs[n].id for n in (0, 1, 4)]
    assert len(catalog.open_jobs()) == 3
