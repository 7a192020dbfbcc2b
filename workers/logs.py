"""Log lines of all processes: for people, or as one JSON object per line for a log store.

The job and the request that a line belongs to are context variables, so that whatever logs while
they are set (libraries too) carries them.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, Literal

LogFormat = Literal["text", "json"]

# How worker processes learn the format: they inherit it, or `worker_environment` sets it.
FORMAT_VARIABLE = "GRAMIAN_LOG_FORMAT"
TEXT_FORMAT = "%(asctime)s %(levelname)s %(message)s"

_job: ContextVar[str] = ContextVar("gramian_job", default="")
_request: ContextVar[str] = ContextVar("gramian_request", default="")

# These put handlers of their own on their loggers.
_FOREIGN = ("distributed", "bokeh", "uvicorn", "uvicorn.access", "uvicorn.error")


class JsonFormatter(logging.Formatter):
    """One object: time (UTC, ISO 8601), level, logger, message; job, request and error if any."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        for name, variable in (("job", _job), ("request", _request)):
            if variable.get():
                line[name] = variable.get()
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


@contextmanager
def about_job(job_id: str) -> Iterator[None]:
    """What is logged inside belongs to this job."""
    token = _job.set(job_id)
    try:
        yield
    finally:
        _job.reset(token)


@contextmanager
def about_request(request_id: str) -> Iterator[None]:
    """What is logged inside belongs to this HTTP request."""
    token = _request.set(request_id)
    try:
        yield
    finally:
        _request.reset(token)


def configure(log_format: LogFormat, level: str = "INFO") -> None:
    """Set up the logging of this process; for the process that owns it, not for a library.

    As JSON, also the lines of the libraries that have handlers of their own.
    """
    root = logging.getLogger()
    if log_format == "text":
        logging.basicConfig(level=level, format=TEXT_FORMAT)
        return
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter())
    root.handlers = [handler]
    root.setLevel(level)
    for name in _FOREIGN:
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
