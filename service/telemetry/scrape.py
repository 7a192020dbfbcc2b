"""What is asked when a scraper comes: the catalog, the cluster and the disk, as they are now."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry

from service.jobs.context import JobContext
from storage.catalog import JobState


@dataclass(frozen=True)
class Snapshot(Collector):
    """Gauges that are read when they are asked for."""

    context: JobContext

    def collect(self) -> Iterator[Metric]:
        yield from self._jobs()
        yield from self._workers()
        free = self.context.blobs.free_bytes()
        if free is not None:
            yield GaugeMetricFamily(
                "gramian_store_free_bytes", "Free bytes where the store is.", value=free
            )

    def _jobs(self) -> Iterator[Metric]:
        counts = self.context.catalog.count_jobs()
        by_state = GaugeMetricFamily("gramian_jobs", "Jobs in the catalog.", labels=["state"])
        for state in JobState:
            by_state.add_metric([str(state)], counts.get(state, 0))
        yield by_state
        residual = GaugeMetricFamily(
            "gramian_solve_residual", "Relative residual of running solves.", labels=["job"]
        )
        fraction = GaugeMetricFamily(
            "gramian_job_progress_ratio", "Progress of open jobs, 0 to 1.", labels=["job"]
        )
        for job in self.context.catalog.open_jobs():
            progress = job.progress or {}
            for family, name in ((residual, "residual"), (fraction, "fraction")):
                if isinstance(progress.get(name), int | float):
                    family.add_metric([job.id], progress[name])
        yield residual
        yield fraction

    def _workers(self) -> Iterator[Metric]:
        loads = self.context.compute.loads()
        yield GaugeMetricFamily(
            "gramian_workers", "Worker processes of the scheduler.", value=len(loads)
        )
        memory = GaugeMetricFamily(
            "gramian_worker_memory_bytes", "Resident bytes of a worker.", labels=["worker"]
        )
        limit = GaugeMetricFamily(
            "gramian_worker_memory_limit_bytes", "Limit of a worker; 0: none.", labels=["worker"]
        )
        tasks = GaugeMetricFamily(
            "gramian_worker_tasks", "Dask tasks that a worker holds.", labels=["worker"]
        )
        for address, load in loads.items():
            memory.add_metric([address], load.memory_bytes)
            limit.add_metric([address], load.limit_bytes)
            tasks.add_metric([address], load.tasks)
        yield from (memory, limit, tasks)


def exposition(context: JobContext) -> bytes:
    """All metrics in the Prometheus text format: the counters and a snapshot of now."""
    now = CollectorRegistry()
    now.register(Snapshot(context))
    return generate_latest(context.metrics.registry) + generate_latest(now)
