"""Garbage goes and nothing else: what is young, needed or kept for ever stays."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import numpy as np
import pytest
from typer.testing import CliRunner

from service.cli.app import build
from service.client import ApiError, Client
from storage import datasets, matrices, previews
from storage.keys import new_job_id
from support.matrices import sealed_gram
from support.server import LiveServer, live_server, offline_settings
from support.service_state import put_sealed_gram, register
from workers.stops import run_name, stop_key

KERNEL = {"preset": "fc", "depth": 1}


def age(server: LiveServer, folder: str, days: float) -> None:
    then = time.time() - days * 86_400
    for path in (server.services.settings.store_dir / folder).rglob("*"):
        os.utime(path, (then, then))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LiveServer]:
    """Leftovers are kept for two days."""
    settings = offline_settings(tmp_path, compute_block_rows=64, retention_leftover_days=2.0)
    with live_server(settings) as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[Client]:
    with server.client() as opened:
        yield opened


def test_leftovers_go_when_they_are_old_and_only_when_told(
    server: LiveServer, client: Client
) -> None:
    blobs = server.services.blobs
    kept = put_sealed_gram(server, (24, 24))[0].id
    data = client.upload(np.eye(3, dtype=np.float32)).id
    manifest, arrays = sealed_gram(blobs, (16, 16))
    previews.write_array(blobs, manifest, "ntk", arrays["ntk"])
    orphan = manifest.id
    lost = datasets.ingest(blobs, np.ones((4, 2), np.float32)).id
    blobs.put("solves/mx-" + "0" * 32 + "/checkpoint", b"x" * 100)
    assert client.garbage(delete=True)["items"] == []  # all of them are new
    for folder in ("matrices", "datasets", "solves"):
        age(server, folder, 3)
    found = client.garbage()
    named = {item["name"]: item for item in found["items"]}
    assert set(named) == {orphan, lost, "mx-" + "0" * 32}
    assert named["mx-" + "0" * 32]["stored_bytes"] == 100
    assert orphan in matrices.list_matrices(blobs)  # looking deletes nothing
    result = CliRunner().invoke(build(), ["gc", "--delete", "--url", server.url])
    assert result.exit_code == 0, result.output
    assert orphan in result.output
    assert matrices.list_matrices(blobs) == [kept]
    assert datasets.list_datasets(blobs) == [data]
    assert client.garbage()["items"] == []
    assert client.slice(kept).shape == (24, 24)


def test_tiles_of_jobs_that_were_given_up_go_and_those_of_open_jobs_stay(
    server: LiveServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = client.upload(np.eye(3, dtype=np.float32)).id
    job = client.gram(data, kernel=KERNEL)
    plan = server.services.runner.kinds["gram"].plan(server.services.context, job.task)
    assert plan.manifest is not None
    assert plan.manifest.id == job.job.matrix
    register(server, plan.manifest)
    matrices.create(server.services.blobs, plan.manifest)
    settings = server.services.settings.model_copy(update={"retention_leftover_days": 0.0})
    monkeypatch.setattr(type(server.services), "settings", property(lambda self: settings))
    assert client.garbage()["items"] == []  # an open job builds it
    client.wait(client.cancel(job.id).id, timeout_seconds=20)
    assert [item["name"] for item in client.garbage(delete=True)["items"]] == [job.job.matrix]
    assert matrices.list_matrices(server.services.blobs) == []


def test_retention_takes_matrices_first_and_then_what_they_needed(
    server: LiveServer, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = client.upload(np.eye(3, dtype=np.float32)).id
    request = {"kernel": {"layers": []}, "x1": data}
    matrix = put_sealed_gram(server, (8, 8), provenance={"request": request})[0].id
    assert client.garbage()["items"] == []  # by default both are kept for ever
    changes = {"retention_dataset_days": 0.0}
    settings = server.services.settings.model_copy(update=changes)
    monkeypatch.setattr(type(server.services), "settings", property(lambda self: settings))
    assert client.garbage()["items"] == []  # a matrix was computed from it
    settings = settings.model_copy(update={"retention_matrix_days": 0.0})
    assert [item["name"] for item in client.garbage(delete=True)["items"]] == [matrix]
    assert [item["name"] for item in client.garbage(delete=True)["items"]] == [data]


def test_what_is_needed_by_now_is_kept(server: LiveServer, client: Client) -> None:
    from service.garbage import Item, collect

    matrix = put_sealed_gram(server, (24, 24))[0].id
    client.verify(matrix)  # stays queued: there is no cluster
    data = client.upload(np.eye(3, dtype=np.float32)).id
    needed = [
        Item("matrix", matrix, "past its retention", 1),
        # Uploaded again between looking and deleting.
        Item("dataset", data, "no record in the catalog", 1, recorded=False),
    ]
    assert collect(server.services.context, needed) == ([], needed)
    assert client.dataset(data).id in datasets.list_datasets(server.services.blobs)
    assert client.slice(matrix).shape == (24, 24)


def test_stop_flags_of_ended_jobs_go(server: LiveServer, client: Client) -> None:
    ended, waiting = new_job_id(), client.verify(put_sealed_gram(server, (8, 8))[0].id).id
    for job in (ended, waiting):
        server.services.blobs.put(stop_key(run_name(job, 1)), b"stop")
    assert client.garbage()["items"] == []
    age(server, "stops", 3)
    gone = client.garbage(delete=True)["items"]
    assert [(item["kind"], item["name"]) for item in gone] == [("flag", ended)]
    assert list(server.services.blobs.list("stops")) == [stop_key(run_name(waiting, 1))]


def test_only_one_at_a_time_deletes(server: LiveServer, client: Client) -> None:
    orphan = sealed_gram(server.services.blobs, (8, 8))[0].id
    age(server, "matrices", 3)
    # As another service that shares the catalog would.
    lease = server.services.catalog.acquire_lease("housekeeping", "another service", 60.0)
    assert lease is not None
    with pytest.raises(ApiError, match="Somebody else") as busy:
        client.garbage(delete=True)
    assert busy.value.status == 409
    assert [item["name"] for item in client.garbage()["items"]] == [orphan]
    server.services.catalog.release_lease(lease)
    assert [item["name"] for item in client.garbage(delete=True)["items"]] == [orphan]
    assert server.services.catalog.live_leases() == {}


def test_a_body_is_needed(server: LiveServer) -> None:
    with httpx2.Client(base_url=server.url) as http:
        assert http.post("/v1/admin/garbage").status_code == 415
        assert http.post("/v1/admin/garbage", json={"delete": True, "all": 1}).status_code == 422
