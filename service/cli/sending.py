"""From the options of a command to a job: what `gramian submit`, `solve` and `analyze` share."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.cli.jobs import follow, show_job
from service.cli.outcome import UsageError, describe, print_json, stdout

if TYPE_CHECKING:
    from service.client import Client

WatchOption = Annotated[bool, typer.Option("--watch", help="Stay and show its progress.")]
EstimateOption = Annotated[
    bool, typer.Option("--estimate", help="Only say what it would cost; nothing is run.")
]


def send(
    client: Client, task: dict[str, Any], *, watch: bool, estimate: bool, as_json: bool
) -> None:
    """Submit a task, or say what it would cost; watch it, or show its job."""
    if estimate:
        document = client.estimate(task)
        if as_json:
            print_json(document)
            return
        names = tuple(document["estimate"])
        describe(document["estimate"], names)
        refusal = document["refusal"]
        stdout().print(
            "it would be accepted now" if refusal is None else f"refused now: {refusal['detail']}",
            markup=False,
        )
        return
    job = client.submit(task)
    if watch:
        follow(client, job.id, as_json=as_json)
        return
    show_job(job, as_json=as_json)
    if not as_json and not job.ended:
        stdout().print(f"follow it: gramian watch {job.id}", markup=False)


def json_object(text: str, source: str) -> dict[str, Any]:
    """Raises UsageError for anything else."""
    try:
        document = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{source} is not JSON: {error}.", advice="see /openapi.json") from error
    if not isinstance(document, dict):
        raise UsageError(f"{source} is not a JSON object.", advice="see /openapi.json")
    return document


def without_nulls(task: dict[str, Any]) -> dict[str, Any]:
    """What was not said is left to the service's defaults."""
    return {name: value for name, value in task.items() if value is not None}
