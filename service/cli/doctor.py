"""`gramian doctor`: is everything there that Gramian needs, on this machine and at the service?"""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from service.cli.connection import DEFAULT_URL, JsonOption, UrlOption
from service.cli.outcome import ExitCode, print_json, stdout
from storage.errors import GramianError, MissingExtraError

if TYPE_CHECKING:
    from workers.tls import TlsFiles

Outcome = Literal["ok", "warning", "failed"]
_COLOUR = {"ok": "green", "warning": "yellow", "failed": "red"}
_JAX_SECONDS = 120
_LOW_DISK_BYTES = 5 << 30
_EXPIRES_SOON = timedelta(days=30)
# In a process of its own: importing JAX here would take its memory and could crash with it.
_JAX = "import jax; print(jax.__version__, *(d.platform for d in jax.devices()))"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    name: str
    outcome: Outcome
    detail: str
    advice: str = ""


def doctor(
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder of a service on this machine.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Do not ask the service.")] = False,
    url: UrlOption = DEFAULT_URL,
    as_json: JsonOption = False,
) -> None:
    """Look for what is missing or wrong, and say what to do. Changes nothing.

    Exit code 1 if something failed; warnings are 0.
    """
    findings = list(examine(data_dir, None if offline else url))
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        console = stdout()
        for finding in findings:
            colour = _COLOUR[finding.outcome]
            console.print(f"[{colour}]{finding.outcome:<8}[/] {finding.name:<12} ", end="")
            console.print(finding.detail, markup=False)
            if finding.advice and finding.outcome != "ok":
                console.print(f"{'':<22}try: {finding.advice}", markup=False)
    if any(finding.outcome == "failed" for finding in findings):
        raise typer.Exit(ExitCode.FAILED)


def examine(data_dir: Path | None, url: str | None) -> Iterator[Finding]:
    """All findings, in the order in which one rests on the other."""
    yield Finding("python", "ok", f"{platform.python_version()}, gramian {version('gramian')}")
    yield _jax()
    yield _settings()
    yield from tls_findings()
    if data_dir is not None:
        yield _disk(data_dir)
        yield _checked("catalog", lambda: _catalog(data_dir))
    yield from _store()
    if url is not None:
        yield from _service(url)


def _jax() -> Finding:
    command = [sys.executable, "-c", _JAX]
    advice = "reinstall with the pins of requirements.lock"
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_JAX_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return Finding("jax", "failed", f"no answer within {_JAX_SECONDS} s", advice)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return Finding("jax", "failed", lines[-1], advice)
    return Finding("jax", "ok", done.stdout.strip())


def _settings() -> Finding:
    from pydantic import ValidationError

    from service.settings import ServiceSettings

    try:
        settings = ServiceSettings()
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, f['loc'])) or 'settings'}: {f['msg']}" for f in error.errors()
        )
        return Finding("settings", "failed", faults, "correct the GRAMIAN_* variables")
    guarded = "with keys" if settings.api_key_sha256 else "open, on loopback only"
    return Finding("settings", "ok", f"{settings.host}:{settings.port}, {guarded}")


def tls_findings() -> Iterator[Finding]:
    """The certificates that GRAMIAN_TLS_* name, and whether the scheduler takes them."""
    from pydantic import ValidationError

    from service.settings import ServiceSettings
    from workers.tls import shake_hands

    try:
        settings = ServiceSettings()
    except ValidationError:
        return  # said already
    files = settings.tls_files
    if files is None:
        return
    yield _certificates(files)
    if settings.scheduler_address.startswith("tls:"):
        yield _checked("handshake", lambda: shake_hands(settings.scheduler_address, files))


def _certificates(files: TlsFiles) -> Finding:
    from service.certificates import expiry, faults, require_cryptography

    name, renew = "certificates", "make a new set for all machines: gramian certs"
    try:
        require_cryptography()
    except MissingExtraError as error:
        return Finding(name, "warning", "cannot be read here", error.advice)
    now = datetime.now(UTC)
    try:
        found = faults(files.ca, files.cert, files.key, now)
    except OSError as error:
        return Finding(name, "failed", str(error), "the service must be able to read them")
    if found:
        return Finding(name, "failed", "; ".join(found), renew)
    ends = min(expiry(files.ca), expiry(files.cert))
    soon = ends - now < _EXPIRES_SOON
    return Finding(
        name, "warning" if soon else "ok", f"good until {ends:%Y-%m-%d %H:%M} UTC", renew
    )


def _disk(data_dir: Path) -> Finding:
    if not data_dir.is_dir():
        return Finding("disk", "failed", f"{data_dir} is no folder", "name it with --data-dir")
    free = shutil.disk_usage(data_dir).free
    low = free < _LOW_DISK_BYTES
    return Finding(
        "disk",
        "warning" if low else "ok",
        f"{free / 2**30:.1f} GiB free at {data_dir.resolve()}",
        "delete what is no longer needed: gramian gc",
    )


def _store() -> Iterator[Finding]:
    """Of the store that the settings name; what is in the data folder is the disk's matter."""
    from pydantic import ValidationError

    from service.settings import ServiceSettings
    from storage.blobs import open_blobs

    try:
        url = ServiceSettings().store_url
    except ValidationError:
        return  # `settings` has said so
    if not url:
        return

    def reach() -> str:
        open_blobs(url).check()
        return f"{url} takes, gives back and deletes objects"

    yield _checked("store", reach)


def _catalog(data_dir: Path) -> str:
    from service.settings import ServiceSettings
    from storage.catalog import open_catalog

    url = ServiceSettings(data_dir=data_dir).resolved_catalog_url
    # Only looks: upgrading the schema is for the service, after a backup.
    with open_catalog(url, migrate=False) as catalog:
        counts = catalog.count_jobs()
    jobs = ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
    return f"readable; jobs: {jobs or 'none'}"


def _service(url: str) -> Iterator[Finding]:
    import os

    from service.client import Client

    with Client(url, api_key=os.environ.get("GRAMIAN_API_KEY") or None) as client:
        about: dict[str, object] = {}

        def reach() -> str:
            about.update(client.about())
            return f"gramian {about['version']} at {url}"

        yield _checked("service", reach)
        if not about:
            return
        if about["version"] != version("gramian"):
            yield Finding(
                "versions",
                "warning",
                f"this is {version('gramian')}, the service is {about['version']}",
                "install the same version everywhere",
            )
        ready = client.ready()
        for name, check in ready["checks"].items():
            outcome: Outcome = "ok" if check["ok"] else "failed"
            yield Finding(name, outcome, check["detail"], "see the log of the service")


def _checked(name: str, look: Callable[[], str]) -> Finding:
    try:
        return Finding(name, "ok", look())
    except GramianError as error:
        return Finding(name, "failed", error.message, error.advice)
