"""The matrix that a job builds: made in store and catalog before it runs, swept when it ends."""

from __future__ import annotations

import json
import logging

from service.jobs.context import JobContext
from service.jobs.plans import JobKind
from service.jobs.tile_runs import stored_manifest
from storage import matrices
from storage.catalog import JobRecord
from storage.errors import ConflictError
from storage.format import MatrixManifest

logger = logging.getLogger(__name__)


def begin_matrix(context: JobContext, job: JobRecord, kind: JobKind) -> MatrixManifest | None:
    """The manifest of the job's matrix, created in store and catalog if it is not there."""
    if job.matrix_id is None:
        return None
    with context.names:
        manifest = stored_manifest(context, job.matrix_id)
        if manifest is None:
            manifest = kind.plan(context, job.task).manifest
        if manifest is None or manifest.id != job.matrix_id:
            raise ConflictError(
                f"Job {job.id} was planned for matrix {job.matrix_id}, but would now build"
                f" {manifest and manifest.id}.",
                advice="A setting that determines values, such as compute_block_rows, has"
                " changed since; submit the request again.",
            )
        # Plain JSON: the catalog compares it with what it read back.
        document = json.loads(json.dumps(manifest.to_json()))
        context.catalog.add_matrix(manifest.id, manifest.kind, document)
        matrices.create(context.blobs, manifest)
        return manifest


def sweep(context: JobContext, job: JobRecord) -> None:
    """Remove what killed workers left half written of the matrix: nobody goes on with it."""
    if job.matrix_id is None:
        return
    try:
        context.blobs.sweep_temporary(0, f"{matrices.FOLDER}/{job.matrix_id}")
    except OSError as error:
        # A disk that is read-only by now: what is left is taken at the next start.
        logger.warning("Temporary files of %s stay: %s", job.matrix_id, error)
