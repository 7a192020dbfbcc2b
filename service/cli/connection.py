"""Which service a command talks to, and the arguments that name things in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.outcome import ExitCode, UsageError, fail, reported
from storage.keys import DATASET_ID_PATTERN, JOB_ID_PATTERN, MATRIX_ID_PATTERN

if TYPE_CHECKING:
    from service.client import Client

DEFAULT_URL = "http://127.0.0.1:8000"

UrlOption = Annotated[str, typer.Option("--url", envvar="GRAMIAN_URL", help="The service.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="Id of a job (job-...).")]


@contextmanager
def connected(url: str) -> Iterator[Client]:
    """A client of `url`; what goes wrong inside ends the command with a message and a code.

    The key comes from GRAMIAN_API_KEY only: command lines are visible to every user.
    """
    import os

    from service.client import Client

    key = os.environ.get("GRAMIAN_API_KEY") or None
    with reported(url), Client(url, api_key=key) as client:
        try:
            yield client
        except KeyboardInterrupt:
            fail(
                "interrupted; jobs that were submitted go on",
                advice="gramian status",
                code=ExitCode.INTERRUPTED,
            )


def job_id(text: str) -> str:
    if not re.fullmatch(JOB_ID_PATTERN, text):
        raise UsageError(f"{text!r} is not the id of a job.", advice="list them: gramian status")
    return text


def matrix_id(client: Client, text: str) -> str:
    """A matrix, named by its own id or by the job that made it."""
    if re.fullmatch(MATRIX_ID_PATTERN, text):
        return text
    if re.fullmatch(JOB_ID_PATTERN, text):
        matrix = client.result(text)["matrix"]
        if isinstance(matrix, str):
            return matrix
        raise UsageError(f"Job {text} has made no matrix.", advice=f"gramian status {text}")
    raise UsageError(
        f"{text!r} is neither the id of a matrix nor of a job.", advice="list jobs: gramian status"
    )


def matrix_id_or_none(client: Client, text: str | None) -> str | None:
    """What an option that may be left out names."""
    return None if text is None else matrix_id(client, text)


def dataset_id(client: Client, text: str, targets: Path | None = None) -> str:
    """A data set: the id of a stored one, or a `.npy`/`.npz` file, which is uploaded.

    Uploading the same content again stores nothing new.
    """
    if re.fullmatch(DATASET_ID_PATTERN, text):
        if targets is not None:
            raise UsageError(
                f"{text} is stored with the targets it has.",
                advice="give the samples as a file to store them with other targets",
            )
        return text
    for path in (Path(text), targets):
        if path is not None and not path.is_file():
            raise UsageError(
                f"There is no file {str(path)!r}.",
                advice="name a .npy or .npz file, or the id of a stored data set (ds-...)",
            )
    return client.upload(text, targets, name=Path(text).stem).id
