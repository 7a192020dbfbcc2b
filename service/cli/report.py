"""`gramian report`: what a job did and made, as one HTML file."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import (
    DEFAULT_URL,
    JobArgument,
    JsonOption,
    UrlOption,
    connected,
    job_id,
)
from service.cli.outcome import UsageError, print_json, stdout


def report(
    job: JobArgument,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: JOB.html")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Write what was asked, what it cost, pictures of the result and how to open it.

    One file, readable offline and without scripts; also of a job that failed or still runs.
    """
    from service.report.collect import collect
    from service.report.page import page

    with connected(url) as client:
        target = output or Path(f"{job_id(job)}.html")
        if target.exists() and not overwrite:
            raise UsageError(f"{target} is there already.", advice="add --overwrite to replace it")
        text = page(collect(client, job_id(job)))
        try:
            _write(target, text)
        except OSError as error:
            raise UsageError(
                f"{target} cannot be written: {error.strerror}.", advice="name another --output"
            ) from None
    if as_json:
        print_json({"path": str(target.resolve()), "job": job, "bytes": target.stat().st_size})
    else:
        stdout().print(f"{target} ({target.stat().st_size} bytes)", markup=False)


def _write(target: Path, text: str) -> None:
    """All of it or nothing."""
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        os.replace(temporary, target)  # noqa: PTH105 - Path.replace hides the atomicity
    finally:
        temporary.unlink(missing_ok=True)
