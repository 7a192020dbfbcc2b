"""The reconciler: compares what is so with what is wanted, and takes one step.

It reads open jobs from the catalog at start and whenever somebody wakes it, so a job that an
earlier process left running is treated like any other: it is taken up again and goes on from the
tiles and checkpoints that are stored. Each running job has one thread, which calls synchronous
code in `workers`.

Several services may share the catalog: a job is worked on by whoever holds its lease, and all that
its thread writes to the catalog is fenced with it. A service that finds its lease in other hands
(it was paused, or cut off) drops the job without a word.
"""

from __future__ import annotations

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
from service.jobs.building import begin_matrix, sweep
from service.jobs.context import JobContext
from service.jobs.leases import LeaseKeeper
from service.jobs.plans import JobKind
from service.jobs.progress import Reporter
from storage.catalog import (
    CatalogUnavailableError,
    JobEvent,
    JobRecord,
    JobState,
    LeaseLostError,
    LeaseRecord,
    RunningLimits,
    Target,
    wanted_event,
)
from storage.errors import ConflictError, DiskFullError, GramianError, StoreUnavailableError
from workers.errors import ClusterUnavailableError
from workers.logs import about_job
from workers.stops import forget_runs, stop_earlier_run

logger = logging.getLogger(__name__)


@dataclass
class _Active:
    """A job that a thread of this process works on."""

    thread: threading.Thread
    owner: str | None
    context: JobContext  # fenced with the lease of the job
    stop: threading.Event = field(default_factory=threading.Event)
    lost: bool = False  # the lease: the job is not ours to end

    def lose(self) -> None:
        self.lost = True
        self.stop.set()


