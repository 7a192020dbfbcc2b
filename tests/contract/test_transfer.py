"""`gramian export` beside one running service, `gramian import` beside another."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from service.cli.app import build
from service.cli.outcome import ExitCode
from support.server import LiveServer, live_server, offline_settings
from support.service_state import put_sealed_gram


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(offline_settings(tmp_path_factory.mktemp("other"))) as running:
        yield running


@pytest.fixture(scope="module")
def gram(server: LiveServer) -> tuple[str, dict[str, np.ndarray]]:
    manifest, arrays = put_sealed_gram(server)
    return manifest.id, arrays


def run(*arguments: str) -> Any:
    return CliRunner().invoke(build(), list(arguments), catch_exceptions=False)


def data_dir(server: LiveServer) -> str:
    return str(server.services.settings.data_dir)


def test_a_matrix_goes_from_one_service_to_another(
    server: LiveServer,
    other: LiveServer,
    gram: tuple[str, dict[str, np.ndarray]],
    tmp_path: Path,
) -> None:
    matrix, arrays = gram
    file = str(tmp_path / "gram.tar")
    done = run("export", matrix, file, "--data-dir", data_dir(server), "--json")
    assert done.exit_code == ExitCode.OK
    with server.client() as client:
        digest = client.matrix(matrix).digest
    assert json.loads(done.stdout) == {"matrix": matrix, "file": file, "digest": digest}

    done = run("import", file, "--data-dir", data_dir(other), "--owner", "alice", "--json")
    assert json.loads(done.stdout) == {"matrix": matrix, "new": True, "digest": digest}
    with other.client() as client:
        arrived = client.matrix(matrix)
        assert (arrived.digest, arrived.state) == (digest, "sealed")
        for name, values in arrays.items():
            np.testing.assert_array_equal(client.slice(matrix, array=name), values)
    owners = other.services.catalog.grants_of(matrix)
    assert [(grant.grantee, str(grant.role)) for grant in owners] == [("alice", "owner")]

    again = run("import", file, "--data-dir", data_dir(other))
    assert again.exit_code == ExitCode.OK
    assert "here already" in again.stdout


def test_what_cannot_be_done_says_so(
    server: LiveServer, gram: tuple[str, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    matrix, _ = gram
    there = tmp_path / "there.tar"
    there.write_bytes(b"mine")
    at = ("--data-dir", data_dir(server))
    for arguments, code, message in (
        (("export", matrix, str(there), *at), ExitCode.USAGE, "--overwrite"),
        (("export", "gram", "x.tar", *at), ExitCode.USAGE, "neither the id of a matrix nor"),
        (("export", "mx-" + "0" * 32, "x.tar", *at), ExitCode.FAILED, "no matrix"),
        (("import", str(there), *at), ExitCode.FAILED, "not an archive"),
        (("import", str(there), "--data-dir", str(tmp_path / "no")), ExitCode.USAGE, "no data"),
    ):
        done = run(*arguments)
        assert (done.exit_code, message in done.stderr) == (code, True), done.stderr
    assert there.read_bytes() == b"mine"
    assert run("export", matrix, str(there), *at, "--overwrite").exit_code == ExitCode.OK
