"""`gramian worker`: Dask worker processes for a scheduler that runs elsewhere."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.cli.outcome import UsageError, reported, stderr
from service.cli.supervisor import Supervisor

if TYPE_CHECKING:
    from workers.tls import TlsFiles


def worker_command(
    scheduler: str,
    *,
    n_workers: int,
    memory_limit: str,
    host: str | None,
    name: str | None,
    scratch_dir: Path | None,
    tls: TlsFiles | None = None,
) -> list[str]:
    """The `dask worker` that runs `n_workers` single-thread processes, each under a nanny."""
    command = [sys.executable, "-m", "distributed.cli.dask_worker", scheduler, "--nanny"]
    command += ["--nworkers", str(n_workers), "--nthreads", "1", "--memory-limit", memory_limit]
    command += ["--no-dashboard"]
    if host is not None:
        command += ["--host", host]
    if name is not None:
        command += ["--name", name]
    if scratch_dir is not None:
        command += ["--local-directory", str(scratch_dir)]
    if tls is not None:
        command += tls.options()
    return command


def tls_files(
    scheduler: str, ca: Path | None, cert: Path | None, key: Path | None
) -> TlsFiles | None:
    """The three files, or None for a scheduler without TLS. Raises UsageError.

    Dask would start, be refused and start again for ever; this says once what is missing.
    """
    from workers.tls import TlsFiles

    if not scheduler.startswith("tls:"):
        return None
    if ca is None or cert is None or key is None:
        raise UsageError(
            f"{scheduler} lets in only who shows a certificate.",
            advice="give --tls-ca, --tls-cert and --tls-key; gramian certs makes the files",
        )
    for file in (ca, cert, key):
        if not file.is_file():
            raise UsageError(f"There is no file {file}.", advice="gramian certs makes them")
    return TlsFiles(ca, cert, key)


def worker(
    scheduler: Annotated[
        str,
        typer.Argument(help="Address of the Dask scheduler: tcp://host:8786 or tls://host:8786."),
    ],
    n_workers: Annotated[
        int, typer.Option("--workers", min=1, help="Processes to run, one thread each.")
    ] = 1,
    memory_limit: Annotated[
        str, typer.Option(help="Per process; a process that exceeds it is restarted.")
    ] = "2GiB",
    host: Annotated[
        str | None, typer.Option(help="Address that the scheduler and other workers can reach.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name shown by the scheduler.")] = None,
    scratch_dir: Annotated[
        Path | None, typer.Option(help="Where Dask puts its temporary files.")
    ] = None,
    tls_ca: Annotated[
        Path | None, typer.Option(envvar="GRAMIAN_TLS_CA", help="CA certificate (PEM), for tls://.")
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(envvar="GRAMIAN_TLS_CERT", help="Certificate of workers (PEM).")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(envvar="GRAMIAN_TLS_KEY", help="Key of that certificate (PEM).")
    ] = None,
    compilation_cache_dir: Annotated[
        Path | None, typer.Option(help="Where compiled kernels are kept between starts.")
    ] = None,
    store: Annotated[
        str | None,
        typer.Option(
            envvar="GRAMIAN_STORE_URL",
            help="The service's store, s3://bucket/prefix, only to check it before starting.",
        ),
    ] = None,
) -> None:
    """Run worker processes until SIGTERM, starting them again whenever the scheduler was away.

    Workers must see the same data folder (the same path) as the service; or, where the service
    keeps its data in an object store, have keys to it in their environment (AWS_ACCESS_KEY_ID,
    AWS_SECRET_ACCESS_KEY). Its URL comes with every task.
    """
    from storage.blobs import open_blobs
    from workers.cluster import worker_environment
    from workers.kernels.planes.paths import PATH_VARIABLE, asked_path

    console = stderr()
    with reported():
        try:
            asked_path(os.environ)
        except ValueError as error:
            raise UsageError(str(error), advice=f"unset {PATH_VARIABLE} or correct it") from None
        tls = tls_files(scheduler, tls_ca, tls_cert, tls_key)
        if store:
            open_blobs(store).check()
    supervisor = Supervisor(
        worker_command(
            scheduler,
            n_workers=n_workers,
            memory_limit=memory_limit,
            host=host,
            name=name,
            scratch_dir=scratch_dir,
            tls=tls,
        ),
        # The variables must be there before a worker process imports JAX.
        os.environ | worker_environment(compilation_cache_dir),
        report=lambda text: console.print(f"gramian worker: {text}", markup=False),
    )
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: supervisor.stop())
    supervisor.run()
