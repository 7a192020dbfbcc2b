"""Log lines as JSON: one object each, with the job and the request they are about."""

from __future__ import annotations

import io
import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from workers.logs import JsonFormatter, about_job, about_request

Lines = Any


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, Lines]]:
    """A logger that writes JSON, and a function that reads what it wrote."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    logger = logging.getLogger("gramian.test.logs")
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel("DEBUG")
    yield logger, lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.removeHandler(handler)


def test_a_line_is_one_object_whatever_is_logged(log: tuple[logging.Logger, Lines]) -> None:
    logger, lines = log
    logger.warning("two\nlines, %s and \x1b[31m%r", "Größe", object)
    try:
        raise ValueError("of a sort")
    except ValueError:
        logger.exception("It failed.")
    first, second = lines()
    assert first["message"].startswith("two\nlines, Größe and")
    assert (first["level"], first["logger"]) == ("warning", "gramian.test.logs")
    assert first["time"].endswith("+00:00")
    assert not {"job", "request", "error"} & first.keys()
    assert "ValueError: of a sort" in second["error"]


def test_lines_name_the_job_and_the_request_they_are_about(
    log: tuple[logging.Logger, Lines],
) -> None:
    logger, lines = log

    def elsewhere() -> None:
        with about_job("job-2"):
            logger.info("other thread")

    with about_request("r-1"):
        logger.info("asked")
        with about_job("job-1"):
            logger.info("both")
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
            logger.info("still")
    logger.info("neither")
    found = [(line.get("job"), line.get("request")) for line in lines()]
    assert found == [
        (None, "r-1"),
        ("job-1", "r-1"),
        ("job-2", None),
        ("job-1", "r-1"),
        (None, None),
    ]
