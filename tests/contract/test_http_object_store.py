"""A service that keeps its data in an object store: the same answers, from the bucket."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
import zarr
from typer.testing import CliRunner

from service.cli.app import build
from service.cli.doctor import Finding
from service.cli.outcome import ExitCode
from storage.blobs import BlobStore, open_blobs
from storage.format import MatrixManifest
from storage.ownership import KEY
from support.matrices import flip_bit, sealed_gram
from support.s3 import S3Server
from support.server import LiveServer, live_server, offline_settings
from support.service_state import put_sealed_gram

Stored = tuple[MatrixManifest, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, s3: S3Server) -> Iterator[LiveServer]:
    settings = offline_settings(
        tmp_path_factory.mktemp("service"),
        store_url=s3.store_url(),
        compute_block_rows=64,
        retention_leftover_days=0.0,
    )
    with live_server(settings) as running:
        yield running


@pytest.fixture(scope="module")
def stored(server: LiveServer) -> Stored:
    return put_sealed_gram(server, (40, 40))


@pytest.fixture
def blobs(server: LiveServer) -> BlobStore:
    """The bucket, as a worker on another machine opens it."""
    return open_blobs(server.services.blobs.url)


def test_data_sets_live_in_the_bucket_only(
    server: LiveServer, blobs: BlobStore, http: httpx2.Client
) -> None:
    x = np.random.default_rng(0).standard_normal((20, 3)).astype(np.float32)
    with server.client() as client:
        data = client.upload(x, np.arange(20)).id
        rows = http.get(f"/v1/datasets/{data}/rows", params={"rows": "5:7"})
        assert rows.status_code == 200, rows.text
        assert blobs.size(f"datasets/{data}/dataset.json") is not None
        local = server.services.settings.data_dir
        assert not [p for p in local.rglob("*") if "datasets" in p.parts or "store" in p.parts]
        assert http.delete(f"/v1/datasets/{data}").status_code == 204
    assert list(blobs.list("datasets")) == []


@pytest.mark.parametrize("key", ["ntk/c/0/1", "ntk/c/1/0", "zarr.json"])
def test_zarr_over_http_comes_from_the_bucket(
    server: LiveServer, stored: Stored, http: httpx2.Client, key: str
) -> None:
    manifest, arrays = stored
    base = f"/v1/matrices/{manifest.id}/zarr"
    whole = http.get(f"{base}/{key}")
    assert whole.status_code == 200
    for value, (start, stop) in {
        "bytes=0-9": (0, 10),
        "bytes=5-": (5, None),
        "bytes=-7": (-7, None),
        "bytes=100-999999": (100, None),
    }.items():
        part = http.get(f"{base}/{key}", headers={"Range": value})
        assert part.status_code == 206
        assert part.content == whole.content[start:stop]
        assert part.headers["etag"] == whole.headers["etag"]
    assert http.get(f"{base}/{key}", headers={"Range": "bytes=9999999-"}).status_code == 416
    fresh = http.get(f"{base}/{key}", headers={"If-None-Match": whole.headers["etag"]})
    assert (fresh.status_code, fresh.content) == (304, b"")
    head = http.head(f"{base}/{key}")
    assert int(head.headers["content-length"]) == len(whole.content)
    array = zarr.open(f"{server.url}{base}", mode="r")["ntk"]
    np.testing.assert_array_equal(array[...], arrays["ntk"])


def test_damage_in_the_bucket_is_an_error_and_deletion_empties_it(
    server: LiveServer, blobs: BlobStore, http: httpx2.Client
) -> None:
    manifest, _ = put_sealed_gram(server, (24, 24))
    chunk = f"matrices/{manifest.id}/ntk/c/0/1"
    flip_bit(blobs, chunk)
    mirrored = http.get(f"/v1/matrices/{manifest.id}/zarr/ntk/c/1/0")
    assert (mirrored.status_code, mirrored.json()["kind"]) == (500, "corrupt-chunk")
    blobs.delete(chunk)
    lost = http.get(f"/v1/matrices/{manifest.id}/zarr/ntk/c/0/1")
    assert (lost.status_code, lost.json()["kind"]) == (500, "missing-chunk")
    assert http.delete(f"/v1/matrices/{manifest.id}").status_code == 204
    assert list(blobs.list(f"matrices/{manifest.id}")) == []


def test_garbage_in_the_bucket_is_found_and_deleted(
    server: LiveServer, stored: Stored, blobs: BlobStore
) -> None:
    kept, _ = stored
    orphan, _ = sealed_gram(blobs, (16, 16))
    blobs.put("solves/mx-" + "0" * 32 + "/checkpoint", b"x" * 100)
    with server.client() as client:
        gone = {item["name"] for item in client.garbage(delete=True)["items"]}
    assert gone == {orphan.id, "mx-" + "0" * 32}
    assert list(blobs.folders("matrices")) == [kept.id]
    assert list(blobs.list("solves")) == []


def test_what_looks_at_the_store_looks_at_the_bucket(
    server: LiveServer, s3: S3Server, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.cli.doctor._jax", lambda: Finding("jax", "ok", "takes seconds"))
    assert http.get("/readyz").json()["checks"]["store"]["ok"]
    assert http.get("/v1/cluster").json()["store"]["free_bytes"] is None
    assert "gramian_store_free_bytes" not in http.get("/metrics").text

    def doctor(url: str) -> tuple[int, str]:
        monkeypatch.setenv("GRAMIAN_STORE_URL", url)
        result = CliRunner().invoke(build(), ["doctor", "--offline"], env={"COLUMNS": "300"})
        return result.exit_code, result.output

    code, shown = doctor(server.services.settings.store_url)
    assert code == ExitCode.OK, shown
    assert "takes, gives back and deletes objects" in shown
    code, shown = doctor(s3.url("never-made"))
    assert code == ExitCode.FAILED
    assert "There is no bucket 'never-made'" in shown


def test_a_bucket_that_closes_makes_503_and_not_404(s3: S3Server, tmp_path: Path) -> None:
    bucket = s3.bucket()
    settings = offline_settings(tmp_path, store_url=s3.url(bucket))
    with live_server(settings) as running, running.http() as http:
        manifest, _ = put_sealed_gram(running, (24, 24))
        s3.deny_everything(bucket)
        answer = http.get(f"/v1/matrices/{manifest.id}/zarr/ntk/c/0/0")
        assert (answer.status_code, answer.json()["kind"]) == (503, "store-refused")
        assert "AWS_ACCESS_KEY_ID" in answer.json()["advice"]
        assert not http.get("/readyz").json()["checks"]["store"]["ok"]


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_nothing_starts_without_its_store(command: str, s3: S3Server, tmp_path: Path) -> None:
    given = {
        "serve": [
            "serve",
            "--data-dir",
            str(tmp_path / "data"),
            "--scheduler",
            "tcp://127.0.0.1:1",
        ],
        "worker": ["worker", "tcp://127.0.0.1:1"],
    }[command]
    result = CliRunner().invoke(
        build(), [*given, "--store", s3.url("never-made")], env={**os.environ, "COLUMNS": "300"}
    )
    assert result.exit_code == ExitCode.FAILED
    assert "There is no bucket 'never-made'" in result.output
    assert "Create it" in result.output


def test_a_bucket_belongs_to_one_catalog(
    server: LiveServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """To another service everything in it would be garbage."""
    store = server.services.settings.store_url
    other = offline_settings(tmp_path, store_url=store)
    with pytest.raises(RuntimeError, match="did not start"), live_server(other):
        pytest.fail("a second catalog over one bucket")
    assert "belongs to catalog" in capfd.readouterr().err
    file = tmp_path / "gram.tar"
    arguments = ["import", str(file), "--data-dir", str(tmp_path / "data")]
    refused = CliRunner().invoke(build(), arguments, env={"GRAMIAN_STORE_URL": store})
    assert refused.exit_code == ExitCode.FAILED
    assert "belongs to catalog" in refused.output


def test_a_catalog_that_was_lost_gives_its_bucket_up_by_hand(s3: S3Server, tmp_path: Path) -> None:
    store = s3.store_url()
    for attempt in ("first", "second"):
        settings = offline_settings(tmp_path / attempt, store_url=store)
        with live_server(settings) as running:  # a new catalog each time
            blobs = running.services.blobs
            assert running.services.catalog.identity() in blobs.get(KEY).decode()
        blobs.delete(KEY)


def test_matrices_are_exported_from_the_bucket(
    server: LiveServer, stored: Stored, tmp_path: Path
) -> None:
    manifest, _ = stored
    settings = server.services.settings
    file = tmp_path / "gram.tar"
    arguments = ["export", manifest.id, str(file), "--data-dir", str(settings.data_dir)]
    environment = {"GRAMIAN_STORE_URL": settings.store_url}
    done = CliRunner().invoke(build(), arguments, env=environment)
    assert done.exit_code == ExitCode.OK, done.output
    assert file.stat().st_size > 4 * 40 * 40 / 2
