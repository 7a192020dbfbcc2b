"""The reconciler: compares what is so with what is wanted, and takes one step.

It reads open jobs from the catalog at start and whenever somebody wakes it, so a job that an
earlier process left running is treated like any other: it is taken up again and goes on from the
tiles and checkpoints that are stored. Each running job has one thread, which calls synchronous
code in `workers`.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from service.errors import json_safe
from service.events import EventBus
from service.jobs.context import JobContext
from service.jobs.plans import JobKind
from service.jobs.progress import Reporter
from service.jobs.tile_runs import stored_manifest
from storage import matrices
from storage.catalog import (
    CatalogUnavailableError,
    JobEvent,
    JobRecord,
    JobState,
    Target,
    wanted_event,
)
from storage.errors import ConflictError, DiskFullError, GramianError
from storage.format import MatrixManifest
from workers.errors import ClusterUnavailableError
from workers.logs import about_job

logger = logging.getLogger(__name__)


@dataclass
class _Active:
    """A job that a thread of this process works on."""

    thread: threading.Thread
    owner: str | None
    stop: threading.Event = field(default_factory=threading.Event)


class Runner:
    """Runs at most `settings.max_running_jobs` jobs of one owner at a time, oldest first, and of
    all owners `max_concurrent_jobs`, those who have fewest running first. Thread-safe."""

    def __init__(self, context: JobContext, bus: EventBus, kinds: Mapping[str, JobKind]) -> None:
        self._context = context
        self._bus = bus
        self._kinds = kinds
        self._changed = threading.Condition()
        self._dirty = True
        self._closing = False
        self._active: dict[str, _Active] = {}
        self._held: dict[str, float] = {}  # jobs that lost the cluster: not before this time
        self._thread = threading.Thread(target=self._reconcile_forever, name="gramian-runner")

    @property
    def kinds(self) -> Mapping[str, JobKind]:
        return self._kinds

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """Something changed: a job was created or cancelled, a job ended, the cluster is up."""
        with self._changed:
            self._dirty = True
            self._changed.notify_all()

    def alive(self) -> bool:
        return self._thread.is_alive()

    def close(self) -> None:
        """Ask running jobs to stop and wait for them. They stay `running` in the catalog: the
        next process takes them up."""
        with self._changed:
            self._closing = True
            active = list(self._active.values())
            self._changed.notify_all()
        for job in active:
            job.stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        deadline = time.monotonic() + self._context.settings.shutdown_seconds
        for job in active:
            job.thread.join(max(0.0, deadline - time.monotonic()))

    def _reconcile_forever(self) -> None:
        while True:
            with self._changed:
                if not self._dirty and not self._closing:
                    settings = self._context.settings
                    pause = settings.cluster_retry_seconds if self._held else math.inf
                    self._changed.wait(min(settings.reconcile_seconds, pause))
                if self._closing:
                    return
                self._dirty = False
            try:
                jobs = self._context.catalog.open_jobs()
                # Stable: among owners with equally many, the oldest job.
                for job in sorted(jobs, key=lambda job: self._running_of(job.owner)):
                    self._step(job)
            except Exception:
                # The catalog may be away for a moment (PostgreSQL restarting). This thread must
                # outlive that; the next round tries again.
                logger.exception("A round of the reconciler failed.")

    def _step(self, job: JobRecord) -> None:
        """Bring one open job one step nearer to its target."""
        active = self._active.get(job.id)
        if active is not None:
            if job.target is Target.CANCEL:
                active.stop.set()
            return
        event = wanted_event(job.state, job.target)
        if event is JobEvent.CANCELLED:
            # No thread of this process works on it, and there is no other process (lock).
            self._end(job, JobEvent.CANCELLED)
        elif event is not None and self._may_start(job):
            self._held.pop(job.id, None)
            self._take_up(job, event)

    def _may_start(self, job: JobRecord) -> bool:
        settings = self._context.settings
        if (
            self._running_of(job.owner) >= settings.max_running_jobs
            or len(self._active) >= settings.max_concurrent_jobs
        ):
            return False
        compute = self._context.compute
        if job.id in self._held:
            return time.monotonic() >= self._held[job.id] and compute.workers() > 0
        try:
            compute.client()
        except ClusterUnavailableError:
            return False  # `wake` comes with the connection
        return True

    def _running_of(self, owner: str | None) -> int:
        with self._changed:
            return sum(active.owner == owner for active in self._active.values())

    def _take_up(self, job: JobRecord, event: JobEvent) -> None:
        taken = self._context.catalog.apply(
            job.id,
            event,
            expected_attempts=job.attempts,
            announce=("state", {"state": "running", "attempt": job.attempts + 1}),
        )
        self._bus.publish(job.id)
        with about_job(job.id):
            logger.info("Attempt %d begins.", taken.attempts)
        thread = threading.Thread(target=self._work, args=(taken,), name=f"gramian-{job.id[:12]}")
        with self._changed:
            if self._closing:
                return
            self._active[job.id] = _Active(thread, job.owner)
        thread.start()

    def _work(self, job: JobRecord) -> None:
        """Body of a job's thread: everything that happens ends in the catalog."""
        with about_job(job.id):
            try:
                self._work_on(job)
            except CatalogUnavailableError as error:
                # What was to be recorded is lost, and found again from what is stored.
                self._hold(job, error)
            finally:
                with self._changed:
                    del self._active[job.id]
                    self._dirty = True
                    self._changed.notify_all()

    def _hold(self, job: JobRecord, error: GramianError) -> None:
        """Not the job's fault: it stays `running` and is taken up again after a while."""
        logger.warning("Job %s waits: %s", job.id, error.message)
        self._held[job.id] = time.monotonic() + self._context.settings.cluster_retry_seconds

    def _work_on(self, job: JobRecord) -> None:
        stop = self._active[job.id].stop
        reporter = Reporter(
            self._context.catalog,
            self._bus,
            job.id,
            throttle_seconds=self._context.settings.event_throttle_seconds,
            max_events=self._context.settings.max_events_per_job,
        )
        try:
            kind = self._kind_of(job)
            manifest = self._begin_matrix(job, kind)
            with self._context.shares.running(job.owner):
                summary = kind.run(self._context, job, manifest, reporter, stop.is_set)
            if summary is not None:
                self._end(
                    job, JobEvent.FINISH, result={"matrix": job.matrix_id, "summary": summary}
                )
            elif not self._closing:
                self._end(job, JobEvent.CANCELLED)
        except ClusterUnavailableError as error:
            self._hold(job, error)
        except CatalogUnavailableError:
            raise
        except GramianError as error:
            self._fail(job, error.kind, error.message, error.advice, error.details)
        except Exception as error:
            if isinstance(error, OSError) and (full := DiskFullError.of(error)):
                self._fail(job, full.kind, full.message, full.advice)
                return
            # The boundary of the thread: whatever it is, the job must not look alive for ever.
            logger.exception("Job %s failed unexpectedly.", job.id)
            self._fail(
                job,
                "internal",
                f"Unexpected {type(error).__name__}; the server log has the reason.",
                "Report this; submitting the same request again resumes from what is stored.",
            )

    def _kind_of(self, job: JobRecord) -> JobKind:
        try:
            return self._kinds[job.task["type"]]
        except KeyError:
            raise ConflictError(
                f"This version of the service has no task type {job.task['type']!r}.",
                advice="GET /openapi.json lists the task types; submit the request anew.",
            ) from None

    def _begin_matrix(self, job: JobRecord, kind: JobKind) -> MatrixManifest | None:
        """The manifest of the job's matrix, created in store and catalog if it is not there."""
        if job.matrix_id is None:
            return None
        with self._context.names:
            manifest = stored_manifest(self._context, job.matrix_id)
            if manifest is None:
                manifest = kind.plan(self._context, job.task).manifest
            if manifest is None or manifest.id != job.matrix_id:
                raise ConflictError(
                    f"Job {job.id} was planned for matrix {job.matrix_id}, but would now build"
                    f" {manifest and manifest.id}.",
                    advice="A setting that determines values, such as compute_block_rows, has"
                    " changed since; submit the request again.",
                )
            # Plain JSON: the catalog compares it with what it read back.
            document = json.loads(json.dumps(manifest.to_json()))
            self._context.catalog.add_matrix(manifest.id, manifest.kind, document)
            matrices.create(self._context.blobs, manifest)
            return manifest

    def _sweep(self, job: JobRecord) -> None:
        """Remove what killed workers left half written of the matrix: nobody goes on with it."""
        if job.matrix_id is None:
            return
        try:
            self._context.blobs.sweep_temporary(0, f"{matrices.FOLDER}/{job.matrix_id}")
        except OSError as error:
            # A disk that is read-only by now: what is left is taken at the next start.
            logger.warning("Temporary files of %s stay: %s", job.matrix_id, error)

    def _fail(
        self,
        job: JobRecord,
        kind: str,
        message: str,
        advice: str,
        details: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        if self._closing:
            # What breaks while the cluster is being taken away says nothing about the job; the
            # next process takes it up.
            logger.info("Job %s was interrupted by the shutdown: %s", job.id, message)
            return
        error = {**details, "kind": kind, "message": message, "advice": advice}
        self._end(job, JobEvent.FAIL, error=json_safe(error))

    def _end(
        self,
        job: JobRecord,
        event: JobEvent,
        *,
        result: dict[str, Any] | None = None,
        error: dict[str, Any] | None = None,
    ) -> None:
        state = {
            JobEvent.FINISH: JobState.SUCCEEDED,
            JobEvent.FAIL: JobState.FAILED,
            JobEvent.CANCELLED: JobState.CANCELLED,
        }[event]
        self._sweep(job)
        news = {"state": str(state), **({"error": error} if error else {})}
        self._context.catalog.apply(
            job.id, event, result=result, error=error, announce=("state", news)
        )
        self._context.metrics.jobs_ended.labels(str(job.task.get("type")), str(state)).inc()
        with about_job(job.id):
            logger.info("The job is %s.", state)
        self._bus.publish(job.id)
