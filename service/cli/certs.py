"""`gramian certs`: a private CA, and certificates for scheduler, workers and service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from service.cli.connection import JsonOption
from service.cli.outcome import print_json, reported, stdout


def certs(
    folder: Annotated[Path, typer.Argument(help="Folder for the files; made if it is not there.")],
    hosts: Annotated[
        list[str] | None,
        typer.Option("--host", help="A name or address of one of the machines; may be repeated."),
    ] = None,
    days: Annotated[float, typer.Option(min=0.01, help="Days until all of them expire.")] = 365.0,
    as_json: JsonOption = False,
) -> None:
    """Make certificates for mutual TLS between scheduler, workers and service.

    Give each machine ca.pem and the pair of its role, and keep ca-key.pem away from all of them.
    Nothing is overwritten. To renew, make a new folder and restart all three.
    """
    from service.certificates import make_certificates, require_cryptography, write_certificates

    with reported():
        require_cryptography()
        files = write_certificates(folder, make_certificates(hosts or [], days))
    if as_json:
        print_json({"files": [str(path) for path in files]})
        return
    console = stdout()
    console.print(f"{len(files)} files in {folder}, good for {days:g} days:", markup=False)
    for role, what in (
        ("scheduler", "dask scheduler --protocol tls --tls-ca-file {ca} --tls-cert {pair}"),
        ("worker", "gramian worker tls://HOST:8786 --tls-ca {ca} --tls-cert {pair}"),
        ("service", "gramian serve --scheduler tls://HOST:8786 --tls-ca {ca} --tls-cert {pair}"),
    ):
        pair = f"{folder / role}.pem --tls-key {folder / role}-key.pem"
        console.print("  " + what.format(ca=folder / "ca.pem", pair=pair), markup=False)
