"""`gramian share | audit`: who may read what, and who did what."""

from __future__ import annotations

from itertools import islice
from typing import Annotated

import typer

from service.cli.connection import DEFAULT_URL, JsonOption, UrlOption, connected
from service.cli.outcome import describe, print_json, print_rows


def share(
    thing: Annotated[str, typer.Argument(help="Id of a data set, a job or a matrix.")],
    reader: Annotated[
        str | None, typer.Argument(help="An owner of keys, or '*' for everybody. Left out: show.")
    ] = None,
    end: Annotated[bool, typer.Option("--end", help="Take the access away again.")] = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Let somebody else read one thing of yours, or show who owns and reads it."""
    with connected(url) as client:
        if reader is None:
            found = client.access(thing)
        else:
            found = client.unshare(thing, reader) if end else client.share(thing, reader)
    if as_json:
        print_json(found)
    else:
        describe(found, ("id", "owners", "readers"))


def audit(
    owner: Annotated[str | None, typer.Option(help="Only what this owner did.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many entries.")] = 50,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Show who did what, newest first. For administrators."""
    with connected(url) as client:
        found = list(islice(client.audit(owner), limit))
    if as_json:
        print_json(found)
        return
    print_rows(
        ("time", "owner", "key", "status", "action", "thing"),
        [
            (e["created_at"][:19], e["owner"], e["key"], str(e["status"]), e["action"], e["thing"])
            for e in found
        ],
    )
