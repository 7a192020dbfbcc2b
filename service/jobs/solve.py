"""Solve jobs: kernel ridge regression over a stored Gram matrix, results stored like any matrix."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import json_safe
from service.jobs.context import JobContext
from service.jobs.gram import dataset
from service.jobs.plans import Plan
from service.jobs.progress import Reporter
from service.jobs.solve_estimate import estimate_solve
from service.schemas.tasks import SolveTask
from storage import matrices
from storage.catalog import JobRecord
from storage.datasets import read_targets
from storage.errors import GramianError
from storage.format import FORMAT_VERSION, ArrayLayout, MatrixManifest
from storage.keys import matrix_id
from workers.gram import request_digest, software_versions
from workers.memory import WORKER_BASE_BYTES
from workers.solves.errors import InvalidSolveError
from workers.solves.memory import cholesky_worker_bytes
from workers.solves.policy import choose_method
from workers.solves.prepare import Prepared, prepare
from workers.solves.request import SolveRequest
from workers.solves.solution import Outcome
from workers.solves.targets import is_labels
from workers.solves.task import run_solve

# Results are tall and thin: whole rows, in chunks of about this size.
_CHUNK_BYTES = 8 << 20
_BLOCK_ROWS = 512
_ATTRIBUTE = "solve"


class SolveFailedError(GramianError):
    """The solve ended without an answer that may be used; the advice says what to change."""

    kind = "solve-failed"


class SolveJobs:
    """The task type `solve`."""

    def plan(self, context: JobContext, task: dict[str, Any]) -> Plan:
        """Raises NotFoundError, NotReadyError, InvalidSolveError, TooLargeError."""
        prepared, canonical = _prepare(context, SolveTask.model_validate(task))
        request = prepared.request
        manifest = _manifest(prepared, canonical)
        rhs = prepared.rhs.shape[1]
        limit_bytes = context.compute.limit_bytes()
        method = choose_method(
            request.method,
            rows=prepared.rows,
            direct_bytes=cholesky_worker_bytes(
                rows=prepared.rows,
                rhs=rhs,
                tile_rows=prepared.layout.chunk_shape[0],
                itemsize=prepared.layout.itemsize,
                base_bytes=WORKER_BASE_BYTES,
            ),
            worker_memory_bytes=limit_bytes,
        )
        estimate = estimate_solve(
            prepared.layout,
            method=method,
            placement=request.placement,
            rhs=rhs,
            inducing=prepared.inducing_points,
            tolerance=request.effective_tolerance,
            bytes_written=manifest.stored_bytes,
            workers=context.compute.expected_workers(),
            base_bytes=WORKER_BASE_BYTES,
            limit_bytes=limit_bytes,
        )
        return Plan(
            manifest=manifest,
            request_digest=request_digest(canonical),
            estimate=estimate.to_json(),
        )

    def run(
        self,
        context: JobContext,
        job: JobRecord,
        manifest: MatrixManifest,
        reporter: Reporter,
        should_stop: Callable[[], bool],
    ) -> dict[str, Any] | None:
        if matrices.is_sealed(context.blobs, manifest.id):
            # A crash came between sealing and recording; another run might differ in last bits.
            return _record(context, manifest)
        prepared, _ = _prepare(context, SolveTask.model_validate(job.task))
        outcome = run_solve(
            context.compute.client(),
            prepared.request,
            store_url=context.blobs.url,
            on_progress=lambda news: reporter.report(_progress(news, prepared)),
            should_stop=should_stop,
            worker_memory_bytes=context.compute.limit_bytes(),
        )
        reporter.flush()
        if outcome.outcome is Outcome.CANCELLED:
            return None
        if not outcome.outcome.usable:
            raise SolveFailedError(
                f"The solve ended as {outcome.outcome.value}.",
                advice=outcome.summary["advice"],
                outcome=outcome.outcome.value,
            )
        digests = {
            layout.name: matrices.write_array(
                context.blobs, manifest, layout.name, outcome.arrays[layout.name]
            )
            for layout in manifest.arrays
        }
        summary = json_safe(outcome.summary)
        matrices.seal(context.blobs, manifest, digests, {_ATTRIBUTE: summary})
        reporter.report({"phase": "done", "fraction": 1.0}, force=True)
        return _record(context, manifest)


def _record(context: JobContext, manifest: MatrixManifest) -> dict[str, Any]:
    """Note a sealed result in the catalog; its summary."""
    digest = matrices.sealed_digest(context.blobs, manifest.id)
    context.catalog.seal_matrix(manifest.id, digest, manifest.stored_bytes)
    summary: dict[str, Any] = matrices.attributes(context.blobs, manifest.id)[_ATTRIBUTE]
    return {"digest": digest, **summary}


def _prepare(context: JobContext, task: SolveTask) -> tuple[Prepared, dict[str, Any]]:
    """The checked request, and its canonical form: all defaults filled in, data sets by id."""
    gram = MatrixManifest.from_json(context.catalog.get_matrix(task.matrix).manifest)
    targets_id = task.targets or _rows_dataset(gram)
    targets = _targets(context, targets_id, task.encoding)
    if targets is None:
        raise InvalidSolveError(
            f"The data set {targets_id} has no targets.",
            advice="Upload it with y, or name another data set in `targets`.",
        )
    test_id, test_targets = None, None
    if task.cross is not None:
        cross = MatrixManifest.from_json(context.catalog.get_matrix(task.cross).manifest)
        test_id = task.test_targets or _rows_dataset(cross)
        test_targets = _targets(context, test_id, task.encoding)
        if test_targets is None and task.test_targets is not None:
            raise InvalidSolveError(
                f"The data set {test_id} has no targets.", advice="Leave test_targets out."
            )
    elif task.test_targets is not None:
        raise InvalidSolveError(
            "There are test targets but no cross-Gram to predict with.",
            advice="Name a cross-Gram in `cross`, or leave test_targets out.",
        )
    if task.inducing is not None and task.method != "nystrom":
        raise InvalidSolveError(
            f"Method {task.method!r} has no inducing points.",
            advice="Use method 'nystrom', or leave `inducing` out.",
        )
    # The solve of one system goes on from its checkpoint, also for a request that asks for more
    # digits or more passes; the checkpoint itself knows which system it belongs to.
    system = {
        "matrix": task.matrix,
        "array": task.array,
        "targets": targets_id,
        "encoding": task.encoding,
        "ridge": task.ridge,
        "ridge_relative": task.ridge_relative,
    }
    request = SolveRequest(
        matrix_id=task.matrix,
        array=task.array,
        targets=targets,
        ridge=task.ridge,
        ridge_relative=task.ridge_relative,
        method=task.method,
        tolerance=task.tolerance,
        inducing_points=task.inducing,
        seed=task.seed,
        cross_matrix_id=task.cross,
        test_targets=test_targets,
        max_applications=task.max_applications,
        time_limit_seconds=task.time_limit_seconds,
        checkpoint_id=request_digest(system),
        placement=task.placement,
    )
    canonical = {
        "format": FORMAT_VERSION,
        "task": "solve",
        **system,
        "method": task.method,
        "tolerance": request.effective_tolerance,
        "inducing": task.inducing,
        "seed": task.seed,
        "cross": task.cross,
        "test_targets": test_id,
        "max_applications": task.max_applications,
        "time_limit_seconds": task.time_limit_seconds,
    }
    return prepare(context.blobs, request), canonical


def _rows_dataset(manifest: MatrixManifest) -> str:
    """Id of the data set that the rows of a Gram matrix belong to. Raises InvalidSolveError."""
    if manifest.kind != "gram":
        raise InvalidSolveError(
            f"Matrix {manifest.id} is a {manifest.kind}, not a Gram matrix.",
            advice="Name a matrix that a gram job has made.",
        )
    return str(manifest.provenance["request"]["x1"])


def _targets(context: JobContext, dataset_id: str, encoding: str) -> NDArray[Any] | None:
    """Targets of a data set in the form that `encoding` asks for. Raises InvalidSolveError."""
    values = read_targets(context.blobs, dataset(context.catalog, dataset_id))
    if values is None:
        return None
    if encoding == "one_hot" and not is_labels(values):
        raise InvalidSolveError(
            f"The targets of {dataset_id} are not integer labels.",
            advice="Use encoding 'real', or upload labels as integers of shape (m,).",
        )
    return values.astype(np.float64) if encoding == "real" else values


def _manifest(prepared: Prepared, canonical: dict[str, Any]) -> MatrixManifest:
    rhs = prepared.rhs.shape[1]
    arrays = [_tall("dual", prepared.rows, rhs)]
    if prepared.cross is not None:
        arrays.append(_tall("predictions", prepared.cross.layout.shape[0], rhs))
    return MatrixManifest(
        id=matrix_id(request_digest(canonical)),
        kind="solution",
        arrays=tuple(arrays),
        block_rows=_BLOCK_ROWS,
        provenance={"request": canonical, "software": software_versions()},
    )


def _tall(name: str, rows: int, columns: int) -> ArrayLayout:
    """Layout of an (rows, columns) float64 array in chunks of whole rows."""
    wanted = max(1, _CHUNK_BYTES // (8 * columns * _BLOCK_ROWS))
    needed = math.ceil(rows / _BLOCK_ROWS)
    # The largest power of two that is allowed, but no larger than covers the array.
    blocks = min(1 << (wanted.bit_length() - 1), 1 << (needed - 1).bit_length())
    return ArrayLayout(name, (rows, columns), (blocks * _BLOCK_ROWS, columns), "float64")


def _progress(news: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
    """What watchers see of a solve; `fraction` follows the digits of the residual during CG."""
    done, total = news.get("done"), news.get("total")
    residual = news.get("residual")
    fraction = None
    if news["phase"] == "solve" and residual is not None and residual > 0:
        digits = -math.log10(prepared.request.effective_tolerance)
        fraction = min(max(-math.log10(residual) / digits, 0.0), 1.0)
    elif total:
        fraction = done / total if done is not None else None
    shown = {"phase": news["phase"], "fraction": fraction}
    if residual is not None:
        shown |= {
            "applications": done,
            "iteration": news.get("iteration"),
            "residual": residual,
            "certified": news.get("certified"),
            "tolerance": prepared.request.effective_tolerance,
        }
    elif total:
        shown |= {"tasks_done": done, "tasks_total": total}
    return shown
