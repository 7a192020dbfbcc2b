"""Every knob of the service, read once from the environment (`GRAMIAN_*`) or given in code.

Each limit carries its unit in its name and the reason for its default. The object is frozen:
whoever needs other settings builds another one; nothing reads settings at import.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from storage.errors import InvalidKeyError
from storage.s3_location import parse_s3_url
from workers.kernels.planes.paths import ConvPath
from workers.logs import LogFormat
from workers.plan import is_tile_edge
from workers.tls import TlsFiles

MIB = 2**20
GIB = 2**30

Sha256Hex = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ServiceSettings(BaseSettings):
    """Settings of one service process. In the environment, lists are comma-separated text."""

    model_config = SettingsConfigDict(env_prefix="GRAMIAN_", frozen=True, extra="forbid")

    # --- where things are ---------------------------------------------------------------------
    data_dir: Path = Path("gramian-data")
    # Empty: SQLite inside data_dir. A PostgreSQL URL makes the catalog shared and remote.
    catalog_url: str = ""
    # Empty: a folder inside data_dir. s3://bucket/prefix keeps data sets, matrices and what solves
    # need to go on in an object store, so that service and workers share no file system. Keys come
    # from the environment of each process (AWS_ACCESS_KEY_ID, ...), never from here; see
    # storage/s3_location.py. A file:// URL or a path is another folder.
    store_url: str = ""
    # Compiled XLA programs of the embedded workers, kept between runs: a kernel costs seconds to
    # compile and milliseconds to load. None: a folder inside data_dir.
    compilation_cache_dir: Path | None = None
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)  # 0: the system chooses one

    # --- who may talk to us -------------------------------------------------------------------
    # SHA-256 hex digests of the operators' keys, which may do everything; all other keys are made
    # with these (`gramian keys create`) and live in the catalog. Digests, so that no key is
    # readable from the environment of a process or from a configuration file. Keys are long random
    # strings, so a fast hash is right. Empty: the service is open, and listens on loopback only.
    api_key_sha256: Annotated[tuple[Sha256Hex, ...], NoDecode] = ()
    # How long a key that was looked up is believed: bounds what polling clients ask the catalog,
    # and how long a key lives that another process has revoked.
    key_cache_seconds: float = Field(default=5.0, ge=0)
    # Browsers on other origins may read only when named here; loopback tools need no CORS.
    cors_origins: Annotated[tuple[str, ...], NoDecode] = ()
    # The Host names an open (keyless) service answers to: a page on another site that resolves its
    # own name to 127.0.0.1 (DNS rebinding) would otherwise reach the API from the user's browser.
    allowed_hosts: Annotated[tuple[str, ...], NoDecode] = ("127.0.0.1", "localhost", "[::1]")

    # --- where the computing happens ----------------------------------------------------------
    # Empty: an embedded cluster of spawned single-thread processes.
    scheduler_address: str = ""
    # PEM files for a scheduler at tls://HOST:PORT: certificate of the CA, our certificate, its key.
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    n_workers: int = Field(default=2, ge=1, le=1024)
    # Per worker process; the admission check refuses what projects to more.
    worker_memory_limit_bytes: int = Field(default=2 * GIB, ge=256 * MIB)
    # How long readiness, and a job that starts, wait for a scheduler and a first worker.
    cluster_start_seconds: float = Field(default=60.0, gt=0)
    # How long the scheduler is believed, when jobs are planned, about how many workers there are
    # and what memory they have: submissions that come together ask it once.
    cluster_view_seconds: float = Field(default=1.0, ge=0)
    # A dead scheduler is looked for again after this pause.
    cluster_retry_seconds: float = Field(default=2.0, gt=0)

    # --- how a client may send and read --------------------------------------------------------
    # Beyond this many connections new ones are told to come back later (503). Each needs a file
    # descriptor; `serve` raises the process's limit to the hard one.
    max_connections: int = Field(default=4000, ge=1)
    # A connection is closed when the head of its next request is not complete after this long.
    request_head_seconds: float = Field(default=30.0, gt=0)
    # Request line and headers together; ids and keys are short.
    max_request_head_bytes: int = Field(default=32 * 1024, ge=1024)
    # A body may pause this long, and must come faster than this on the whole; else 408.
    body_pause_seconds: float = Field(default=30.0, gt=0)
    min_body_bytes_per_second: int = Field(default=1024, ge=0)
    # A client that takes nothing of a response for this long is cut off: what it has not read
    # occupies memory here.
    response_stall_seconds: float = Field(default=120.0, gt=0)

    # --- what a request may carry -------------------------------------------------------------
    # JSON bodies are small descriptions; a megabyte is hundreds of layers.
    max_json_bytes: int = Field(default=MIB, ge=1024)
    # One multipart body, enforced while it streams to disk.
    max_upload_bytes: int = Field(default=4 * GIB, ge=1024)
    # Canonical size of one data set after unpacking: bounds what a compressed file can blow up to.
    max_dataset_bytes: int = Field(default=16 * GIB, ge=1024)
    # One slice is built in the memory of this process.
    max_slice_bytes: int = Field(default=256 * MIB, ge=1024)
    # JSON spends ~20 bytes and much time on each number; beyond this ask for .npy.
    max_json_numbers: int = Field(default=10_000, ge=1)
    # One picture looks into at most this many bytes of tiles (when its window is nearly as small as
    # its pixels), and makes at most this many bytes' previews again where they are missing: some
    # tenths of a second each.
    max_preview_read_bytes: int = Field(default=256 * MIB, ge=MIB)
    max_preview_rebuild_bytes: int = Field(default=256 * MIB, ge=0)
    # Tiles that one picture covers: some 0.1 ms each.
    max_preview_tiles: int = Field(default=40_000, ge=1)
    default_page_items: int = Field(default=50, ge=1)
    max_page_items: int = Field(default=300, ge=1)

    # --- what may be computed and kept ----------------------------------------------------------
    # 2**20 rows: a symmetric float32 Gram of that edge is 2.2 TB, beyond one embedded service.
    max_matrix_rows: int = Field(default=2**20, ge=1)
    # What one worker decomposes whole, if it fits; beyond, regressions, posteriors, training and
    # spectra go to all workers, analyses are refused. From about 16000 rows on, the OpenBLAS of the
    # SciPy wheels crashes with more than one thread.
    max_dense_rows: int = Field(default=12_000, ge=1)
    # What one job may keep of vectors in this process: block CG has about 14 of each column.
    max_solve_vectors_bytes: int = Field(default=2 * GIB, ge=MIB)
    # Sum over all matrices and data sets. 0: only the disk itself limits.
    max_store_bytes: int = Field(default=0, ge=0)
    # Never fill the disk: the catalog and the operating system need some.
    reserved_disk_bytes: int = Field(default=GIB, ge=0)
    # What `gramian gc` takes. Leftovers (tiles of jobs that were given up, files without a record)
    # are kept for a while: the same request goes on from them.
    retention_leftover_days: float = Field(default=7.0, ge=0)
    # None: for ever. Sealed matrices, and data sets that no matrix and no open job needs.
    retention_matrix_days: float | None = Field(default=None, ge=0)
    retention_dataset_days: float | None = Field(default=None, ge=0)
    # Events of jobs that ended, and the audit log.
    retention_event_days: float | None = Field(default=90.0, ge=0)
    retention_audit_days: float | None = Field(default=None, ge=0)
    max_open_jobs: int = Field(default=64, ge=1)
    # Of one owner. One Gram job already keeps every worker busy; a second one lets solves pass a
    # long Gram. Other owners' jobs run beside them and get their share (service.jobs.shares).
    max_running_jobs: int = Field(default=2, ge=1)
    # Of all owners together: each holds a thread here and, for some tasks, memory in the workers.
    max_concurrent_jobs: int = Field(default=16, ge=1)

    # --- how a Gram is cut --------------------------------------------------------------------
    # 0: chosen per job from cost and memory (workers.plan).
    tile_rows: int = Field(default=0, ge=0)
    # Edge of the fixed compute blocks; the digest of a matrix depends on it.
    compute_block_rows: int = Field(default=512, ge=64, le=8192)
    # A tile is one Zarr chunk; chunks of 4-16 MiB are fastest to write and to serve.
    max_chunk_bytes: int = Field(default=16 * MIB, ge=MIB)
    # Progress moves, and a cancelled job stops, at about this pace.
    max_tile_seconds: float = Field(default=10.0, gt=0)
    # Rows of the data sets that each worker keeps in memory between tiles.
    panel_cache_bytes: int = Field(default=64 * MIB, ge=0)
    # One Dask task carries about this much work, so that its ~2 ms of scheduling do not count.
    batch_seconds: float = Field(default=2.0, gt=0)
    # Tasks in flight per worker: one running, one waiting, and one on its way.
    window_per_worker: int = Field(default=3, ge=1)
    # What computes convolutional kernels in the service's own workers; others read
    # GRAMIAN_CONV_PATH themselves. auto: `fused` on a GPU, else `compiled`.
    conv_path: ConvPath = "auto"

    # --- how things are reported --------------------------------------------------------------
    # `json`: one object per line, with the ids of the job and the request it is about.
    log_format: LogFormat = "text"
    event_throttle_seconds: float = Field(default=0.5, ge=0)
    # From here on the progress of a job is announced at half the pace, then a quarter, ...: a job
    # of days must not fill the catalog with events.
    max_events_per_job: int = Field(default=2000, ge=10)
    # With traces (OTEL_EXPORTER_OTLP_ENDPOINT): tiles of one job that get a span of their own.
    max_tile_spans_per_job: int = Field(default=1000, ge=0)
    # Idle streams get a comment this often: proxies close silent connections after 30-60 s.
    heartbeat_seconds: float = Field(default=15.0, gt=0)
    # What `Retry-After` says while a job runs.
    retry_after_seconds: int = Field(default=2, ge=1)
    # The slowest pace of the reconciler; changes wake it at once.
    reconcile_seconds: float = Field(default=5.0, gt=0)
    # How long a job is a service's after it last said so; when that service dies, another one goes
    # on with the job after this time. Renewed three times as often, so that a slow database or a
    # busy machine does not cost a job its runner.
    job_lease_seconds: float = Field(default=30.0, ge=1)
    # With a PostgreSQL catalog other services change it too: how often event streams and the
    # reconciler look. Bounds how late a cancellation arrives at the service that runs the job.
    catalog_poll_seconds: float = Field(default=1.0, gt=0)
    # How long a shutdown waits for running batches to stop.
    shutdown_seconds: float = Field(default=30.0, gt=0)

    @field_validator("api_key_sha256", "cors_origins", "allowed_hosts", mode="before")
    @classmethod
    def _split_commas(cls, value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(",") if part.strip())
        return value

    @field_validator("store_url")
    @classmethod
    def _names_a_store(cls, value: str) -> str:
        if value.startswith("s3://"):
            try:
                # With what the environment adds: workers must find it with nothing but their keys.
                return parse_s3_url(value, os.environ).url
            except InvalidKeyError as error:
                raise ValueError(str(error)) from error
        return value

    @field_validator("compute_block_rows")
    @classmethod
    def _whole_lanes(cls, value: int) -> int:
        if value % 64:
            raise ValueError("compute_block_rows must be a multiple of 64")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not is_loopback(self.host) and not self.api_key_sha256:
            raise ValueError(
                f"refusing to listen on {self.host!r} without an API key: anyone who reaches the"
                " port could start jobs. Set GRAMIAN_API_KEY_SHA256 to the SHA-256 of a key, or"
                " listen on 127.0.0.1."
            )
        files = (self.tls_ca, self.tls_cert, self.tls_key)
        if any(files) and not all(files):
            raise ValueError("tls_ca, tls_cert and tls_key go together")
        if self.scheduler_address.startswith("tls:") and not all(files):
            raise ValueError(
                f"{self.scheduler_address} lets in only who shows a certificate: set tls_ca,"
                " tls_cert and tls_key (gramian certs makes them)"
            )
        for file in files:
            if file is not None and not file.is_file():
                raise ValueError(f"there is no file {file}")
        if self.default_page_items > self.max_page_items:
            raise ValueError("default_page_items exceeds max_page_items")
        if self.tile_rows and not is_tile_edge(self.tile_rows, self.compute_block_rows):
            raise ValueError("tile_rows must be compute_block_rows times a power of two")
        return self

    @property
    def resolved_catalog_url(self) -> str:
        return self.catalog_url or f"sqlite:///{self.data_dir.resolve() / 'catalog.sqlite'}"

    @property
    def tls_files(self) -> TlsFiles | None:
        if self.tls_ca is None or self.tls_cert is None or self.tls_key is None:
            return None
        return TlsFiles(self.tls_ca, self.tls_cert, self.tls_key)

    @property
    def shared_catalog(self) -> str | None:
        """Host and name of a catalog that several services may share; None: SQLite."""
        url = urlsplit(self.resolved_catalog_url)
        if url.scheme.startswith("sqlite"):
            return None
        return f"{url.hostname or ''}:{url.port or ''}{url.path}"

    @property
    def resolved_store(self) -> str | Path:
        """What `storage.blobs.open_blobs` opens: the store of data sets and matrices."""
        return self.store_url or self.store_dir

    @property
    def store_dir(self) -> Path:
        """Root of the store when there is no `store_url`."""
        return self.data_dir / "store"

    @property
    def scratch_dir(self) -> Path:
        """Uploads in flight; on the disk of the data, so that big bodies never land in a tmpfs."""
        return self.data_dir / "uploads"

    def safe_summary(self) -> dict[str, Any]:
        """What may be logged: no key digests, no password of the catalog."""
        url = urlsplit(self.resolved_catalog_url)
        shown = self.model_dump(mode="json", exclude={"api_key_sha256", "catalog_url"})
        return {**shown, "catalog": f"{url.scheme}://{url.hostname or ''}{url.path}"}


def is_loopback(host: str) -> bool:
    """Whether binding `host` is reachable from this machine only. Unknown names are not."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
