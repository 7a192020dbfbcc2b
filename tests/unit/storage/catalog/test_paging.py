"""Pages: complete, without repeats, whatever is inserted meanwhile; foreign cursors refused."""

from __future__ import annotations

import base64
import json
from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.catalog import Catalog, InvalidCursorError, JobEvent, JobState
from storage.catalog.cursors import decode_cursor, encode_cursor
from support.catalogs import add_dataset, create_job, mx


def test_pages_are_complete_while_rows_arrive(catalog: Catalog) -> None:
    expected = [create_job(catalog, n).id for n in range(11)][::-1]
    seen: list[str] = []
    cursor = None
    while True:
        page, cursor = catalog.list_jobs(limit=3, cursor=cursor)
        seen += [job.id for job in page]
        if cursor is None:
            break
        create_job(catalog, f"arrived after {len(seen)}")
    assert seen == expected


def test_the_last_full_page_has_no_next(catalog: Catalog) -> None:
    for n in range(4):
        create_job(catalog, n)
    page, cursor = catalog.list_jobs(limit=2)
    assert cursor is not None
    last, end = catalog.list_jobs(limit=2, cursor=cursor)
    assert (len(page), len(last), end) == (2, 2, None)


def test_only_the_jobs_of_one_matrix_or_of_one_type(catalog: Catalog) -> None:
    task = {"type": "spectrum", "matrix": mx("k")}
    builds = create_job(catalog, 1, matrix_id=mx("k")).id
    reads = [create_job(catalog, n, task=task).id for n in (2, 3)]
    create_job(catalog, 4, task={"type": "spectrum", "matrix": mx("other")})

    def found(**asked: str | None) -> list[str]:
        names: list[str] = []
        cursor: str | None = None
        while True:
            page, cursor = catalog.list_jobs(1, cursor, **asked)
            names += [job.id for job in page]
            if cursor is None:
                return names

    assert found(matrix=mx("k")) == [*reads[::-1], builds]
    assert found(matrix=mx("k"), task_type="spectrum") == reads[::-1]
    assert found(matrix=mx("k"), task_type="solve") == []
    assert len(found(task_type="spectrum")) == 3


def test_a_page_goes_on_after_its_last_row_is_gone(catalog: Catalog) -> None:
    names = [add_dataset(catalog, f"set {n}") for n in range(5)][::-1]
    page, cursor = catalog.list_datasets(limit=2)
    catalog.delete_dataset(page[-1].id)
    rest, _ = catalog.list_datasets(limit=10, cursor=cursor)
    assert [*(record.id for record in page), *(record.id for record in rest)] == names


def test_jobs_by_state(catalog: Catalog) -> None:
    jobs = [create_job(catalog, n) for n in range(6)]
    for job in jobs[::2]:
        catalog.apply(job.id, JobEvent.START)
    first, cursor = catalog.list_jobs(limit=2, state=JobState.RUNNING)
    rest, end = catalog.list_jobs(limit=2, cursor=cursor, state=JobState.RUNNING)
    assert [job.id for job in first + rest] == [jobs[n].id for n in (4, 2, 0)]
    assert end is None
    assert catalog.list_jobs(state=JobState.FAILED) == ([], None)


def test_matrices_page_too(catalog: Catalog) -> None:
    names = [mx(n) for n in range(3)]
    for name in names:
        catalog.add_matrix(name, "gram", {"id": name})
    first, cursor = catalog.list_matrices(limit=2)
    rest, _ = catalog.list_matrices(limit=2, cursor=cursor)
    assert [record.id for record in first + rest] == names[::-1]


def test_a_cursor_belongs_to_its_listing(catalog: Catalog) -> None:
    for n in range(2):
        create_job(catalog, n)
    cursor = catalog.list_jobs(limit=1)[1]
    assert cursor is not None
    with pytest.raises(InvalidCursorError) as caught:
        catalog.list_matrices(cursor=cursor)
    assert caught.value.kind == "invalid-cursor"


def test_an_empty_page_is_a_mistake(catalog: Catalog) -> None:
    with pytest.raises(ValueError, match="0 rows"):
        catalog.list_jobs(limit=0)


def forged(*position: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(position).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "%%%",
        "e30",
        "x" * 100_000,
        forged("jobs"),
        forged("jobs", "yesterday", "job-1"),
        forged("jobs", "2026-01-01T00:00:00+00:00", 7),
        forged("jobs", 7, "job-1"),
        forged("jobs", "2026-01-01T00:00:00+00:00", "a\x00b"),
        forged(*["["] * 50),
    ],
)
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidCursorError):
        decode_cursor("jobs", cursor)


# A year from either end of the calendar, so that no time zone leads beyond it.
MOMENTS = st.datetimes(
    datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.timezones(), allow_imaginary=False
)


@given(MOMENTS, st.from_regex(r"job-[0-9a-f]{32}", fullmatch=True))
def test_cursors_round_trip(moment: datetime, row_id: str) -> None:
    assert decode_cursor("jobs", encode_cursor("jobs", moment, row_id)) == (moment, row_id)


@given(st.text(max_size=300))
def test_arbitrary_text_never_breaks_the_decoder(text: str) -> None:
    with pytest.raises(InvalidCursorError):
        decode_cursor("jobs", text)
