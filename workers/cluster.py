"""Starting or joining the Dask cluster, and the environment its worker processes need.

On CPU: one process per worker, started by spawn (fork hangs once JAX has run in the parent),
one thread, every thread pool bounded to one thread. Two single-threaded processes beat one
process that lets XLA use both cores, and two busy thread pools per core cost 12-17 %.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster

from workers.errors import ClusterUnavailableError
from workers.kernels.planes.paths import PATH_VARIABLE, ConvPath
from workers.logs import FORMAT_VARIABLE, LogFormat
from workers.tls import TlsFiles, tls_fault

# For each connection Dask keeps its newest messages, to be looked at by its developers: 1000 of up
# to a megabyte. Among them are tasks, which carry the description of a network and of a matrix.
SHORT_LOGS: dict[str, Any] = {"distributed.admin.low-level-log-length": 50}

# A worker that stops answering is declared lost after this long (Dask's default is 5 minutes); a
# task that kills its worker is given up after this many deaths.
SCHEDULER_CONFIG: dict[str, Any] = SHORT_LOGS | {
    "distributed.scheduler.worker-ttl": "60s",
    "distributed.scheduler.allowed-failures": 3,
    "distributed.admin.log-length": 1000,
}

# Dask's nanny sets a trim threshold of 64 KiB, with which glibc hands every freed buffer of a
# compute block back to the system and faults it in again (measured: a third of a tile's time).
# glibc reads these when a process starts, so they must be there before the worker is spawned.
ALLOCATOR_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(32 << 20),
    "MALLOC_MMAP_THRESHOLD_": str(8 << 20),
}


@dataclass(frozen=True)
class ClusterSettings:
    """An embedded cluster on this machine, or the address of one that runs elsewhere."""

    scheduler_address: str | None = None  # tcp://host:8786; None: embedded
    n_workers: int = 2
    worker_memory_limit_bytes: int = 2 << 30
    scratch_dir: Path | None = None  # Dask's own temporary files
    compilation_cache_dir: Path | None = None  # compiled XLA programs, shared by all workers
    connect_timeout_seconds: float = 30.0
    tls: TlsFiles | None = None  # for a scheduler at tls://
    log_format: LogFormat = "text"
    conv_path: ConvPath = "auto"


@dataclass(frozen=True)
class WorkerCapacity:
    """Single-thread workers that could compute, and the smallest memory limit of one of them in
    bytes (0: none states one)."""

    workers: int = 0
    limit_bytes: int = 0


@dataclass(frozen=True)
class WorkerLoad:
    """One worker process: resident bytes, its limit (0: none), tasks it holds, how many of them
    run; its name and state in Dask's words, its threads, and its use of one core in percent."""

    memory_bytes: int
    limit_bytes: int
    tasks: int
    executing: int = 0
    name: str = ""
    state: str = ""
    threads: int = 1
    cpu_percent: float = 0.0


