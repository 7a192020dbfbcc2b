"""What experiments have left in a folder (report.py), read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from service.papers.catalogue import experiment
from storage.errors import NotFoundError

FOLDER = "paper"  # within a data folder


def stored_report(folder: Path, name: str) -> dict[str, Any]:
    """The document of an experiment's result. Raises NotFoundError, for names outside the
    catalogue too."""
    document: dict[str, Any] = json.loads(_read(folder, name, "json"))
    return document


def stored_picture(folder: Path, name: str) -> bytes:
    """Its picture as SVG. Raises NotFoundError."""
    return _read(folder, name, "svg")


def written_at(folder: Path, name: str) -> float | None:
    """When the result was written, seconds since the epoch; None if there is none."""
    try:
        return (folder / f"{name}.json").stat().st_mtime
    except FileNotFoundError:
        return None


def _read(folder: Path, name: str, suffix: str) -> bytes:
    # Only names of the catalogue become names of files.
    path = folder / f"{experiment(name).name}.{suffix}"
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFoundError(
            f"The experiment {name} has left no result here.",
            advice=f"Run `gramian paper {name}` with this service's data folder.",
        ) from None
