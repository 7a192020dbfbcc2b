"""The common shape of planned and running jobs, whatever their task is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from pydantic import BaseModel

from service.jobs.context import JobContext
from service.jobs.progress import Reporter
from storage.catalog import JobRecord
from storage.format import MatrixManifest


@dataclass(frozen=True)
class Plan:
    """A request whose inputs exist and fit together.

    `manifest` is None when the result is a summary without arrays. `request_digest` is equal for
    requests that have one result; `estimate` is JSON-serialisable and has at least
    `bytes_written`, `peak_bytes_per_worker` and `seconds`. `memory_advice`: what to do where that
    peak is more than a worker may use.
    """

    manifest: MatrixManifest | None
    request_digest: str
    estimate: dict[str, Any]
    memory_advice: str = (
        "Ask for smaller tiles (tile_rows), one output or float32, or give the workers more memory."
    )


class JobKind(Protocol):
    """How the requests of one task type are planned and how its jobs run."""

    def plan(self, context: JobContext, task: dict[str, Any]) -> Plan:
        """Check everything that can be checked before any work. Raises GramianError subclasses."""
        ...

    def run(
        self,
        context: JobContext,
        job: JobRecord,
        manifest: MatrixManifest | None,
        reporter: Reporter,
        should_stop: Callable[[], bool],
    ) -> dict[str, Any] | None:
        """Do the work from wherever it was left; the summary of the result, or None if stopped.

        The matrix, if there is one, is sealed when this returns a summary. Nothing of the job runs
        any more when this returns or raises.
        """
        ...


class TaskType(JobKind, Protocol):
    """A task type as `registry.py` lists it."""

    @property
    def name(self) -> str:
        """The value of `task.type`."""
        ...

    @property
    def schema(self) -> type[BaseModel]:
        """Model of the task; checks what needs no look at the store."""
        ...

    @property
    def examples(self) -> Mapping[str, dict[str, Any]]:
        """Tasks for the API documentation by name; tests submit them."""
        ...
