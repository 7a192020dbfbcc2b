"""Problem documents: their members, and what never gets into them."""

from __future__ import annotations

import json
import math

import pytest

from service.errors import STATUS_BY_KIND, error_document, json_safe, problem, validation_problem
from storage.errors import GramianError, TooLargeError


def test_details_become_extension_members_but_never_replace_standard_ones() -> None:
    error = TooLargeError("Too big.", advice="Shrink it.", limit_bytes=7, status=200, kind="fine")
    document = error_document(error, "/v1/jobs")
    assert document == {
        "type": "urn:gramian:problem:too-large",
        "title": document["title"],
        "status": 413,
        "detail": "Too big.",
        "kind": "too-large",
        "advice": "Shrink it.",
        "instance": "/v1/jobs",
        "limit_bytes": 7,
    }


def test_a_kind_without_a_status_is_our_bug() -> None:
    class NovelError(GramianError):
        kind = "novel"

    assert error_document(NovelError("?"), "/")["status"] == 500


def test_statuses_are_errors() -> None:
    assert all(400 <= status < 600 for status in STATUS_BY_KIND.values())
    assert problem("not-ready", "x")["status"] == 409


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (math.nan, None),
        (math.inf, None),
        ({"a": [1.5, -math.inf], 3: (True, None)}, {"a": [1.5, None], "3": [True, None]}),
        ({"path": b"bytes"}, {"path": "b'bytes'"}),
    ],
)
def test_everything_can_be_said_in_json(value: object, expected: object) -> None:
    assert json_safe(value) == expected
    json.dumps(json_safe(value), allow_nan=False)


def test_validation_faults_say_where_without_repeating_the_input() -> None:
    faults = [
        {"loc": ("body", "task", n), "msg": "Field required", "type": "missing", "input": "SECRET"}
        for n in range(5)
    ]
    document = validation_problem(faults, "/v1/jobs")
    assert document["status"] == 422
    assert "body.task.0: Field required" in document["detail"]
    assert "(and 2 more)" in document["detail"]
    assert len(document["errors"]) == 5
    assert "SECRET" not in json.dumps(document)
