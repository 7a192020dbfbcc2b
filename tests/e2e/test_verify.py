"""Chunks flipped, cut, deleted or swapped on disk: found, and repaired to the same digest."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from typer.testing import CliRunner

from service.cli.app import build
from service.client import ApiError, Client
from support.server import ServiceProcess

pytestmark = pytest.mark.cluster


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with ServiceProcess(
        tmp_path_factory.mktemp("verify"),
        n_workers=1,
        compute_block_rows=64,
        tile_rows=64,
        reserved_disk_bytes=0,
    ) as process:
        process.start()
        yield process


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[Client]:
    with service.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def matrix(service: ServiceProcess) -> str:
    x = np.random.default_rng(0).standard_normal((200, 5)).astype(np.float32)
    with service.client() as client:
        data = client.upload(x, np.arange(200) % 2).id
        job = client.gram(data, kernel={"preset": "fc", "depth": 1}, outputs=["nngp", "ntk"])
        found = client.wait(job.id, timeout_seconds=120).matrix
    assert found is not None
    return found


def files(service: ServiceProcess, matrix: str) -> dict[str, bytes]:
    folder = service.folder / "data" / "store" / "matrices" / matrix
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def damage(service: ServiceProcess, matrix: str) -> dict[str, str]:
    """Break four chunks in four ways; the kind of problem that each is."""
    folder = service.folder / "data" / "store" / "matrices" / matrix
    flipped, cut, gone, other = (folder / "ntk/c" / k for k in ("0/1", "1/1", "0/2", "1/2"))
    data = bytearray(flipped.read_bytes())
    data[100] ^= 1
    flipped.write_bytes(data)
    cut.write_bytes(cut.read_bytes()[:-7])
    gone.unlink()
    # A whole, valid chunk with the wrong numbers: no checksum of the file tells.
    other.write_bytes((folder / "nngp/c/1/2").read_bytes())
    return {
        "0/1": "corrupt-chunk",
        "1/1": "corrupt-chunk",
        "0/2": "missing-chunk",
        "1/2": "digest-mismatch",
    }


def test_damage_is_found_and_repaired_to_the_same_bytes(
    service: ServiceProcess, client: Client, matrix: str
) -> None:
    digest, before = client.matrix(matrix).digest, files(service, matrix)
    whole = client.answer(client.verify(matrix), timeout_seconds=60).summary
    assert (whole["intact"], whole["problems"], whole["digest"]) == (True, [], digest)
    broken = damage(service, matrix)
    found = client.answer(client.verify(matrix), timeout_seconds=60).summary
    assert not found["intact"]
    assert {"/".join(map(str, p["coordinates"])): p["kind"] for p in found["problems"]} == broken
    assert {p["array"] for p in found["problems"]} == {"ntk"}
    assert files(service, matrix) != before  # looking repairs nothing
    healed = client.answer(client.verify(matrix, repair=True), timeout_seconds=120).summary
    assert (healed["intact"], healed["repaired_tiles"]) == (True, 4)
    assert files(service, matrix) == before
    assert client.matrix(matrix).digest == digest


def test_lost_documents_are_written_again(
    service: ServiceProcess, client: Client, matrix: str
) -> None:
    before = files(service, matrix)
    matrix_folder = service.folder / "data" / "store" / "matrices" / matrix
    (matrix_folder / "zarr.json").unlink()
    found = client.answer(client.verify(matrix), timeout_seconds=60).summary
    assert [p["kind"] for p in found["problems"]] == ["missing-document"]
    assert client.answer(client.verify(matrix, repair=True), timeout_seconds=60).summary["intact"]
    assert files(service, matrix) == before


def test_the_command(service: ServiceProcess, client: Client, matrix: str) -> None:
    def run(*options: str, code: int) -> dict[str, object]:
        arguments = ["verify", matrix, "--json", "--url", service.url, *options]
        result = CliRunner().invoke(build(), arguments)
        assert result.exit_code == code, result.output
        return dict(json.loads(result.stdout))

    assert run(code=0)["intact"] is True
    damage(service, matrix)
    assert run(code=1)["problem_count"] == 4
    assert run("--repair", code=0)["repaired_tiles"] == 4


def test_results_of_solves_are_verified_and_not_repaired(client: Client, matrix: str) -> None:
    solve = client.wait(client.solve(matrix, method="cholesky", ridge=1e-2).id, timeout_seconds=120)
    assert solve.matrix is not None
    assert client.answer(client.verify(solve.matrix), timeout_seconds=60).summary["intact"]
    with pytest.raises(ApiError) as caught:
        client.verify(solve.matrix, repair=True)
    assert caught.value.kind == "invalid-request"
