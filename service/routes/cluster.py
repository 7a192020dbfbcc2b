"""What the machines are doing."""

from __future__ import annotations

from fastapi import APIRouter, Response

from service.deps import ServicesDep
from service.schemas.common import error_responses
from service.schemas.pictures import ClusterOut, StoreOut, WorkerOut
from storage.catalog import JobState

router = APIRouter(prefix="/v1", tags=["operations"])


@router.get("/cluster", summary="Workers, memory, disk", responses=error_responses())
def get_cluster(services: ServicesDep, response: Response) -> ClusterOut:
    """As they are now: worker processes and what each holds, jobs by state, pace, space."""
    response.headers["Cache-Control"] = "no-store"
    catalog, compute = services.catalog, services.compute
    workers = [
        WorkerOut(
            address=address,
            name=load.name,
            threads=load.threads,
            state=load.state,
            memory_bytes=load.memory_bytes,
            memory_limit_bytes=load.limit_bytes,
            cpu_percent=load.cpu_percent,
            executing=load.executing,
            queued=load.tasks - load.executing,
        )
        for address, load in sorted(compute.loads().items())
    ]
    counts = catalog.count_jobs()
    paces = [
        (job.progress or {}).get("tiles_per_second")
        for job in catalog.open_jobs()
        if job.state is JobState.RUNNING
    ]
    return ClusterOut(
        scheduler=compute.connected(),
        workers=workers,
        threads=sum(worker.threads for worker in workers),
        memory_bytes=sum(worker.memory_bytes for worker in workers),
        memory_limit_bytes=sum(worker.memory_limit_bytes for worker in workers),
        tasks=sum(worker.executing + worker.queued for worker in workers),
        jobs={state.value: counts.get(state, 0) for state in JobState},
        tiles_per_second=sum(pace for pace in paces if pace is not None),
        store=StoreOut(free_bytes=services.blobs.free_bytes(), used_bytes=catalog.stored_bytes()),
    )
