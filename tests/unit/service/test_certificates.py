"""Certificates of `gramian certs`: who signs them, how long they live, who may read the keys."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from service.certificates import (
    CA_NAME,
    ROLES,
    expiry,
    faults,
    make_certificates,
    write_certificates,
)
from service.cli.app import build
from storage.errors import ConflictError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("certs") / "new"
    write_certificates(made, make_certificates(["node7.example", "10.1.2.3"], 30))
    return made


def files(folder: Path, role: str) -> tuple[Path, Path, Path]:
    return folder / "ca.pem", folder / f"{role}.pem", folder / f"{role}-key.pem"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_has_a_certificate_of_the_ca(folder: Path, role: str) -> None:
    assert faults(*files(folder, role), datetime.now(UTC)) == []
    own = x509.load_pem_x509_certificate((folder / f"{role}.pem").read_bytes())
    names = own.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {"localhost", "node7.example"}
    assert "10.1.2.3" in map(str, names.get_values_for_type(x509.IPAddress))
    constraints = own.extensions.get_extension_for_class(x509.BasicConstraints).value
    assert not constraints.ca, "a role could sign others"


def test_only_the_owner_reads_keys(folder: Path) -> None:
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    keys = {f"{name}-key.pem" for name in (CA_NAME, *ROLES)}
    assert keys < modes.keys()
    assert {modes[name] for name in keys} == {0o600}


def test_nothing_is_overwritten(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.iterdir()}
    (folder / "worker.pem").rename(folder / "moved")
    try:
        with pytest.raises(ConflictError, match=r"service-key\.pem"):
            write_certificates(folder, make_certificates([], 1))
        assert not (folder / "worker.pem").exists(), "some were written"
    finally:
        (folder / "moved").rename(folder / "worker.pem")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


def test_they_end_after_the_days_asked_for(folder: Path) -> None:
    for name in (CA_NAME, *ROLES):
        left = expiry(folder / f"{name}.pem") - datetime.now(UTC)
        assert abs(left - timedelta(days=30)) < timedelta(minutes=10)
    ca, certificate, key = files(folder, "worker")
    found = faults(ca, certificate, key, datetime.now(UTC) + timedelta(days=31))
    assert len(found) == 2
    assert all("expired on" in fault for fault in found)


def test_what_does_not_belong_together_is_named(folder: Path, tmp_path: Path) -> None:
    write_certificates(tmp_path, make_certificates([], 30))
    ca, certificate, key = files(folder, "worker")
    assert (
        "not signed by the CA"
        in faults(tmp_path / "ca.pem", certificate, key, datetime.now(UTC))[0]
    )
    assert (
        "is not the key of"
        in faults(ca, certificate, folder / "service-key.pem", datetime.now(UTC))[0]
    )
    assert "PEM" in faults(ca, key, key, datetime.now(UTC))[0]


def test_the_command_says_how_to_use_what_it_made(tmp_path: Path) -> None:
    runner, folder = CliRunner(), tmp_path / "new"
    done = runner.invoke(build(), ["certs", str(folder), "--host", "a.example", "--days", "2"])
    assert done.exit_code == 0, done.output
    for role in ROLES:
        assert f"{role}-key.pem" in done.output
    again = runner.invoke(build(), ["certs", str(folder)])
    assert again.exit_code == 1
    assert "already" in again.output


@pytest.mark.parametrize("command", ["serve --scheduler", "worker"])
def test_a_tls_scheduler_without_certificates_is_refused_at_once(command: str) -> None:
    done = CliRunner().invoke(build(), [*command.split(), "tls://127.0.0.1:1"])
    assert done.exit_code == 2
    assert "shows a certificate" in done.output
    assert "gramian certs" in done.output
