"""`gramian verify`: is what is stored still what was computed?"""

from __future__ import annotations

from typing import Annotated

import typer

from service.cli.connection import DEFAULT_URL, JsonOption, UrlOption, connected, matrix_id
from service.cli.finish import finish
from service.cli.outcome import ExitCode, print_json, stderr, stdout


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
