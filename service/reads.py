"""What clients ask again and again while jobs run: the state of a job, and its newest events."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from fastapi.sse import format_sse_event

from service.batched import BatchedReads
from service.errors import json_safe
from storage.catalog import Catalog, JobRecord
from storage.catalog.job_rows import missing
from storage.catalog.records import EventRecord

TERMINAL_STATES = frozenset({"succeeded", "failed", "cancelled"})

_MAX_JOBS = 200  # of one read: some 10 ms
_MAX_TAILS = 20
_MAX_EVENTS = 200  # of one tail


@dataclass(frozen=True)
class Tail:
    """Events of a job after a certain one, in the text/event-stream format: all there were at the
    moment, or as many as fit (`more`). `last`: the number of the last one; `ended`: it is the last
    one that the job ever gets. Without events both are as they were."""

    frames: bytes
    last: int
    ended: bool
    more: bool


class JobReads:
    """Answers for any number of clients at once, each as fresh as a read of its own
    (`BatchedReads`). To be used from one event loop."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._jobs = BatchedReads(catalog.jobs_for, max_keys=_MAX_JOBS)
        self._tails = BatchedReads(self._read_tails, max_keys=_MAX_TAILS)

    async def job(self, job_id: str, visible_to: str | None) -> JobRecord:
        """As `Catalog.get_job`."""
        record = await self._jobs.get((job_id, visible_to))
        if record is None:
            raise missing(job_id)
        return record

    async def tail(self, job_id: str, after: int) -> Tail:
        """The events of a job with numbers above `after`. Read and encoded once for all who ask
        for the same, as all do who follow a job and wait for news."""
        tail = await self._tails.get((job_id, after))
        assert tail is not None  # there is one for every key
        return tail

    def _read_tails(self, asked: Sequence[tuple[str, int]]) -> Mapping[tuple[str, int], Tail]:
        return {
            (job_id, after): _tail(self._catalog.events_after(job_id, after, _MAX_EVENTS), after)
            for job_id, after in asked
        }


def _tail(records: list[EventRecord], after: int) -> Tail:
    return Tail(
        frames=b"".join(encode_event(record) for record in records),
        last=records[-1].sequence if records else after,
        ended=bool(records) and is_terminal(records[-1]),
        more=len(records) == _MAX_EVENTS,
    )


def encode_event(record: EventRecord) -> bytes:
    """One event in the text/event-stream format (WHATWG HTML section 9.2)."""
    return format_sse_event(
        data_str=json.dumps(json_safe(record.data), separators=(",", ":")),
        event=record.type,
        id=str(record.sequence),
    )


def is_terminal(record: EventRecord) -> bool:
    """Whether this is the last event a job ever gets."""
    return record.type == "state" and record.data.get("state") in TERMINAL_STATES
