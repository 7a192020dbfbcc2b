"""Matrices: what is being built, what is sealed, and what it was computed from."""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.catalog import grants
from storage.catalog.database import Database
from storage.catalog.inputs import referenced_ids
from storage.catalog.paging import now, page
from storage.catalog.records import MatrixRecord, MatrixState
from storage.catalog.tables import OPEN_STATES, Job, JobInput, Matrix, MatrixInput
from storage.errors import ConflictError, NotFoundError


class Matrices:
    _database: Database

    def add_matrix(self, id: str, kind: str, manifest: dict[str, Any]) -> MatrixRecord:  # noqa: A002
        """Register a matrix that is going to be built.

        Adding it again with the same manifest changes nothing (it may be sealed by now); with
        another manifest it raises ConflictError. The data set and matrix ids in the manifest are
        recorded as what the matrix is computed from.
        """
        row = {
            "id": id,
            "kind": kind,
            "manifest": manifest,
            "state": MatrixState.BUILDING.value,
            "created_at": now(),
        }
        inputs = [
            {"matrix_id": id, "input_id": input_id}
            for input_id in sorted(referenced_ids(manifest) - {id})
        ]
        with self._database.write() as session:
            session.execute(self._database.upsert(Matrix), [row])
            matrix = lock(session, id)
            if matrix.manifest != _as_stored(manifest) or matrix.kind != kind:
                raise ConflictError(
                    f"Matrix {id} exists with another manifest.",
                    advice="Delete it first if it is no longer needed.",
                )
            if inputs:
                session.execute(self._database.upsert(MatrixInput), inputs)
            return _record(matrix)

    def seal_matrix(self, id: str, digest: str, stored_bytes: int) -> MatrixRecord:  # noqa: A002
        """Record that every tile is there. Sealing again with the same digest changes nothing.

        Raises NotFoundError, or ConflictError if it is sealed with another digest.
        """
        with self._database.write() as session:
            sealed = session.scalar(
                sa.update(Matrix)
                .where(Matrix.id == id, Matrix.state == MatrixState.BUILDING.value)
                .values(
                    state=MatrixState.SEALED.value,
                    digest=digest,
                    stored_bytes=stored_bytes,
                    sealed_at=now(),
                )
                .returning(Matrix.id)
                .execution_options(synchronize_session=False)
            )
            matrix = session.get(Matrix, id)
            if matrix is None:
                raise missing(id)
            if sealed is None and matrix.digest != digest:
                raise ConflictError(
                    f"Matrix {id} is sealed with another digest.",
                    advice="Nothing sealed ever changes; a rebuild must give the same digest.",
                    digest=matrix.digest,
                )
            return _record(matrix)

    def get_matrix(self, matrix_id: str, *, visible_to: str | None = None) -> MatrixRecord:
        """Raises NotFoundError, also if `visible_to` (None: everything is) may not read it."""
        with self._database.read() as session:
            found = session.get(Matrix, matrix_id)
            if found is None or not grants.may_read(session, matrix_id, visible_to):
                raise missing(matrix_id)
            return _record(found)

    def matrix_inputs(self, matrix_id: str) -> set[str]:
        """Ids of the data sets and matrices that a matrix was computed from."""
        query = sa.select(MatrixInput.input_id).where(MatrixInput.matrix_id == matrix_id)
        with self._database.read() as session:
            return set(session.scalars(query))

    def list_matrices(
        self,
        limit: int = 100,
        cursor: str | None = None,
        *,
        state: MatrixState | None = None,
        visible_to: str | None = None,
    ) -> tuple[list[MatrixRecord], str | None]:
        """One page, newest first, and the cursor of the next page (None after the last).

        `visible_to`: only what this name may read.
        """
        query = grants.visible(sa.select(Matrix), Matrix.id, visible_to)
        if state is not None:
            query = query.where(Matrix.state == MatrixState(state).value)
        with self._database.read() as session:
            rows, following = page(session, Matrix, query, limit, cursor)
            return [_record(row) for row in rows], following

    def delete_matrix(self, matrix_id: str) -> None:
        """Forget a matrix and its tiles. Raises NotFoundError, or ConflictError while an open job
        builds it or reads it."""
        with self._database.write() as session:
            matrix = lock(session, matrix_id)
            reads = sa.select(JobInput.job_id).where(JobInput.input_id == matrix_id)
            jobs = session.scalars(
                sa.select(Job.id)
                .where(
                    Job.state.in_(OPEN_STATES),
                    sa.or_(Job.matrix_id == matrix_id, Job.id.in_(reads)),
                )
                .order_by(Job.id)
                .limit(10)
            ).all()
            if jobs:
                raise ConflictError(
                    f"Matrix {matrix_id} is used by unfinished jobs ({', '.join(jobs)}).",
                    advice="Wait until they end, or cancel them.",
                    jobs=list(jobs),
                )
            session.delete(matrix)  # tiles and inputs go with it (ON DELETE CASCADE)
            grants.forget(session, matrix_id)


def lock(session: Session, matrix_id: str, *, shared: bool = False) -> Matrix:
    """The row of a matrix, locked until the transaction ends. Raises NotFoundError.

    `shared`: others may hold it too, but nobody can seal or delete the matrix meanwhile.
    """
    found = session.scalar(
        sa.select(Matrix).where(Matrix.id == matrix_id).with_for_update(read=shared)
    )
    if found is None:
        raise missing(matrix_id)
    return found


def missing(matrix_id: str) -> NotFoundError:
    return NotFoundError(
        f"There is no matrix {matrix_id}.", advice="GET /v1/matrices lists those there are."
    )


def _as_stored(manifest: dict[str, Any]) -> Any:
    """The manifest as JSON gives it back: tuples become lists."""
    return json.loads(json.dumps(manifest))


def _record(row: Matrix) -> MatrixRecord:
    return MatrixRecord(
        id=row.id,
        kind=row.kind,
        manifest=row.manifest,
        state=MatrixState(row.state),
        digest=row.digest,
        stored_bytes=row.stored_bytes,
        created_at=row.created_at,
        sealed_at=row.sealed_at,
    )
