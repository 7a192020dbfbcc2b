"""How commands end: exit codes, errors for people, data for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from storage.errors import GramianError


class ExitCode(IntEnum):
    """What a script can branch on. 2 is also what wrong options give."""

    OK = 0
    FAILED = 1  # the job failed or was cancelled, or the service refused the request
    USAGE = 2
    UNREACHABLE = 3  # no service answers
    INTERRUPTED = 130  # Ctrl-C; what was submitted goes on


class UsageError(GramianError):
    """Options that are well formed but do not go together."""

    kind = "usage"


def stdout() -> Console:
    return Console(highlight=False, soft_wrap=True)


def stderr() -> Console:
    return Console(stderr=True, highlight=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """One JSON document on standard output, nothing else."""
    json.dump(value, sys.stdout, indent=2, sort_keys=True)
    sys.stdout.write("\n")


def fail(message: str, *, advice: str = "", code: ExitCode = ExitCode.FAILED) -> NoReturn:
    console = stderr()
    console.print(f"[bold red]error:[/] {escape(message)}")
    if advice:
        console.print(f"[bold]try:[/] {escape(advice)}")
    raise typer.Exit(code)


@contextmanager
def reported(base_url: str = "") -> Iterator[None]:
    """Turns the errors that a user can meet into two lines and an exit code."""
    from service.client import ServiceUnreachableError

    try:
        yield
    except UsageError as error:
        fail(error.message, advice=error.advice, code=ExitCode.USAGE)
    except ServiceUnreachableError as error:
        fail(
            error.message,
            advice=f"start one with `gramian serve`, or name another with --url (now {base_url})",
            code=ExitCode.UNREACHABLE,
        )
    except GramianError as error:
        fail(error.message, advice=error.advice)


def print_rows(names: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> None:
    """Aligned columns under their names, never cut: ids are for copying."""
    widths = [max(len(row[n]) for row in [names, *rows]) for n in range(len(names))]
    for row in [names, *rows]:
        line = "  ".join(f"{text:<{width}}" for text, width in zip(row, widths, strict=True))
        stdout().print(line.rstrip(), markup=False)


def describe(document: Mapping[str, Any], names: tuple[str, ...]) -> None:
    """`name: value` lines of the members that are there and not null."""
    console = stdout()
    width = max(len(name) for name in names)
    for name in names:
        value = document.get(name)
        if value is not None:
            shown = value if isinstance(value, str) else json.dumps(value)
            console.print(f"{name:<{width}}  {escape(shown)}", markup=True)
