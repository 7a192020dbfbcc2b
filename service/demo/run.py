"""The demonstration: a real data set through upload, Gram, cross-Gram, solves and checks.

Everything goes through the REST API of a service that it starts; it ends with an error unless the
stored numbers agree with an independent float64 computation.
"""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from service.cli.finish import finish
from service.client import Client
from service.client.progress import bytes_text, seconds_text
from service.demo import data
from service.demo.embedded import embedded_service
from service.demo.memory import MemoryWatch
from service.demo.reference import relu_entry
from storage.errors import GramianError

DEPTH = 3
W_STD = math.sqrt(2.0)
RELATIVE_RIDGE = 1e-2
# Unit-norm rows and no biases: the set-up of the expected accuracies.
KERNEL = {
    "preset": "fc",
    "depth": DEPTH,
    "activation": "relu",
    "w_std": W_STD,
    "normalize": "unit",
}
CHECKED_ENTRIES = 20
# The promise for float32 entries (relative error against float64).
ENTRY_TOLERANCE = 1e-6


class DemoFailedError(GramianError):
    """Stored numbers are not what they should be, or a line that the demonstration shows fails."""

    kind = "demo-failed"


@dataclass(frozen=True)
class DemoOptions:
    data: data.DataName = "mnist"
    train_rows: int | None = None  # None: all there are
    test_rows: int | None = None
    data_dir: Path = Path("gramian-data")
    port: int = 0  # 0: a free one
    workers: int = 2
    worker_memory_limit: str = "1500MiB"
    inducing: int = 1000
    keep: bool = False  # leave the service running until Ctrl-C


@dataclass(frozen=True)
class Answer:
    """One solve, as the table shows it."""

    method: str
    accuracy: float
    outcome: str
    applications: int
    seconds: float


@dataclass(frozen=True)
class DemoOutcome:
    """What a demonstration leaves: ids of what is stored, and how good the answers are."""

    data_dir: str
    matrix: str
    cross: str
    answers: list[Answer]
    peak_bytes: int
    seconds: float


def run(options: DemoOptions, console: Console) -> DemoOutcome:
    """The whole demonstration. Raises GramianError subclasses when something is not right."""
    begun = time.monotonic()
    split = data.load(options.data, train_rows=options.train_rows, test_rows=options.test_rows)
    console.print(
        f"[bold]{split.title}[/]: {len(split.x_train)} training and {len(split.x_test)} test "
        f"images of {split.x_train.shape[1]} pixels"
    )
    folder = options.data_dir / f"demo-{options.data}"
    serve_options = [
        *("--workers", str(options.workers)),
        *("--worker-memory-limit", options.worker_memory_limit),
        *("--log-level", "warning"),
    ]
    with (
        MemoryWatch(os.getpid()) as memory,
        embedded_service(folder, port=options.port, options=serve_options) as service,
        Client(service.url) as client,
    ):
        console.print(
            f"service on {service.url} with {options.workers} workers, ready after "
            f"{service.ready_seconds:.1f} s; data in {folder}"
        )
        train = client.upload(split.x_train, split.y_train, name=f"{options.data}-train").id
        test = client.upload(split.x_test, split.y_test, name=f"{options.data}-test").id
        console.print(f"uploaded {train} and {test}")
        console.print()
        gram_task = {"type": "gram", "kernel": KERNEL, "x1": train, "outputs": ["ntk"]}
        _print_estimate(console, client, gram_task)
        gram = finish(client, gram_task, console=console, label="Gram matrix")
        cross = finish(
            client,
            gram_task | {"x1": test, "x2": train},
            console=console,
            label="cross-Gram",
        )
        solve_task = {
            "type": "solve",
            "matrix": gram.matrix,
            "cross": cross.matrix,
            "ridge": RELATIVE_RIDGE,
            "ridge_relative": True,
        }
        inducing = min(options.inducing, len(split.x_train))
        answers = [
            _solve(console, client, "conjugate gradients", solve_task | {"method": "cg"}),
            _solve(
                console,
                client,
                f"Nyström, {inducing} points",
                solve_task | {"method": "nystrom", "inducing": inducing},
            ),
        ]
        console.print()
        _print_answers(console, answers, split)
        _check_entries(console, client, str(gram.matrix), split)
        _show_opening(console, client, str(gram.matrix), folder)
        outcome = DemoOutcome(
            data_dir=str(folder),
            matrix=str(gram.matrix),
            cross=str(cross.matrix),
            answers=answers,
            peak_bytes=memory.peak_bytes,
            seconds=time.monotonic() - begun,
        )
        console.print(
            f"\npeak memory of all processes together: {bytes_text(outcome.peak_bytes)}; "
            f"{seconds_text(outcome.seconds)} in all"
        )
        if options.keep:
            console.print(f"the service goes on at {service.url}; Ctrl-C ends it")
            _until_interrupted(service.process)
    if not options.keep:
        console.print(
            f"the service has stopped; to have it back: "
            f"gramian serve --data-dir {escape(str(folder))}"
        )
    return outcome


