"""One experiment from beginning to end: a service, the work, the files, a summary on screen."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from service.client import Client
from service.client.progress import seconds_text
from service.demo.embedded import embedded_service
from service.papers.catalogue import experiment
from service.papers.figure import require_drawing
from service.papers.lab import Lab
from service.papers.report import Report, write
from service.papers.results import FOLDER
from storage.errors import GramianError


class UnusedOptionError(GramianError):
    """An option that the chosen experiment has no use for."""

    kind = "unused-option"


@dataclass(frozen=True)
class PaperOptions:
    name: str
    full: bool = False
    data: str | None = None  # see data.py; None: the experiment's default
    data_dir: Path = Path("gramian-data")
    url: str | None = None  # a running service; None: one of our own
    api_key: str | None = None
    workers: int = 2
    worker_memory_limit: str = "1500MiB"


def run(options: PaperOptions, console: Console) -> Report:
    """Measure, write the files into `data_dir`/paper, print the comparison.

    Raises NotFoundError for an unknown experiment, DrawingUnavailableError without matplotlib
    (both before anything is started), and what the experiment raises.
    """
    chosen = experiment(options.name)
    if options.data is not None and not chosen.takes_data:
        raise UnusedOptionError(
            f"The experiment {chosen.name} has no images to choose.", advice="Leave --data out."
        )
    require_drawing()
    begun = time.monotonic()
    folder = options.data_dir / FOLDER
    console.print(f"{chosen.name}: {chosen.summary}", markup=False)
    with _client(options, folder, console) as client:
        lab = Lab(client, console, options.data)
        report = chosen.measure(lab, chosen.full if options.full else chosen.small)
    paths = write(report, folder)
    _print(report, console)
    console.print("written: " + ", ".join(str(path) for path in paths.values()), markup=False)
    console.print(f"{seconds_text(time.monotonic() - begun)} in all")
    return report


@contextmanager
def _client(options: PaperOptions, folder: Path, console: Console) -> Iterator[Client]:
    if options.url is not None:
        with Client(options.url, api_key=options.api_key) as client:
            yield client
        return
    serve_options = [
        *("--workers", str(options.workers)),
        *("--worker-memory-limit", options.worker_memory_limit),
        *("--log-level", "warning"),
    ]
    with (
        embedded_service(folder / "service", options=serve_options) as service,
        Client(service.url) as client,
    ):
        console.print(f"service on {service.url} with {options.workers} workers", markup=False)
        yield client


def _print(report: Report, console: Console) -> None:
    table = Table("quantity", "published", "here", title=report.title, title_justify="left")
    for comparison in report.comparisons:
        table.add_row(comparison.quantity, comparison.published, comparison.here)
    console.print(table)
    for sentence in report.differences:
        console.print(f"- {sentence}", markup=False)
