"""`gramian demo`: see the whole service work on a real data set."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from service.cli.connection import JsonOption
from service.cli.outcome import print_json, reported, stderr, stdout


def demo(
    data: Annotated[
        Literal["mnist", "fashion"],
        typer.Option(help="mnist: 4000 + 1000 digits; fashion: 60000 + 10000 images, out of core."),
    ] = "mnist",
    train: Annotated[
        int | None, typer.Option(min=2, help="Training images; default: all of them.")
    ] = None,
    test: Annotated[
        int | None, typer.Option(min=1, help="Test images; default: all of them.")
    ] = None,
    data_dir: Annotated[Path, typer.Option(help="Where its data folder goes.")] = Path(
        "gramian-data"
    ),
    workers: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 2,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: a free one.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the service running.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Upload images, compute and store their NTK, solve, check, and print how to open it.

    A second run finds what the first one stored; delete the data folder to begin again.
    """
    with reported():
        from service.demo.run import DemoOptions, run

        options = DemoOptions(
            data=data,
            train_rows=train,
            test_rows=test,
            data_dir=data_dir,
            port=port,
            workers=workers,
            # Fashion-MNIST in two workers of this size stays far below 6 GiB in all.
            worker_memory_limit="1500MiB",
            inducing=1000 if data == "mnist" else 2000,
            keep=keep,
        )
        outcome = run(options, stderr() if as_json else stdout())
        if as_json:
            print_json(asdict(outcome))