class Runner:
    """Runs at most `settings.max_running_jobs` jobs of one owner at a time, oldest first, and of
    all owners `max_concurrent_jobs`, those who have fewest running first, counted over all
    services that share the catalog. Thread-safe."""

    def __init__(
        self,
        context: JobContext,
        bus: EventBus,
        kinds: Mapping[str, JobKind],
        leases: LeaseKeeper,
    ) -> None:
        self._context = context
        self._bus = bus
        self._kinds = kinds
        self._leases = leases
        self._holder = leases.holder
        settings = context.settings
        self._limits = RunningLimits(settings.max_running_jobs, settings.max_concurrent_jobs)
        self._pace_seconds = settings.reconcile_seconds
        if context.catalog.shared:
            self._pace_seconds = min(self._pace_seconds, settings.catalog_poll_seconds)
        self._changed = threading.Condition()
        self._dirty = True
        self._closing = False
        self._active: dict[str, _Active] = {}
        self._held: dict[str, float] = {}  # jobs that lost the cluster: not before this time
        self._elsewhere: dict[str, str | None] = {}  # jobs of other services, and their owners
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
                    retry = self._context.settings.cluster_retry_seconds
                    pause = retry if self._held else math.inf
                    self._changed.wait(min(self._pace_seconds, pause))
                if self._closing:
                    return
                self._dirty = False
            try:
                jobs = self._context.catalog.open_jobs()
                self._survey(jobs)
                # Stable: among owners with equally many, the oldest job.
                for job in sorted(jobs, key=lambda job: self._running_of(job.owner)):
                    self._step_or_leave(job)
            except Exception:
                # The catalog may be away for a moment (PostgreSQL restarting). This thread must
                # outlive that; the next round tries again.
                logger.exception("A round of the reconciler failed.")

    def _survey(self, jobs: list[JobRecord]) -> None:
        """Note what other services have, so that not every job has to be asked for."""
        live = self._context.catalog.live_leases() if jobs else {}
        self._elsewhere = {
            job.id: job.owner for job in jobs if live.get(job.id, self._holder) != self._holder
        }
        for gone in set(self._held) - {job.id for job in jobs}:
            self._held.pop(gone, None)

    def _step_or_leave(self, job: JobRecord) -> None:
        if job.id in self._elsewhere:
            return
        try:
            self._step(job)
        except ConflictError as error:
            # Somebody else was faster; the next round sees what became of it.
            logger.info("Job %s: %s", job.id, error.message)

    def _step(self, job: JobRecord) -> None:
        """Bring one open job one step nearer to its target."""
        active = self._active.get(job.id)
        if active is not None:
            if job.target is Target.CANCEL:
                active.stop.set()
            return
        event = wanted_event(job.state, job.target)
        if event is JobEvent.CANCELLED:
            self._cancel_idle(job)
        elif event is not None and self._may_start(job):
            self._held.pop(job.id, None)
            self._take_up(job, event)

    def _may_start(self, job: JobRecord) -> bool:
        settings = self._context.settings
        if (
            self._running_of(job.owner) >= settings.max_running_jobs
            or len(self._active) + len(self._elsewhere) >= settings.max_concurrent_jobs
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
            here = sum(active.owner == owner for active in self._active.values())
        return here + sum(other == owner for other in self._elsewhere.values())

    def _take_up(self, job: JobRecord, event: JobEvent) -> None:
        claimed = self._context.catalog.claim_job(
            job,
            event,
            holder=self._holder,
            lease_seconds=self._leases.lease_seconds,
            limits=self._limits,
            announce=("state", {"state": "running", "attempt": job.attempts + 1}),
        )
        if claimed is None:
            return
        taken, lease = claimed
        self._bus.publish(job.id)
        with about_job(job.id):
            logger.info("Attempt %d begins.", taken.attempts)
        thread = threading.Thread(
            target=self._work, args=(taken, lease), name=f"gramian-{job.id[:12]}"
        )
        active = _Active(thread, job.owner, self._context.fenced(lease))
        with self._changed:
            if self._closing:
                self._leases.drop(lease)
                return
            self._active[job.id] = active
        self._leases.keep(lease, active.lose)
        thread.start()

    def _work(self, job: JobRecord, lease: LeaseRecord) -> None:
        """Body of a job's thread: everything that happens ends in the catalog, unless the job is
        in other hands by now."""
        active = self._active[job.id]
        with about_job(job.id):
            try:
                with active.context.tracing.span(*_span(job)):
                    finished = self._work_on(job, active)
                if finished:
                    forget_runs(active.context.blobs, job.id)
            except LeaseLostError:
                logger.warning("Another service has taken the job over; this one leaves it.")
            except CatalogUnavailableError as error:
                # What was to be recorded is lost, and found again from what is stored.
                self._hold(job, error)
            except OSError as error:  # garbage collection takes them
                logger.warning("The stop flags of the job stay: %s", error)
            finally:
                self._leases.drop(lease)
                with self._changed:
                    del self._active[job.id]
                    self._dirty = True
                    self._changed.notify_all()

    def _hold(self, job: JobRecord, error: GramianError) -> None:
        """Not the job's fault: it stays `running` and is taken up again after a while."""
        logger.warning("Job %s waits: %s", job.id, error.message)
        self._held[job.id] = time.monotonic() + self._context.settings.cluster_retry_seconds

    def _work_on(self, job: JobRecord, active: _Active) -> bool:
        """Whether the job has a result now."""
        context = active.context
        reporter = Reporter(
            context.catalog,
            self._bus,
            job.id,
            throttle_seconds=self._context.settings.event_throttle_seconds,
            max_events=self._context.settings.max_events_per_job,
        )
        try:
            kind = self._kind_of(job)
            stop_earlier_run(context.blobs, job.id, job.attempts)
            manifest = begin_matrix(context, job, kind)
            with context.shares.running(job.owner), context.tracing.phases() as on_phase:
                reporter.on_phase = on_phase
                summary = kind.run(context, job, manifest, reporter, active.stop.is_set)
            if summary is not None:
                result = {"matrix": job.matrix_id, "summary": summary}
                self._end(job, active, JobEvent.FINISH, result=result)
                return True
            if not (self._closing or active.lost):
                self._end(job, active, JobEvent.CANCELLED)
        except (ClusterUnavailableError, StoreUnavailableError) as error:
            self._hold(job, error)
        except (CatalogUnavailableError, LeaseLostError):
            raise
        except GramianError as error:
            self._fail(job, active, error.kind, error.message, error.advice, error.details)
        except Exception as error:
            if isinstance(error, OSError) and (full := DiskFullError.of(error)):
                self._fail(job, active, full.kind, full.message, full.advice)
                return False
            # The boundary of the thread: whatever it is, the job must not look alive for ever.
            logger.exception("Job %s failed unexpectedly.", job.id)
            self._fail(
                job,
                active,
                "internal",
                f"Unexpected {type(error).__name__}; the server log has the reason.",
                "Report this; submitting the same request again resumes from what is stored.",
            )
        return False

    def _kind_of(self, job: JobRecord) -> JobKind:
        try:
            return self._kinds[job.task["type"]]
        except KeyError:
            raise ConflictError(
                f"This version of the service has no task type {job.task['type']!r}.",
                advice="GET /openapi.json lists the task types; submit the request anew.",
            ) from None

    def _fail(
        self,
        job: JobRecord,
        active: _Active,
        kind: str,
        message: str,
        advice: str,
        details: Mapping[str, Any] = MappingProxyType({}),
    ) -> None:
        if self._closing or active.lost:
            # What breaks while the cluster is being taken away says nothing about the job; the
            # next process takes it up. Nor does what breaks after somebody else took it.
            logger.info("Job %s was interrupted: %s", job.id, message)
            return
        error = {**details, "kind": kind, "message": message, "advice": advice}
        self._end(job, active, JobEvent.FAIL, error=json_safe(error))

    def _cancel_idle(self, job: JobRecord) -> None:
        """End a job that no thread of this process works on, if nobody else does."""
        ended = self._context.catalog.cancel_unclaimed(
            job.id, holder=self._holder, announce=_ended(JobState.CANCELLED)
        )
        if ended is not None:
            self._tell(job, JobState.CANCELLED)

    def _end(
        self,
        job: JobRecord,
        active: _Active,
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
        # Not if the job is in other hands: what is half written may be theirs.
        active.context.catalog.confirm_lease()
        sweep(active.context, job)
        active.context.catalog.apply(
            job.id, event, result=result, error=error, announce=_ended(state, error)
        )
        self._tell(job, state)

    def _tell(self, job: JobRecord, state: JobState) -> None:
        self._context.tracing.note({"gramian.state": str(state)})
        self._context.metrics.jobs_ended.labels(str(job.task.get("type")), str(state)).inc()
        with about_job(job.id):
            logger.info("The job is %s.", state)
        self._bus.publish(job.id)


def _ended(state: JobState, error: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
    """The last event of a job."""
    return "state", {"state": str(state), **({"error": error} if error else {})}


def _span(job: JobRecord) -> tuple[str, dict[str, str | int]]:
    kind = str(job.task.get("type"))
    return f"job {kind}", {"gramian.job": job.id, "gramian.attempt": job.attempts}
