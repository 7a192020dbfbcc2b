"""Data sets: which ones exist, and what they look like."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from storage.catalog import grants
from storage.catalog.database import Database
from storage.catalog.paging import now, page
from storage.catalog.records import DatasetRecord
from storage.catalog.tables import OPEN_STATES, Dataset, Job, JobInput, MatrixInput
from storage.errors import ConflictError, NotFoundError


class Datasets:
    _database: Database

    def add_dataset(
        self, info: dict[str, Any], name: str | None = None, *, owner: str | None = None
    ) -> DatasetRecord:
        """Register a stored data set; `info` is DatasetInfo.to_json() and holds its `id`.

        Content-addressed, so adding it again changes nothing but who owns it (`owner` too): the
        first name stays.
        """
        row = {"id": info["id"], "name": name, "info": info, "created_at": now()}
        with self._database.write() as session:
            session.execute(self._database.upsert(Dataset), [row])
            if owner is not None:
                grants.own(self._database, session, [info["id"]], owner)
            return _record(session.get_one(Dataset, info["id"]))

    def get_dataset(self, dataset_id: str, *, visible_to: str | None = None) -> DatasetRecord:
        """Raises NotFoundError, also if `visible_to` (None: everything is) may not read it."""
        with self._database.read() as session:
            found = session.get(Dataset, dataset_id)
            if found is None or not grants.may_read(session, dataset_id, visible_to):
                raise _missing(dataset_id)
            return _record(found)

    def list_datasets(
        self,
        limit: int = 100,
        cursor: str | None = None,
        *,
        visible_to: str | None = None,
    ) -> tuple[list[DatasetRecord], str | None]:
        """One page, newest first, and the cursor of the next page (None after the last).

        `visible_to`: only what this name may read.
        """
        query = grants.visible(sa.select(Dataset), Dataset.id, visible_to)
        with self._database.read() as session:
            rows, following = page(session, Dataset, query, limit, cursor)
            return [_record(row) for row in rows], following

    def delete_dataset(self, dataset_id: str) -> None:
        """Forget a data set. Raises NotFoundError, or ConflictError while an open job reads it or
        a matrix that was computed from it exists (it would have no provenance left)."""
        with self._database.write() as session:
            # The lock makes a job that is being created now wait, and then not find its input.
            found = session.scalar(
                sa.select(Dataset).where(Dataset.id == dataset_id).with_for_update()
            )
            if found is None:
                raise _missing(dataset_id)
            jobs = session.scalars(
                sa.select(Job.id)
                .join(JobInput, JobInput.job_id == Job.id)
                .where(JobInput.input_id == dataset_id, Job.state.in_(OPEN_STATES))
                .order_by(Job.id)
                .limit(10)
            ).all()
            if jobs:
                raise ConflictError(
                    f"Data set {dataset_id} is used by unfinished jobs ({', '.join(jobs)}).",
                    advice="Wait until they end, or cancel them.",
                    jobs=list(jobs),
                )
            matrices = session.scalars(
                sa.select(MatrixInput.matrix_id)
                .where(MatrixInput.input_id == dataset_id)
                .order_by(MatrixInput.matrix_id)
                .limit(10)
            ).all()
            if matrices:
                raise ConflictError(
                    f"Data set {dataset_id} is what matrices were computed from"
                    f" ({', '.join(matrices)}).",
                    advice="Delete these matrices first.",
                    matrices=list(matrices),
                )
            session.delete(found)
            grants.forget(session, dataset_id)


def _missing(dataset_id: str) -> NotFoundError:
    return NotFoundError(
        f"There is no data set {dataset_id}.", advice="GET /v1/datasets lists those there are."
    )


def _record(row: Dataset) -> DatasetRecord:
    return DatasetRecord(id=row.id, name=row.name, info=row.info, created_at=row.created_at)
