"""`gramian keys`: API keys. A service only ever stores their SHA-256."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

import typer

from service.cli.connection import DEFAULT_URL, JsonOption, UrlOption, connected
from service.cli.outcome import UsageError, describe, print_json, print_rows, reported, stdout

app = typer.Typer(no_args_is_help=True, help="Make, list and revoke API keys.")


@app.command()
def new(as_json: JsonOption = False) -> None:
    """Make an operator's key: for starting a service with keys. Asks no service, stores nothing.

    Its SHA-256 goes into the settings of the service; whoever has the key may do everything.
    """
    from service.access.keyring import new_key

    made = new_key()
    if as_json:
        print_json({"key": made.key, "sha256": made.digest})
        return
    console = stdout()
    console.print(f"export GRAMIAN_API_KEY={made.key}", markup=False)
    console.print(f"export GRAMIAN_API_KEY_SHA256={made.digest}", markup=False)
    console.print(
        "The first line is for the operator and is shown only now; the second for the service."
    )


@app.command()
def create(
    owner: Annotated[str, typer.Argument(help="Who owns what is made with it, such as alice.")],
    scope: Annotated[str, typer.Option(help="read, submit or admin; each includes the former.")] = (
        "submit"
    ),
    days: Annotated[
        float | None, typer.Option(min=0, help="Days until it expires; default: never.")
    ] = None,
    note: Annotated[str | None, typer.Option(help="A label for people.")] = None,
    max_open_jobs: Annotated[int | None, typer.Option(min=0)] = None,
    max_stored: Annotated[
        str | None, typer.Option(help="Bytes its owner may own, such as 500GB.")
    ] = None,
    max_matrix_rows: Annotated[int | None, typer.Option(min=0)] = None,
    max_requests_per_minute: Annotated[int | None, typer.Option(min=1)] = None,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Make a key for a user. It is shown only now."""
    with reported(url):
        quota = {
            "max_open_jobs": max_open_jobs,
            "max_stored_bytes": None if max_stored is None else _bytes(max_stored),
            "max_matrix_rows": max_matrix_rows,
            "max_requests_per_minute": max_requests_per_minute,
        }
    expires_at = None if days is None else datetime.now(UTC) + timedelta(days=days)
    with connected(url) as client:
        made = client.create_key(
            owner,
            scope=scope,
            note=note,
            expires_at=expires_at,
            **{name: value for name, value in quota.items() if value is not None},
        )
    if as_json:
        print_json(made)
        return
    stdout().print(f"export GRAMIAN_API_KEY={made['key']}", markup=False)
    stdout().print(f"{made['id']} is shown only now; revoke it: gramian keys revoke {made['id']}")


@app.command("list")
def list_keys(
    owner: Annotated[str | None, typer.Option(help="Only keys of this owner.")] = None,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """List keys by their public beginning, newest first."""
    with connected(url) as client:
        found = list(client.keys(owner))
    if as_json:
        print_json(found)
        return
    print_rows(
        ("key", "owner", "scope", "state", "created", "expires", "note"),
        [
            (
                *(key["id"], key["owner"], key["scope"], _state(key), key["created_at"][:10]),
                *((key["expires_at"] or "never")[:10], key["note"] or ""),
            )
            for key in found
        ],
    )


@app.command()
def revoke(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Its beginning, gk_ and 8 digits.")],
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """End a key at once. What its owner owns stays."""
    with connected(url) as client:
        # A whole key pasted here must not travel in a URL.
        found = client.revoke_key("_".join(key.split("_")[:2]))
    if as_json:
        print_json(found)
    else:
        describe(found | {"state": _state(found)}, ("id", "owner", "state", "revoked_at"))


def whoami(url: UrlOption = DEFAULT_URL, as_json: JsonOption = False) -> None:
    """Show who the service takes you for, what you may do and what you use."""
    with connected(url) as client:
        found = client.me()
    if as_json:
        print_json(found)
    else:
        describe(found, ("owner", "key", "scope", "quota", "usage"))


def _state(key: dict[str, Any]) -> str:
    if key["active"]:
        return "active"
    return "revoked" if key["revoked_at"] else "expired"


def _bytes(text: str) -> int:
    from dask.utils import parse_bytes

    try:
        return int(parse_bytes(text))
    except ValueError as error:
        raise UsageError(
            f"{text!r} is not a size.", advice="write 500GB, 2TiB or a number of bytes"
        ) from error
