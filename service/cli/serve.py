"""`gramian serve`: the service in this process, until it is told to stop."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from service.cli.outcome import ExitCode, UsageError, fail, reported, stderr

# Every option left out keeps what GRAMIAN_* says, or else the default of ServiceSettings.
_FROM_SETTINGS: Any = None


def serve(
    data_dir: Annotated[
        Path | None, typer.Option(help="Folder of data sets, matrices and the catalog.")
    ] = _FROM_SETTINGS,
    store: Annotated[
        str | None,
        typer.Option(
            help="Where data sets and matrices are kept: s3://bucket/prefix, with"
            " ?endpoint=https://host:port unless it is Amazon's; default: in the data folder."
        ),
    ] = _FROM_SETTINGS,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = _FROM_SETTINGS,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = _FROM_SETTINGS,
    catalog_url: Annotated[
        str | None, typer.Option(help="SQLAlchemy URL; default: SQLite in the data folder.")
    ] = _FROM_SETTINGS,
    scheduler: Annotated[
        str | None, typer.Option(help="A Dask scheduler to use instead of workers of our own.")
    ] = _FROM_SETTINGS,
    tls_ca: Annotated[
        Path | None, typer.Option(help="CA certificate (PEM), for a scheduler at tls://.")
    ] = _FROM_SETTINGS,
    tls_cert: Annotated[
        Path | None, typer.Option(help="Certificate of the service (PEM).")
    ] = _FROM_SETTINGS,
    tls_key: Annotated[
        Path | None, typer.Option(help="Key of that certificate (PEM).")
    ] = _FROM_SETTINGS,
    n_workers: Annotated[
        int | None, typer.Option("--workers", help="Worker processes of the embedded cluster.")
    ] = _FROM_SETTINGS,
    worker_memory_limit: Annotated[
        str | None, typer.Option(help="Memory of one worker process, such as 2GiB.")
    ] = _FROM_SETTINGS,
    settings_given: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any other setting, by its name."),
    ] = None,
    log_level: Annotated[str, typer.Option(help="debug, info, warning or error.")] = "info",
) -> None:
    """Run the service: REST API, job runner and, unless --scheduler is given, its own workers.

    Each setting can also come from the environment (GRAMIAN_DATA_DIR, GRAMIAN_PORT, ...).
    An address other than loopback needs GRAMIAN_API_KEY_SHA256 (see `gramian keys new`).
    """
    with reported():
        given = {
            "data_dir": data_dir,
            "store_url": store,
            "host": host,
            "port": port,
            "catalog_url": catalog_url,
            "scheduler_address": scheduler,
            "tls_ca": tls_ca,
            "tls_cert": tls_cert,
            "tls_key": tls_key,
            "n_workers": n_workers,
            "worker_memory_limit_bytes": worker_memory_limit
            and _bytes(worker_memory_limit, "--worker-memory-limit"),
            **parse_settings(settings_given or []),
        }
        _run({name: value for name, value in given.items() if value is not None}, log_level)


def parse_settings(assignments: list[str]) -> dict[str, str]:
    """`NAME=VALUE` texts as a mapping. Raises UsageError for anything else."""
    from service.settings import ServiceSettings

    parsed = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or name not in ServiceSettings.model_fields:
            raise UsageError(
                f"--set {text!r} does not name a setting.",
                advice="write NAME=VALUE; names: "
                + ", ".join(sorted(ServiceSettings.model_fields)),
            )
        parsed[name] = value
    return parsed


def _bytes(text: str, option: str) -> int:
    from dask.utils import parse_bytes

    try:
        return int(parse_bytes(text))
    except ValueError as error:
        raise UsageError(
            f"{option} {text!r} is not a size.", advice="write 1500MiB, 2GiB or a number of bytes"
        ) from error


def _run(given: dict[str, Any], log_level: str) -> None:
    from service.settings import ServiceSettings

    try:
        settings = ServiceSettings(**given)
    except ValidationError as error:
        faults = [
            f"{'.'.join(map(str, fault['loc'])) or 'settings'}: {fault['msg']}"
            for fault in error.errors()
        ]
        fail("; ".join(faults), advice="gramian serve --help", code=ExitCode.USAGE)
    from service.server import serve as run_server
    from storage.blobs import open_blobs

    if settings.store_url:
        open_blobs(settings.store_url).check()  # here, where its error is two lines
    where = settings.store_url or settings.data_dir.resolve()
    stderr().print(
        f"Gramian on http://{settings.host}:{settings.port}, data in {where}", markup=False
    )
    if not run_server(settings, log_level=log_level):
        fail("the service could not start", advice="the lines above say why")
