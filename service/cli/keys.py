"""`gramian keys`: making API keys. The service only ever learns their SHA-256."""

from __future__ import annotations

import hashlib
import secrets
from typing import Annotated

import typer

from service.cli.outcome import print_json, stdout

app = typer.Typer(no_args_is_help=True, help="Make API keys.")

KEY_BYTES = 32  # of randomness: far beyond guessing, so that a fast hash protects it


@app.callback()
def keys() -> None:
    """Make API keys."""


@app.command()
def new(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
) -> None:
    """Print a new key (for clients) and its SHA-256 (for the service). Nothing is stored."""
    key = f"gk_{secrets.token_urlsafe(KEY_BYTES)}"
    digest = hashlib.sha256(key.encode()).hexdigest()
    if as_json:
        print_json({"key": key, "sha256": digest})
        return
    console = stdout()
    console.print(f"export GRAMIAN_API_KEY={key}", markup=False)
    console.print(f"export GRAMIAN_API_KEY_SHA256={digest}", markup=False)
    console.print(
        "The first line is for clients and is shown only now; the second for the service."
    )