def _solve(console: Console, client: Client, label: str, task: dict[str, Any]) -> Answer:
    job = finish(client, task, console=console, label=label)
    summary = client.result(job.id)["summary"]
    return Answer(
        method=label,
        accuracy=float(summary["accuracy"]),
        outcome=str(summary["outcome"]),
        applications=int(summary["stats"]["applications"]),
        seconds=float(summary["total_seconds"]),
    )


def _print_estimate(console: Console, client: Client, task: dict[str, Any]) -> None:
    answer = client.estimate(task)
    estimate = answer["estimate"]
    console.print(
        f"estimate: {estimate['tiles']} tiles of {estimate['tile_rows']} rows, "
        f"{bytes_text(estimate['bytes_written'])} to write, at most "
        f"{bytes_text(estimate['peak_bytes_per_worker'])} per worker, "
        f"{seconds_text(estimate['seconds'])} of computing"
    )
    if answer["refusal"] is not None:
        refusal = answer["refusal"]
        raise DemoFailedError(refusal["detail"], advice=refusal["advice"])


def _print_answers(console: Console, answers: list[Answer], split: data.Split) -> None:
    table = Table("method", "test accuracy", "applications of K", "time", "ended", box=None)
    for answer in answers:
        table.add_row(
            answer.method,
            f"{100 * answer.accuracy:.2f} %",
            str(answer.applications),
            seconds_text(answer.seconds),
            answer.outcome,
        )
    console.print(table)
    console.print(
        f"expected for the exact solve: about {split.expected}; here {len(split.x_train)} train"
    )


def _check_entries(console: Console, client: Client, matrix: str, split: data.Split) -> None:
    """Compare entries all over the matrix, also below and on the diagonal, with float64."""
    m = len(split.x_train)
    rng = np.random.default_rng(1)
    pairs = [(int(i), int(j)) for i, j in rng.integers(0, m, (CHECKED_ENTRIES - 2, 2))]
    pairs += [(m - 1, m - 1), (m - 1, 0)]
    worst = 0.0
    for i, j in pairs:
        part = client.slice(matrix, rows=slice(i, i + 1), cols=slice(j, j + 1), array="ntk")
        _, expected = relu_entry(split.x_train[i], split.x_train[j], depth=DEPTH, w_std=W_STD)
        worst = max(worst, abs(float(part[0, 0]) / expected - 1))
    if not worst <= ENTRY_TOLERANCE:
        raise DemoFailedError(
            f"An entry differs from the float64 reference by {worst:.1e} (allowed: "
            f"{ENTRY_TOLERANCE:.0e}).",
            advice="This is a bug: please report it with the versions and the machine.",
        )
    console.print(
        f"{len(pairs)} entries agree with an independent float64 computation to {worst:.1e}"
    )


def opening_lines(url: str) -> list[str]:
    """Three lines of Python that open a stored matrix over HTTP with plain zarr."""
    return [
        "import zarr",
        f'k = zarr.open("{url}", mode="r")',
        'print(k["ntk"].shape, k["ntk"][:2, :2])',
    ]


def _show_opening(console: Console, client: Client, matrix: str, folder: Path) -> None:
    """Print the three lines, and run exactly them in a Python of their own."""
    lines = opening_lines(client.zarr_url(matrix))
    console.print(f"\nthe matrix is in {folder / 'store' / 'matrices' / matrix}; open it with")
    for line in lines:
        console.print(f"    {line}", style="cyan", markup=False)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if done.returncode != 0:
        raise DemoFailedError(f"Those lines failed:\n{done.stderr}", advice="This is a bug.")
    console.print("which prints", style="dim")
    for line in done.stdout.rstrip().splitlines():
        console.print(f"    {line}", markup=False)


def _until_interrupted(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait()
    except KeyboardInterrupt:
        return
