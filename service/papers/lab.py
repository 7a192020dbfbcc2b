"""What experiments work with: data, Gram matrices and solves of a service, by its public client."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from service.cli.finish import finish
from service.client import Answer, Client, Job

Floats = NDArray[np.float64]


class Lab:
    """Calls that wait until the result is there. All raise what `finish` raises.

    `console` shows what is going on; `data` is the user's choice of images (data.py), None for
    the default of the experiment.
    """

    def __init__(self, client: Client, console: Console, data: str | None = None) -> None:
        self.client = client
        self.console = console
        self.data = data

    def upload(self, x: NDArray[Any], y: NDArray[Any] | None = None, *, name: str) -> str:
        """The id of the stored data set."""
        return self.client.upload(x, y, name=name).id

    def gram(
        self, label: str, kernel: Mapping[str, Any], x1: str, x2: str | None = None, **options: Any
    ) -> str:
        """The id of the Gram matrix of data set `x1` against `x2` (itself if None); `options` as
        those of `Client.gram`."""
        task = {"type": "gram", "kernel": dict(kernel), "x1": x1, "x2": x2, **options}
        return str(self._finish(task, label).matrix)

    def measured_gram(
        self, label: str, kernel: Mapping[str, Any], x1: str, **options: Any
    ) -> dict[str, Any]:
        """The summary of a Gram matrix that is computed for its time only, and deleted again with
        its data set."""
        task = {"type": "gram", "kernel": dict(kernel), "x1": x1, **options}
        job = self._finish(task, label)
        summary = dict(self.client.result(job.id)["summary"])
        self.client.delete_matrix(str(job.matrix))
        self.client.delete_dataset(x1)
        return summary

    def task(self, label: str, kind: str, **fields: Any) -> str:
        """The id of the matrix that a task of the type `kind` with these `fields` makes."""
        return str(self._finish({"type": kind, **fields}, label).matrix)

    def answer(self, label: str, kind: str, **fields: Any) -> Answer:
        """The summary and the arrays of such a task."""
        return self.client.answer(self._finish({"type": kind, **fields}, label))

    def solve(self, label: str, matrix: str, **options: Any) -> dict[str, Any]:
        """The summary of a regression; `options` as those of `Client.solve`."""
        job = self._finish({"type": "solve", "matrix": matrix, **options}, label)
        return dict(self.client.result(job.id)["summary"])

    def analysis(self, label: str, name: str, **parameters: Any) -> Answer:
        """The summary and arrays of a named analysis; `parameters` as those of
        `Client.analysis`."""
        task = {"type": "analysis", "analysis": {"name": name, **parameters}}
        return self.client.answer(self._finish(task, label))

    def values(self, matrix: str, array: str = "ntk") -> Floats:
        """A whole stored array as float64."""
        with tempfile.TemporaryDirectory() as folder:
            path = self.client.fetch(matrix, Path(folder) / "values.npy", array=array)
            values: Floats = np.load(path).astype(np.float64)
            return values

    def _finish(self, task: Mapping[str, Any], label: str) -> Job:
        return finish(self.client, task, console=self.console, label=label)
