"""`gramian export | import`: a matrix with its provenance, as one file between two stores.

They work on the catalog and the store themselves, beside a service that may be running: an imported
matrix is believed to be what its provenance says, so importing is for whoever may write there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from service.cli.connection import JsonOption
from service.cli.outcome import UsageError, print_json, reported, stderr, stdout
from storage.keys import JOB_ID_PATTERN, MATRIX_ID_PATTERN

if TYPE_CHECKING:
    from storage.archive import OnBytes
    from storage.blobs import BlobStore
    from storage.catalog import Catalog

DataDirOption = Annotated[
    Path | None,
    typer.Option(help="Data folder of the service; default: GRAMIAN_DATA_DIR or gramian-data."),
]


def export_matrix(
    name: Annotated[str, typer.Argument(metavar="MATRIX|JOB", help="mx-... or job-...")],
    file: Annotated[Path, typer.Argument(help="The archive to write, such as gram.tar.")],
    data_dir: DataDirOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a sealed matrix, its digest and its provenance to one file."""
    from storage.archive import pack

    with reported():
        if file.exists() and not overwrite:
            raise UsageError(f"{file} is there already.", advice="add --overwrite to replace it")
        with _opened(data_dir) as (blobs, catalog):
            matrix_id = _matrix_id(catalog, name)
            with _bar(f"exporting {matrix_id[:12]}") as on_bytes:
                manifest = pack(blobs, matrix_id, file, on_bytes=on_bytes)
            digest = catalog.get_matrix(matrix_id).digest
    if as_json:
        print_json({"matrix": manifest.id, "file": str(file), "digest": digest})
    else:
        stdout().print(f"{manifest.id} is in {file}, digest {digest}", markup=False)


def import_matrix(
    file: Annotated[Path, typer.Argument(help="An archive that `gramian export` wrote.")],
    data_dir: DataDirOption = None,
    owner: Annotated[
        str | None, typer.Option(help="Who will own it, where the service has API keys.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Store the matrix of an archive, after verifying every number against its digest.

    An archive is as trustworthy as whoever made it: that the numbers are those of the kernel they
    are said to be is not computed again.
    """
    from storage.archive import unpack
    from storage.catalog import Role
    from storage.matrices import sealed_digest

    with reported(), _opened(data_dir) as (blobs, catalog):
        with _bar(f"importing {file.name}") as on_bytes:
            manifest, new = unpack(blobs, file, on_bytes=on_bytes)
        # Plain JSON, as the catalog reads it back.
        catalog.add_matrix(manifest.id, manifest.kind, json.loads(json.dumps(manifest.to_json())))
        digest = sealed_digest(blobs, manifest.id)
        catalog.seal_matrix(manifest.id, digest, manifest.stored_bytes)
        if owner is not None:
            catalog.grant(manifest.id, owner, Role.OWNER)
    if as_json:
        print_json({"matrix": manifest.id, "new": new, "digest": digest})
    else:
        how = "stored" if new else "here already"
        stdout().print(f"{manifest.id} is {how}, digest {digest}", markup=False)


@contextmanager
def _opened(data_dir: Path | None) -> Iterator[tuple[BlobStore, Catalog]]:
    """Store and catalog of the service over a data folder.

    Raises UsageError if no service has ever run there.
    """
    from service.settings import ServiceSettings
    from storage.blobs import open_blobs
    from storage.catalog import open_catalog
    from storage.ownership import claim

    settings = ServiceSettings() if data_dir is None else ServiceSettings(data_dir=data_dir)
    if not settings.catalog_url and not settings.data_dir.is_dir():
        raise UsageError(
            f"There is no data folder {settings.data_dir}.",
            advice="name it with --data-dir; `gramian serve` makes one",
        )
    with open_catalog(settings.resolved_catalog_url) as catalog:
        blobs = open_blobs(settings.resolved_store, fsync=True)
        if settings.store_url:
            claim(blobs, catalog.identity())
        yield blobs, catalog


def _matrix_id(catalog: Catalog, name: str) -> str:
    if re.fullmatch(MATRIX_ID_PATTERN, name):
        return name
    if re.fullmatch(JOB_ID_PATTERN, name):
        matrix_id = catalog.get_job(name).matrix_id
        if matrix_id is not None:
            return matrix_id
        raise UsageError(f"Job {name} makes no matrix.", advice="export a matrix (mx-...)")
    raise UsageError(
        f"{name!r} is neither the id of a matrix nor of a job.", advice="list jobs: gramian status"
    )


@contextmanager
def _bar(label: str) -> Iterator[OnBytes]:
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, console=stderr(), transient=True) as progress:
        task = progress.add_task(label, total=None)

        def on_bytes(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield on_bytes
