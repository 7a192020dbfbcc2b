"""The Dask cluster as the service sees it: there, or not there yet.

Embedded: started and stopped with the service. External: connected to in the background and
looked for again when it is lost, so that the service starts, answers and keeps its jobs whether
or not a scheduler is up.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from distributed import Client, LocalCluster

from service.settings import ServiceSettings
from workers.cluster import (
    ClusterSettings,
    WorkerCapacity,
    WorkerLoad,
    connect,
    start_local,
    worker_capacity,
    worker_count,
    worker_loads,
)
from workers.errors import ClusterUnavailableError

logger = logging.getLogger(__name__)


class Compute:
    """Thread-safe holder of the one Dask client."""

    def __init__(self, settings: ServiceSettings) -> None:
        self._settings = settings
        self._cluster_settings = ClusterSettings(
            scheduler_address=settings.scheduler_address or None,
            n_workers=settings.n_workers,
            worker_memory_limit_bytes=settings.worker_memory_limit_bytes,
            scratch_dir=settings.data_dir.resolve() / "dask",
            compilation_cache_dir=(
                settings.compilation_cache_dir or settings.data_dir / "xla-cache"
            ).resolve(),
            connect_timeout_seconds=settings.cluster_start_seconds,
            tls=settings.tls_files,
            log_format=settings.log_format,
            conv_path=settings.conv_path,
        )
        self._cluster: LocalCluster | None = None
        self._client: Client | None = None
        self._seen = WorkerCapacity()
        self._seen_until = float("-inf")
        self._seen_lock = threading.Lock()
        self._closing = threading.Event()
        self._connector: threading.Thread | None = None

    @property
    def embedded(self) -> bool:
        return not self._settings.scheduler_address

    def start(self, on_connected: Callable[[], None]) -> None:
        """Start the embedded cluster, or begin to look for the external scheduler.

        `on_connected` is called, from any thread, once there is a client.
        """
        if self.embedded:
            self._cluster = start_local(self._cluster_settings)
            self._client = connect(self._cluster_settings, self._cluster)
            on_connected()
            return
        self._connector = threading.Thread(
            target=self._watch, args=(on_connected,), name="gramian-connect", daemon=True
        )
        self._connector.start()

    def client(self) -> Client:
        """The connected client. Raises ClusterUnavailableError while there is none."""
        client = self._client
        if client is None or not self.connected():
            where = self._settings.scheduler_address or "the embedded cluster"
            raise ClusterUnavailableError(
                f"No Dask scheduler answers at {where}.",
                advice="The service keeps trying; see /readyz.",
            )
        return client

    def connected(self) -> bool:
        """Whether the client may still be used: a lost one reconnects for a while by itself, and
        is closed for good when the scheduler stays away longer."""
        return self._client is not None and self._client.status != "closed"

    def workers(self) -> int:
        """Workers that could compute now; 0 without a scheduler."""
        return 0 if self._client is None else worker_count(self._client)

    def loads(self) -> dict[str, WorkerLoad]:
        """What each worker does now, by address; empty without a scheduler."""
        return {} if self._client is None else worker_loads(self._client)

    def expected_workers(self) -> int:
        """Workers to plan for: those there were a moment ago, else those configured."""
        return self._capacity().workers or self._settings.n_workers

    def limit_bytes(self) -> int:
        """Memory that one worker may use: the smallest limit a moment ago, else the configured
        one."""
        return self._capacity().limit_bytes or self._settings.worker_memory_limit_bytes

    def _capacity(self) -> WorkerCapacity:
        """Asked for at most every `cluster_view_seconds`: a plan looks several times, and each
        question takes a turn of the scheduler's loop."""
        if self._client is None:
            return WorkerCapacity()
        with self._seen_lock:
            if time.monotonic() >= self._seen_until:
                self._seen = worker_capacity(self._client)
                self._seen_until = time.monotonic() + self._settings.cluster_view_seconds
            return self._seen

    def close(self) -> None:
        self._closing.set()
        if self._connector is not None:
            self._connector.join()
        if self._client is not None:
            # The scheduler may be gone already; there is nothing left to tell it.
            with suppress(OSError, TimeoutError):
                self._client.close(timeout=5)
        if self._cluster is not None:
            try:
                self._cluster.close(timeout=self._settings.shutdown_seconds)
            except TimeoutError:
                # Worker processes are daemons of this one: they end with it at the latest.
                logger.warning("The embedded cluster did not close in time.")

    def _watch(self, on_connected: Callable[[], None]) -> None:
        """Connect, and connect anew when Dask has given a lost scheduler up."""
        level = logging.WARNING
        while not self._closing.is_set():
            if not self.connected():
                try:
                    self._client = connect(self._cluster_settings)
                except ClusterUnavailableError as error:
                    logger.log(level, "%s Trying again until it does.", error)
                    level = logging.DEBUG  # once is enough; /readyz tells the rest
                else:
                    level = logging.WARNING
                    on_connected()
            self._closing.wait(self._settings.cluster_retry_seconds)
