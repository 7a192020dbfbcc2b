"""`gramian status | watch | fetch | cancel`: jobs that were submitted, and what they made."""

from __future__ import annotations

import json
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from service.cli.connection import (
    DEFAULT_URL,
    JobArgument,
    JsonOption,
    UrlOption,
    connected,
    job_id,
    matrix_id,
)
from service.cli.outcome import ExitCode, describe, fail, print_json, stderr, stdout
from service.cli.tile_map import job_tiles
from service.client.progress import JobBar, bytes_text, numbers_text

if TYPE_CHECKING:
    from service.client import Client, Job


def show_job(job: Job, *, as_json: bool) -> None:
    if as_json:
        print_json(job.document)
        return
    document = job.document | {"numbers": numbers_text(job.progress or {}) or None}
    describe(document, ("id", "type", "state", "matrix", "numbers", "created_at", "finished_at"))
    if job.error is not None:
        stdout().print(f"error: {job.error['message']}", style="red", markup=False)


def follow(client: Client, job: str, *, as_json: bool) -> None:
    """Show a job's events until it ends; exits with FAILED unless it succeeds, and with
    INTERRUPTED when Ctrl-C leaves it running."""
    try:
        if as_json:
            for event in client.watch(job):
                line = {"id": event.id, "type": event.type, "data": event.data}
                sys.stdout.write(json.dumps(line) + "\n")
                sys.stdout.flush()
        else:
            console = stderr()
            tiles = job_tiles(client, job) if console.is_terminal else lambda: None
            with JobBar(console, job[:12], tiles) as bar:
                for event in client.watch(job):
                    bar.update(event.type, event.data)
    except KeyboardInterrupt:
        fail(
            "detached; the job goes on",
            advice=f"gramian watch {job} to come back, or gramian cancel {job} to end it",
            code=ExitCode.INTERRUPTED,
        )
    ended = client.job(job)
    if not as_json:
        show_job(ended, as_json=False)
    if ended.state != "succeeded":
        error = ended.error or {"message": f"the job was {ended.state}", "advice": ""}
        fail(error["message"], advice=error["advice"] or f"gramian status {job} --json")
    if not as_json and ended.matrix:
        stdout().print(f"get it: gramian fetch {ended.matrix}", markup=False)


def status(
    job: Annotated[
        str | None, typer.Argument(metavar="[JOB]", help="Left out: the newest jobs.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many jobs to list.")] = 20,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Show one job, or the newest ones."""
    with connected(url) as client:
        if job is not None:
            show_job(client.job(job_id(job)), as_json=as_json)
            return
        found = list(islice(client.jobs(), limit))
        if as_json:
            print_json([one.document for one in found])
            return
        # Ids are for copying: whole in the narrowest terminal; the progress gives way.
        table = Table(
            Column("job", no_wrap=True, min_width=len(found[0].id) if found else None),
            Column("state", no_wrap=True, min_width=len("succeeded")),
            Column("type", no_wrap=True),
            Column("created", no_wrap=True, min_width=len("2026-01-01T00:00:00")),
            Column("progress", no_wrap=True),
            box=None,
        )
        for one in found:
            table.add_row(
                one.id,
                one.state,
                one.type,
                str(one.document["created_at"])[:19],
                numbers_text(one.progress or {}),
            )
        stdout().print(table if found else "no jobs yet; ask for one: gramian submit gram --help")


def watch(job: JobArgument, url: UrlOption = DEFAULT_URL, as_json: JsonOption = False) -> None:
    """Follow a job live. Ctrl-C leaves the job running.

    With --json: one line per event. Exit code 1 when the job fails or is cancelled, 130 after
    Ctrl-C. Follows across a restart of the service.
    """
    with connected(url) as client:
        follow(client, job_id(job), as_json=as_json)


def fetch(
    name: Annotated[str, typer.Argument(metavar="JOB|MATRIX", help="job-... or mx-...")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write; default: MATRIX-ARRAY.npy")
    ] = None,
    array: Annotated[str | None, typer.Option(help="Which array, if there are several.")] = None,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Write a whole stored array to a .npy file, in bounded memory."""
    from rich.progress import Progress

    with connected(url) as client:
        matrix = client.matrix(matrix_id(client, name))
        chosen = array or next(iter(matrix.arrays))
        if array is None and len(matrix.arrays) > 1:
            fail(
                f"The matrix has the arrays {', '.join(matrix.arrays)}.",
                advice=f"gramian fetch {name} --array {chosen}",
                code=ExitCode.USAGE,
            )
        target = output or Path(f"{matrix.id}-{chosen}.npy")
        with Progress(console=stderr()) as progress:
            line = progress.add_task(str(target), total=None)
            path = client.fetch(
                matrix.id,
                target,
                array=chosen,
                on_bytes=lambda done, total: progress.update(line, completed=done, total=total),
            )
        document = {"path": str(path.resolve()), "matrix": matrix.id, "array": chosen}
        if as_json:
            print_json(document | {"bytes": path.stat().st_size})
        else:
            stdout().print(f"{path} ({bytes_text(path.stat().st_size)})", markup=False)


def cancel(
    job: JobArgument,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it has stopped.")] = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Stop a job. Tiles that are stored stay, for a later job with the same request."""
    with connected(url) as client:
        found = client.cancel(job_id(job))
        if wait:
            found = client.wait(found.id)
        show_job(found, as_json=as_json)
