"""`gramian analyze`: named analyses of stored Gram matrices."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from service.cli.connection import (
    DEFAULT_URL,
    JsonOption,
    UrlOption,
    connected,
    matrix_id_or_none,
)
from service.cli.gram_options import ArrayOption, TargetsOption
from service.cli.outcome import UsageError
from service.cli.sending import EstimateOption, WatchOption, send, without_nulls


def analyze(
    name: Annotated[str, typer.Argument(help="conditioning, kernel_distance, ...: see /docs.")],
    matrix: Annotated[
        str | None, typer.Argument(help="The Gram matrix: mx-..., or the job's id.")
    ] = None,
    other: Annotated[
        str | None, typer.Option(help="The second Gram matrix, if it takes two.")
    ] = None,
    array: ArrayOption = None,
    targets: TargetsOption = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="A parameter; may be repeated."),
    ] = None,
    watch: WatchOption = False,
    estimate: EstimateOption = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Run a named analysis. Example: gramian analyze effective_rank mx-... --set ridge=0.1"""
    with connected(url) as client:
        analysis = {
            "name": name,
            "matrix": matrix_id_or_none(client, matrix),
            "other": matrix_id_or_none(client, other),
            "array": array,
            "targets": targets,
            **dict(_parameter(text) for text in parameters or []),
        }
        task = {"type": "analysis", "analysis": without_nulls(analysis)}
        send(client, task, watch=watch, estimate=estimate, as_json=as_json)


def _parameter(text: str) -> tuple[str, Any]:
    """NAME=VALUE with a JSON value; what is not JSON is text. Raises UsageError."""
    name, sign, value = text.partition("=")
    if not name or not sign:
        raise UsageError(
            f"--set {text!r} is not NAME=VALUE.", advice="for instance --set ridge=0.1"
        )
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
