"""The tree of commands."""

from __future__ import annotations

from importlib.metadata import version as package_version

import typer

from service.cli import access, jobs, keys, solve, submit, transfer, upkeep
from service.cli.analyze import analyze
from service.cli.certs import certs
from service.cli.connection import JsonOption
from service.cli.demo import demo
from service.cli.doctor import doctor
from service.cli.outcome import print_json, stdout
from service.cli.paper import paper
from service.cli.report import report
from service.cli.serve import serve
from service.cli.worker import worker


def build() -> typer.Typer:
    app = typer.Typer(
        name="gramian",
        help="Gram matrices of neural kernels: computed, kept as Zarr, and solved with.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )
    app.command()(serve)
    app.command()(worker)
    app.command()(certs)
    app.add_typer(submit.app, name="submit")
    app.add_typer(solve.app, name="solve")
    app.command()(analyze)
    for command in (jobs.status, jobs.watch, jobs.fetch, jobs.cancel, access.share, access.audit):
        app.command()(command)
    app.command()(report)
    app.command()(keys.whoami)
    app.command()(upkeep.verify)
    app.command()(upkeep.gc)
    app.command("export")(transfer.export_matrix)
    app.command("import")(transfer.import_matrix)
    app.command()(doctor)
    app.command()(demo)
    app.command()(paper)
    app.add_typer(keys.app, name="keys")
    app.command()(version)
    return app


def version(as_json: JsonOption = False) -> None:
    """Print the version."""
    number = package_version("gramian")
    if as_json:
        print_json({"version": number})
    else:
        stdout().print(number, markup=False)


def run() -> None:
    build()()