def worker_environment(compilation_cache_dir: Path | None = None) -> dict[str, str]:
    """Environment variables for a worker process; they must be set before it imports JAX."""
    thread_pools = ("OMP", "OPENBLAS", "MKL", "NUMBA")
    threads = {f"{pool}_NUM_THREADS": "1" for pool in thread_pools}
    environment = (
        ALLOCATOR_ENVIRONMENT
        | threads
        | {
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
            # The flags bound Eigen's pool only; this bounds the one that runs independent parts
            # of a program side by side (measured: a quarter less CPU time per compute block).
            "PJRT_NPROC": "1",
            # Without this JAX takes 75 % of a GPU's memory at start.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
    )
    if compilation_cache_dir is not None:
        environment |= compilation_cache_environment(compilation_cache_dir)
    return environment


def compilation_cache_environment(folder: Path) -> dict[str, str]:
    """With these a process that imports JAX keeps every program it compiles in `folder`, and takes
    it from there when it, or another process, needs it again."""
    return {
        "JAX_COMPILATION_CACHE_DIR": str(folder),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }


def start_local(settings: ClusterSettings) -> LocalCluster:
    """An embedded cluster of `n_workers` spawned single-thread processes with nannies.

    The caller must be protected by `if __name__ == "__main__"` (spawn re-imports the main module).
    """
    before_spawn = {
        f"distributed.nanny.pre-spawn-environ.{name}": value
        for name, value in ALLOCATOR_ENVIRONMENT.items()
    }
    with dask.config.set(SCHEDULER_CONFIG | before_spawn):
        return LocalCluster(
            n_workers=settings.n_workers,
            threads_per_worker=1,
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # never a fixed port: services must not collide
            memory_limit=settings.worker_memory_limit_bytes,
            local_directory=settings.scratch_dir and str(settings.scratch_dir),
            env=worker_environment(settings.compilation_cache_dir)
            | {FORMAT_VARIABLE: settings.log_format, PATH_VARIABLE: settings.conv_path},
        )


def connect(settings: ClusterSettings, cluster: LocalCluster | None = None) -> Client:
    """A client of the embedded cluster or of the scheduler at `scheduler_address`.

    It never becomes Dask's default: that would send the `.compute()` of everything else in this
    process to the cluster, and two default clients that are not closed in reverse order leave
    Dask's configuration pointing at a closed one.

    Raises ClusterUnavailableError when the scheduler does not answer in time, or refuses the
    certificate.
    """
    target = cluster if cluster is not None else settings.scheduler_address
    try:
        with dask.config.set(SHORT_LOGS):
            return Client(
                target,
                timeout=settings.connect_timeout_seconds,
                name="gramian",
                set_as_default=False,
                security=settings.tls.security() if settings.tls and cluster is None else None,
            )
    except (OSError, TimeoutError) as error:
        refusal = tls_fault(error)
        if refusal is not None:
            raise ClusterUnavailableError(
                f"The Dask scheduler at {target} and this process do not trust each other:"
                f" {refusal}.",
                advice="Both need certificates of one CA (gramian certs); gramian doctor looks at"
                " them.",
            ) from error
        raise ClusterUnavailableError(
            f"The Dask scheduler at {target} did not answer within "
            f"{settings.connect_timeout_seconds:g} s.",
            advice="Start one with `dask scheduler`, then workers with `gramian worker`.",
        ) from error


def worker_count(client: Client) -> int:
    """Number of single-thread workers the scheduler has now; 0 while it cannot be reached."""
    if client.status != "running":
        return 0
    with suppress(OSError, TimeoutError):
        return sum(client.nthreads().values())
    return 0


def worker_capacity(client: Client) -> WorkerCapacity:
    """What the present workers have; nothing while the scheduler cannot be reached."""
    if client.status != "running":
        return WorkerCapacity()
    with suppress(OSError, TimeoutError):
        workers = client.scheduler_info(n_workers=-1).get("workers", {}).values()
        limits = [w["memory_limit"] // max(w["nthreads"], 1) for w in workers if w["memory_limit"]]
        return WorkerCapacity(sum(w["nthreads"] for w in workers), min(limits, default=0))
    return WorkerCapacity()


def worker_loads(client: Client) -> dict[str, WorkerLoad]:
    """What each present worker does now, by address; empty while the scheduler is away."""
    if client.status != "running":
        return {}
    with suppress(OSError, TimeoutError):
        found = client.scheduler_info(n_workers=-1)["workers"]
        return {address: _load(worker) for address, worker in found.items()}
    return {}


def _load(worker: dict[str, Any]) -> WorkerLoad:
    metrics = worker["metrics"]
    counts = metrics.get("task_counts", {})
    return WorkerLoad(
        memory_bytes=int(metrics.get("memory", 0)),
        limit_bytes=int(worker["memory_limit"] or 0),
        tasks=sum(counts.values()),
        executing=int(counts.get("executing", 0)),
        name=str(worker.get("name", "")),
        state=str(worker.get("status", "")),
        threads=int(worker["nthreads"]),
        cpu_percent=float(metrics.get("cpu", 0.0)),
    )


def available_cores() -> int:
    """Cores this process may use (respects affinity and cgroup cpusets)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
