"""Jobs and matrices as HTML for notebooks: escaped, and nothing from outside."""

from __future__ import annotations

import json
from collections.abc import Iterable
from html import escape
from typing import Any

from service.client.models import Job, Json, Matrix
from service.client.progress import bytes_text, numbers_text

_SHOWN_CHARACTERS = 300  # of one value: a kernel may be long


def job_html(job: Job, matrix: Matrix | None) -> str:
    """A table of what is known of a job and of the matrix that it has made."""
    task = job.document.get("task", {})
    rows: list[tuple[str, Any]] = [("job", job.id), ("state", job.state)]
    if job.state not in ("queued", "succeeded") and job.progress:
        fraction = float(job.progress.get("fraction") or 0.0)
        rows.append(("progress", f"{fraction:.0%} {numbers_text(job.progress)}".strip()))
    if job.error is not None:
        rows += [("error", job.error.get("message")), ("advice", job.error.get("advice"))]
    rows += [(name, _short(task[name])) for name in ("kernel", "matrix") if task.get(name)]
    if matrix is not None:
        rows += [(array, _array_text(info)) for array, info in matrix.arrays.items()]
        stored = matrix.document.get("stored_bytes")
        rows.append(("stored", None if stored is None else bytes_text(stored)))
        rows += [("matrix id", matrix.id), ("digest", matrix.digest)]
    return table_html(job.type, rows)


def table_html(title: str, rows: Iterable[tuple[str, Any]]) -> str:
    """`name | value` rows without those whose value is None or empty."""
    body = "".join(
        f"<tr><th style='text-align:left'>{escape(name)}</th>"
        f"<td style='text-align:left'><code>{escape(str(value))}</code></td></tr>"
        for name, value in rows
        if value not in (None, "")
    )
    return f"<table><caption>{escape(title)}</caption><tbody>{body}</tbody></table>"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[:_SHOWN_CHARACTERS]}…"


def _array_text(info: Json) -> str:
    return f"{' × '.join(map(str, info['shape']))} {info['dtype']}"
