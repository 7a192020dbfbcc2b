"""A scheduler, a worker and a service that speak TLS only, with the files of `gramian certs`."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from service.certificates import make_certificates, write_certificates
from service.cli.app import build
from service.cli.doctor import tls_findings
from support.cluster import ClusterProcesses
from support.server import live_server, offline_settings
from workers.cluster import ClusterSettings, connect
from workers.errors import ClusterUnavailableError
from workers.tls import TlsFiles

pytestmark = pytest.mark.cluster


@dataclass
class Secured:
    folder: Path
    address: str

    def files(self, role: str) -> TlsFiles:
        return tls_files(self.folder, role)


def tls_files(folder: Path, role: str) -> TlsFiles:
    return TlsFiles(folder / "ca.pem", folder / f"{role}.pem", folder / f"{role}-key.pem")


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("tls")
    certificates = folder / "certs"
    made = CliRunner().invoke(build(), ["certs", str(certificates), "--days", "1"])
    assert made.exit_code == 0, made.output
    options = tls_files(certificates, "scheduler").options()
    cluster = ClusterProcesses(folder / "dask", scheme="tls", scheduler_options=options)
    cluster.start_scheduler()
    mine = tls_files(certificates, "worker")
    given = ["--tls-ca", mine.ca, "--tls-cert", mine.cert, "--tls-key", mine.key]
    with (folder / "worker.log").open("wb") as log:
        worker = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "worker", cluster.address, *given],
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield Secured(certificates, cluster.address)
    finally:
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(30)
        cluster.kill()


def test_a_job_runs_over_tls(tmp_path: Path, secured: Secured) -> None:
    mine = secured.files("service")
    settings = offline_settings(
        tmp_path,
        scheduler_address=secured.address,
        tls_ca=mine.ca,
        tls_cert=mine.cert,
        tls_key=mine.key,
        cluster_start_seconds=10.0,
        cluster_retry_seconds=0.2,
        compute_block_rows=64,
    )
    with live_server(settings) as server, server.client() as client:
        data = client.upload(np.eye(100, dtype=np.float32))
        job = client.wait(
            client.gram(data.id, kernel={"preset": "fc", "depth": 1}).id, timeout_seconds=120
        )
        assert job.state == "succeeded", job.error
        workers = server.services.compute.loads()
        assert workers
        assert all(address.startswith("tls://") for address in workers)


def test_who_shows_no_certificate_is_refused(secured: Secured) -> None:
    context = ssl.create_default_context(cafile=secured.folder / "ca.pem")
    context.check_hostname = False
    port = int(secured.address.rsplit(":", 1)[1])
    with (
        socket.create_connection(("127.0.0.1", port), 10) as plain,
        context.wrap_socket(plain) as stranger,
        pytest.raises(ssl.SSLError, match="certificate required"),
    ):
        stranger.recv(1)


def test_a_certificate_of_another_ca_is_refused_with_the_reason(
    secured: Secured, tmp_path: Path
) -> None:
    write_certificates(tmp_path, make_certificates([], 1))
    settings = ClusterSettings(
        scheduler_address=secured.address,
        tls=tls_files(tmp_path, "service"),
        connect_timeout_seconds=3.0,
    )
    with pytest.raises(ClusterUnavailableError, match="do not trust each other") as refused:
        connect(settings)
    assert "gramian certs" in refused.value.advice


def doctor(monkeypatch: pytest.MonkeyPatch, secured: Secured, files: TlsFiles) -> str:
    monkeypatch.setenv("GRAMIAN_SCHEDULER_ADDRESS", secured.address)
    for name in ("ca", "cert", "key"):
        monkeypatch.setenv(f"GRAMIAN_TLS_{name.upper()}", str(getattr(files, name)))
    return "\n".join(f"{each.name}: {each.detail}" for each in tls_findings())


def test_doctor_looks_at_the_certificates(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    well = doctor(monkeypatch, secured, secured.files("service"))
    assert "good until" in well
    assert f"TLSv1.3 with {secured.address}" in well

    write_certificates(tmp_path / "other", make_certificates([], 1))
    foreign = doctor(monkeypatch, secured, tls_files(tmp_path / "other", "service"))
    assert "self-signed certificate in certificate chain" in foreign or "unable to get" in foreign

    mixed = TlsFiles(secured.folder / "ca.pem", *_pair(tmp_path / "other"))
    assert "is not signed by the CA" in doctor(monkeypatch, secured, mixed)

    write_certificates(tmp_path / "old", make_certificates([], -0.001))
    expired = doctor(monkeypatch, secured, tls_files(tmp_path / "old", "service"))
    assert "expired on" in expired


def _pair(folder: Path) -> tuple[Path, Path]:
    files = tls_files(folder, "service")
    return files.cert, files.key
