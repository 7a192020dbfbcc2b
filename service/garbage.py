"""What may be thrown away: leftovers of broken work, and things past their retention.

Looks first and deletes afterwards, each thing under the lock that publishing takes
(`JobContext.names`) and by the catalog's own rules: what an open job or a matrix needs stays.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from service.jobs.context import JobContext
from storage import datasets, matrices
from storage.catalog import DatasetRecord, LeaseLostError, MatrixRecord
from storage.documents import GROUP_DOCUMENT
from storage.errors import ConflictError, NotFoundError
from workers.stops import STOPS_FOLDER, forget_runs

_PAGE_ITEMS = 500


@dataclass(frozen=True)
class Retention:
    """What is kept how long, in days. None: for ever.

    `leftover_days` is also the age that a thing without a record must have: younger ones may be
    about to get theirs.
    """

    leftover_days: float = 7.0
    matrix_days: float | None = None
    dataset_days: float | None = None
    event_days: float | None = 90.0
    audit_days: float | None = None


@dataclass(frozen=True)
class Item:
    """One thing that may go, why, and its bytes."""

    kind: str  # matrix, dataset, checkpoint, flag
    name: str
    reason: str
    stored_bytes: int
    recorded: bool = True  # whether it has a row in the catalog


def find(context: JobContext, retention: Retention) -> list[Item]:
    """What `collect` would delete now; nothing is changed.

    - matrices in the store without a record, and matrices that were begun and that no open job
      builds, older than `leftover_days`;
    - data sets in the store without a record, likewise;
    - checkpoints of solves whose job has ended, and stop flags of jobs that ended without result;
    - sealed matrices and unused data sets that are older than their retention.
    """
    moment = datetime.now(UTC)
    return [
        *_orphans(context, retention),
        *_leftovers_of_jobs(context, retention),
        *_expired_matrices(context, retention, moment),
        *_expired_datasets(context, retention, moment),
    ]


def collect(context: JobContext, items: list[Item]) -> tuple[list[Item], list[Item]]:
    """Delete `items`; those that are gone, and those that somebody needs by now."""
    gone, kept = [], []
    for item in items:
        try:
            with context.names:
                _DELETE[item.kind](context, item)
        except LeaseLostError:
            raise  # somebody else is at it by now
        except ConflictError:
            kept.append(item)
        else:
            gone.append(item)
    return gone, kept


def prune_records(context: JobContext, retention: Retention) -> dict[str, int]:
    """Delete old events of ended jobs and old audit entries; their numbers."""
    moment = datetime.now(UTC)
    counts = {"events": 0, "audit_entries": 0}
    if retention.event_days is not None:
        counts["events"] = context.catalog.prune_events(
            moment - timedelta(days=retention.event_days)
        )
    if retention.audit_days is not None:
        counts["audit_entries"] = context.catalog.prune_audit(
            moment - timedelta(days=retention.audit_days)
        )
    return counts


def _orphans(context: JobContext, retention: Retention) -> Iterator[Item]:
    looks: tuple[tuple[str, str, Callable[[str], Any]], ...] = (
        ("matrix", matrices.FOLDER, context.catalog.get_matrix),
        ("dataset", datasets.FOLDER, context.catalog.get_dataset),
    )
    for kind, folder, look in looks:
        for name in sorted(context.blobs.folders(folder)):
            if not _is_known(look, name) and _is_older(context, f"{folder}/{name}", retention):
                size = _size(context, f"{folder}/{name}")
                yield Item(kind, name, "no record in the catalog", size, recorded=False)


def _leftovers_of_jobs(context: JobContext, retention: Retention) -> Iterator[Item]:
    jobs = context.catalog.open_jobs()
    looks = (
        ("checkpoint", "solves", {job.matrix_id for job in jobs}, "no open job goes on from it"),
        ("flag", STOPS_FOLDER, {job.id for job in jobs}, "its job has ended"),
    )
    for kind, place, needed, reason in looks:
        for name in sorted(context.blobs.folders(place)):
            folder = f"{place}/{name}"
            if name not in needed and _is_older(context, folder, retention):
                yield Item(kind, name, reason, _size(context, folder))


def _expired_matrices(
    context: JobContext, retention: Retention, moment: datetime
) -> Iterator[Item]:
    busy = {name for job in context.catalog.open_jobs() for name in (job.matrix_id, *job.inputs)}
    for record in _all_matrices(context):
        if record.id in busy:
            continue
        if not record.sealed:
            if _before(record.created_at, moment, retention.leftover_days):
                size = context.catalog.tile_summary(record.id).stored_bytes
                yield Item("matrix", record.id, "begun, and no open job builds it", size)
        elif _before(record.sealed_at, moment, retention.matrix_days):
            yield Item("matrix", record.id, "past its retention", record.stored_bytes or 0)


def _expired_datasets(
    context: JobContext, retention: Retention, moment: datetime
) -> Iterator[Item]:
    if retention.dataset_days is None:
        return
    used = {name for job in context.catalog.open_jobs() for name in job.inputs}
    for matrix in _all_matrices(context):
        used |= context.catalog.matrix_inputs(matrix.id)
    for record in _all_datasets(context):
        if record.id not in used and _before(record.created_at, moment, retention.dataset_days):
            size = int(record.info["stored_bytes"])
            yield Item("dataset", record.id, "unused and past its retention", size)


def _delete_matrix(context: JobContext, item: Item) -> None:
    _forget(item, context.catalog.get_matrix, context.catalog.delete_matrix)
    _delete_folder(context, matrices.FOLDER, item.name, first=GROUP_DOCUMENT)


def _delete_dataset(context: JobContext, item: Item) -> None:
    _forget(item, context.catalog.get_dataset, context.catalog.delete_dataset)
    _delete_folder(context, datasets.FOLDER, item.name, first=datasets.DOCUMENT)


def _delete_folder(context: JobContext, folder: str, name: str, *, first: str) -> None:
    """Not through `matrices` and `datasets`: a folder without a record may have any name. What
    publishes a thing goes first, as there, so that nobody reads the rest of it half-deleted."""
    context.blobs.delete(f"{folder}/{name}/{first}")
    context.blobs.delete_prefix(f"{folder}/{name}")


def _forget(item: Item, look: Callable[[str], Any], delete: Callable[[str], None]) -> None:
    """Delete the row of a thing. Raises ConflictError if somebody needs it by now."""
    if item.recorded:
        with suppress(NotFoundError):  # deleted meanwhile; its files may still be there
            delete(item.name)
    elif _is_known(look, item.name):
        raise ConflictError(f"{item.name} has a record by now.")


def _delete_checkpoint(context: JobContext, item: Item) -> None:
    if item.name in {job.matrix_id for job in context.catalog.open_jobs()}:
        raise ConflictError(f"The checkpoint {item.name} is in use.")
    context.blobs.delete_prefix(f"solves/{item.name}")


def _delete_flag(context: JobContext, item: Item) -> None:
    forget_runs(context.blobs, item.name)  # a job that has ended stays so


_DELETE: dict[str, Callable[[JobContext, Item], None]] = {
    "matrix": _delete_matrix,
    "dataset": _delete_dataset,
    "checkpoint": _delete_checkpoint,
    "flag": _delete_flag,
}


def _is_known(look: Callable[[str], Any], name: str) -> bool:
    try:
        look(name)
    except NotFoundError:
        return False
    return True


def _is_older(context: JobContext, folder: str, retention: Retention) -> bool:
    """Whether nothing in `folder` was written for `leftover_days`."""
    return context.blobs.newest(folder) < time.time() - retention.leftover_days * 86_400


def _size(context: JobContext, folder: str) -> int:
    return sum(size for _, size in context.blobs.scan(folder))


def _before(then: datetime | None, moment: datetime, days: float | None) -> bool:
    return days is not None and then is not None and then < moment - timedelta(days=days)


def _all_matrices(context: JobContext) -> Iterator[MatrixRecord]:
    cursor: str | None = None
    while True:
        found, cursor = context.catalog.list_matrices(_PAGE_ITEMS, cursor)
        yield from found
        if cursor is None:
            return


def _all_datasets(context: JobContext) -> Iterator[DatasetRecord]:
    cursor: str | None = None
    while True:
        found, cursor = context.catalog.list_datasets(_PAGE_ITEMS, cursor)
        yield from found
        if cursor is None:
            return
