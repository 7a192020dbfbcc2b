"""`gramian verify | gc`: is what is stored still right, and is it still needed?"""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.connection import DEFAULT_URL, JsonOption, UrlOption, connected, matrix_id
from service.cli.finish import finish
from service.cli.outcome import ExitCode, print_json, print_rows, stderr, stdout
from service.client.progress import bytes_text


def verify(
    name: Annotated[str, typer.Argument(metavar="MATRIX|JOB", help="mx-... or job-...")],
    repair: Annotated[
        bool, typer.Option("--repair", help="Compute damaged tiles again, to the same digest.")
    ] = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Read every chunk of a matrix and compare it with what was sealed.

    Exit code 1 if something is damaged (and not repaired).
    """
    with connected(url) as client:
        matrix = matrix_id(client, name)
        task = {"type": "verify", "matrix": matrix, "repair": repair}
        job = finish(client, task, console=stderr(), label=matrix[:12])
        summary = client.result(job.id)["summary"]
    if as_json:
        print_json(summary)
    else:
        console = stdout()
        for problem in summary["problems"]:
            console.print(f"{problem['kind']}: {problem['message']}", style="red", markup=False)
        if summary["repaired_tiles"]:
            console.print(f"{summary['repaired_tiles']} tiles were computed again")
        if summary["intact"]:
            console.print(f"{matrix} is intact, digest {summary['digest']}", markup=False)
        else:
            console.print(f"try: gramian verify {matrix} --repair", markup=False)
    if not summary["intact"]:
        raise typer.Exit(ExitCode.FAILED)


def gc(
    delete: Annotated[
        bool, typer.Option("--delete", help="Delete it. Without: only show what would go.")
    ] = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Show or delete leftovers of broken work and what is past its retention.

    For administrators. How long what is kept: the settings retention_*_days of the service.
    """
    with connected(url) as client:
        found = client.garbage(delete=delete)
    if as_json:
        print_json(found)
        return
    rows = [
        (item["kind"], item["name"], bytes_text(item["stored_bytes"]), item["reason"])
        for item in found["items"]
    ]
    if rows:
        print_rows(("kind", "name", "size", "reason"), rows)
    verb = "deleted" if delete else "would go; delete them: gramian gc --delete"
    stdout().print(f"{len(rows)} things, {bytes_text(found['stored_bytes'])} {verb}", markup=False)
    for item in found["kept"]:
        stdout().print(f"kept, needed by now: {item['name']}", markup=False)
