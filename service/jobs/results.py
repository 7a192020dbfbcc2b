"""Task types whose result is a few arrays and a summary: everything but Gram matrices.

Such a task type is one `ResultTask`: a schema, examples, and a function `prepare` that checks a
request against what is stored and says what will be computed, what that costs, and how.
tasks/README.md shows how to add one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Generic, Literal, TypeVar

from service.errors import json_safe
from service.jobs.context import JobContext
from service.jobs.plans import Plan
from service.jobs.progress import Reporter
from service.schemas.tasks import Asked
from storage import matrices, previews
from storage.catalog import JobRecord
from storage.format import FORMAT_VERSION, ArrayLayout, MatrixManifest
from storage.keys import matrix_id
from workers.gram import request_digest, software_versions
from workers.one_worker import Call, Computed, Written, run_in_one_worker
from workers.solves.source import StoredTiles
from workers.stops import run_name, stop_key

# Results are tall and thin: whole rows, in chunks of about this size.
_CHUNK_BYTES = 8 << 20
_BLOCK_ROWS = 512
_ATTRIBUTE = "result"

# Rates of one core of a 2025 server (Zen 4), to tell seconds from hours.
_DENSE_FLOPS_PER_SECOND = 2e10
_READ_BYTES_PER_SECOND = 0.5e9

PART_ADVICE = (
    "Use a part of the matrix (the task submatrix makes one), or give the workers more memory."
)

TaskT = TypeVar("TaskT", bound=Asked)


@dataclass(frozen=True)
class DenseCost:
    """Cost of work on whole matrices in one worker. Sizes in bytes."""

    flops: float
    bytes_read: int
    peak_bytes_per_worker: int
    basis: Literal["model"] = "model"
    workers: int = 1

    def to_json(self) -> dict[str, Any]:
        seconds = self.flops / _DENSE_FLOPS_PER_SECOND + self.bytes_read / _READ_BYTES_PER_SECOND
        return {**asdict(self), "seconds": seconds}


@dataclass(frozen=True)
class Running:
    """What a running computation works with. `manifest`: of the matrix that takes its arrays."""

    context: JobContext
    job: JobRecord
    manifest: MatrixManifest | None
    reporter: Reporter
    should_stop: Callable[[], bool]


@dataclass(frozen=True)
class Work:
    """A request that makes sense.

    `determines`: everything that the result depends on, defaults filled in, inputs by id; equal
    documents have one result. `arrays`: shapes by name, float64, rows first; empty: the result is
    its summary alone. `like`: tiles are cut as those of this stored array (a derived Gram matrix)
    instead. `cost`: the estimate, with `peak_bytes_per_worker` and `seconds`. `run`:
    computes, writes the arrays (`run_in_one_worker` and `write_arrays` do), returns their digests
    and the summary; None when told to stop. `memory_advice`: as of `Plan`.
    """

    determines: dict[str, Any]
    cost: dict[str, Any]
    run: Callable[[Running], Written | None]
    arrays: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    like: StoredTiles | None = None
    memory_advice: str = PART_ADVICE


@dataclass(frozen=True)
class ResultTask(Generic[TaskT]):
    """A task type (`JobKind`). `prepare` raises GramianError subclasses for requests that cannot
    work; it reads documents and targets, never tiles."""

    name: str
    schema: type[TaskT]
    examples: Mapping[str, dict[str, Any]]
    prepare: Callable[[JobContext, TaskT], Work]
    matrix_kind: str = "solution"

    def plan(self, context: JobContext, task: dict[str, Any]) -> Plan:
        work = self.prepare(context, self.schema.model_validate(task))
        request = {"format": FORMAT_VERSION, "task": self.name, **work.determines}
        digest = request_digest(request)
        manifest = self._manifest(work, request, digest) if work.arrays else None
        space = {"bytes_written": 0, "preview_bytes": 0}
        if manifest is not None:
            space = {
                "bytes_written": manifest.stored_bytes,
                "preview_bytes": previews.stored_bytes(manifest),
            }
        return Plan(manifest, digest, {**work.cost, **space}, work.memory_advice)

    def run(
        self,
        context: JobContext,
        job: JobRecord,
        manifest: MatrixManifest | None,
        reporter: Reporter,
        should_stop: Callable[[], bool],
    ) -> dict[str, Any] | None:
        if manifest is not None and matrices.is_sealed(context.blobs, manifest.id):
            # A crash came between sealing and recording; another run might differ in last bits.
            return _recorded(context, manifest)
        work = self.prepare(context, self.schema.model_validate(job.task))
        reporter.report({"phase": "computing", "fraction": None}, force=True)
        written = work.run(Running(context, job, manifest, reporter, should_stop))
        reporter.flush()
        if written is None:
            return None
        summary: dict[str, Any] = json_safe(written.summary)
        if manifest is not None:
            reporter.report({"phase": "sealing", "fraction": 1.0}, force=True)
            context.catalog.confirm_lease()
            matrices.seal(context.blobs, manifest, written.digests, {_ATTRIBUTE: summary})
            summary = _recorded(context, manifest)
        reporter.report({"phase": "done", "fraction": 1.0}, force=True)
        return summary

    def _manifest(self, work: Work, request: dict[str, Any], digest: str) -> MatrixManifest:
        if work.like is None:
            layouts = tuple(tall_layout(name, shape) for name, shape in work.arrays.items())
        else:
            layouts = (work.like.layout,)
        return MatrixManifest(
            id=matrix_id(digest),
            kind=self.matrix_kind,
            arrays=layouts,
            block_rows=_BLOCK_ROWS if work.like is None else work.like.manifest.block_rows,
            provenance={"request": request, "software": software_versions()},
        )


def in_one_worker(
    function: Callable[..., Computed], *arguments: Any
) -> Callable[[Running], Written | None]:
    """`Work.run` that calls `function(*arguments, check_stop)` in a worker (workers.one_worker)."""

    def run(running: Running) -> Written | None:
        call = Call(
            function,
            arguments,
            running.context.blobs.url,
            running.manifest,
            stop_key(run_name(running.job.id, running.job.attempts)),
        )
        client = running.context.compute.client()
        return run_in_one_worker(client, call, should_stop=running.should_stop)

    return run


def write_arrays(running: Running, computed: Computed) -> Written:
    """Store arrays that came back to this process."""
    digests: dict[str, str] = {}
    if running.manifest is not None:
        running.context.catalog.confirm_lease()
        digests = {
            layout.name: matrices.write_array(
                running.context.blobs, running.manifest, layout.name, computed.arrays[layout.name]
            )
            for layout in running.manifest.arrays
        }
    return Written(computed.summary, digests)


def on_all_workers(
    running: Running,
    function: Callable[..., Computed | None],
    request: Any,
    on_progress: Callable[[dict[str, Any]], None] | None = None,
) -> Written | None:
    """Run `function(client, request, ...)`, which keeps this thread busy and sends its products to
    the cluster, and store its arrays; None when told to stop."""
    compute = running.context.compute
    computed = function(
        compute.client(),
        request,
        worker_memory_bytes=compute.limit_bytes(),
        on_progress=on_progress or progress_of_parts(running.reporter),
        should_stop=running.should_stop,
    )
    return None if computed is None else write_arrays(running, computed)


def progress_of_parts(reporter: Reporter) -> Callable[[dict[str, Any]], None]:
    """What solves and the like say of themselves, as progress of a job."""

    def told(news: dict[str, Any]) -> None:
        done, total = news.get("done"), news.get("total")
        reporter.report({**news, "fraction": done / total if done and total else None})

    return told


def tall_layout(name: str, shape: tuple[int, ...]) -> ArrayLayout:
    """Layout of a float64 array in chunks of whole rows."""
    row_bytes = 8 * math.prod(shape[1:])
    wanted = max(1, _CHUNK_BYTES // (row_bytes * _BLOCK_ROWS))
    needed = math.ceil(shape[0] / _BLOCK_ROWS)
    # The largest power of two that is allowed, but no larger than covers the array.
    blocks = min(1 << (wanted.bit_length() - 1), 1 << (needed - 1).bit_length())
    return ArrayLayout(name, shape, (blocks * _BLOCK_ROWS, *shape[1:]), "float64")


def _recorded(context: JobContext, manifest: MatrixManifest) -> dict[str, Any]:
    """Note a sealed result in the catalog and drop what it was made from; its summary."""
    digest = matrices.sealed_digest(context.blobs, manifest.id)
    context.catalog.seal_matrix(manifest.id, digest, manifest.stored_bytes)
    context.blobs.delete_prefix(matrices.scratch_key(manifest.id))
    summary: dict[str, Any] = matrices.attributes(context.blobs, manifest.id)[_ATTRIBUTE]
    return {"digest": digest, **summary}
