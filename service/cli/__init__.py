"""The command line. `main` is the console script `gramian`."""

from __future__ import annotations


def main() -> None:
    """Runs one command and exits with its code (see service/cli/outcome.py)."""
    # Imported here so that importing the package for its parts costs nothing.
    from service.cli.app import run

    run()
