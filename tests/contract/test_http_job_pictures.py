"""Jobs as pictures: what is there of a matrix, which tiles are done, and the machines."""

from __future__ import annotations

import secrets
import zlib

import httpx2
import numpy as np
import pytest

from service.jobs.tile_progress import TILE_FAILED
from storage import matrices, previews
from storage.catalog.records import TileRecord
from storage.format import MatrixManifest
from support.matrices import gram_manifest
from support.server import LiveServer
from support.service_state import put_sealed_gram, register

ROWS, TILE = 256, 64


def add_job(server: LiveServer, matrix: str | None, kind: str = "gram") -> str:
    job = f"job-{secrets.token_hex(16)}"
    server.services.catalog.create_job(
        id=job,
        task={"type": kind},
        request_digest=secrets.token_hex(8),
        body_digest="b",
        matrix_id=matrix,
    )
    return job


@pytest.fixture(scope="module")
def building(server: LiveServer) -> tuple[str, MatrixManifest]:
    """A job whose matrix has three of its ten tiles."""
    manifest = gram_manifest((ROWS, ROWS), block_rows=TILE, tile_rows=TILE)
    services = server.services
    matrices.create(services.blobs, manifest)
    register(server, manifest)
    for number, tile in enumerate([(0, 0), (0, 1), (2, 3)]):
        values = np.full((TILE, TILE), number + 1.0, np.float32)
        matrices.write_chunk(services.blobs, manifest, "ntk", tile, values)
        previews.write(services.blobs, manifest, "ntk", tile, values)
        record = TileRecord("ntk", *tile, bytes(32), 0.25, 1.0, 3.0, 0, 10)
        services.catalog.add_tiles(manifest.id, [record])
    return add_job(server, manifest.id), manifest


def pixels(response: httpx2.Response, edge: int) -> np.ndarray:
    """Indices into the palette of a square picture."""
    data = response.content
    start = data.index(b"IDAT")
    length = int.from_bytes(data[start - 4 : start], "big")
    rows = np.frombuffer(zlib.decompress(data[start + 4 : start + 4 + length]), np.uint8)
    return rows.reshape(edge, edge + 1)[:, 1:]


def test_a_half_done_matrix_has_holes(
    http: httpx2.Client, building: tuple[str, MatrixManifest]
) -> None:
    job, manifest = building
    response = http.get(f"/v1/jobs/{job}/preview.png")
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    assert "etag" not in response.headers
    found = pixels(response, ROWS // 8)
    assert response.headers["x-gramian-cell"] == "8"  # never the entries themselves
    there = np.zeros((4, 4), int)
    there[0, 0], there[0, 1], there[1, 0], there[2, 3], there[3, 2] = 2, 128, 128, 255, 255
    np.testing.assert_array_equal(found, np.kron(there, np.ones((8, 8), int)))
    assert response.headers["x-gramian-holes"] == str(11 * 64)
    for what in ("preview", "preview.png", "statistics", "slice?rows=0:1", "zarr/zarr.json"):
        assert http.get(f"/v1/matrices/{manifest.id}/{what}").status_code == 409


def test_the_tile_map(http: httpx2.Client, building: tuple[str, MatrixManifest]) -> None:
    job, manifest = building
    response = http.get(f"/v1/jobs/{job}/tiles")
    found = response.json()
    assert response.headers["cache-control"] == "no-store"
    assert (found["matrix"], found["array"], found["state"]) == (manifest.id, "ntk", "queued")
    assert (found["grid"], found["symmetric"], found["tile_rows"]) == ([4, 4], True, TILE)
    assert (found["tiles_total"], found["tiles_done"], found["tile_seconds"]) == (10, 3, 0.75)
    assert found["total"] == np.triu(np.ones((4, 4), int)).tolist()
    assert found["done"] == [[1, 1, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert found["seconds"][2] == [0.0, 0.0, 0.0, 0.25]
    assert (found["workers"], found["failures"]) == ([], [])
    coarse = http.get(f"/v1/jobs/{job}/tiles?cells=2").json()
    assert (coarse["tiles_per_cell"], coarse["total"]) == (2, [[3, 4], [0, 3]])
    assert coarse["done"] == [[2, 0], [0, 1]]
    for cells in ("0", "257", "x"):
        assert http.get(f"/v1/jobs/{job}/tiles?cells={cells}").status_code == 422


def test_failures_and_workers_are_told(http: httpx2.Client, server: LiveServer) -> None:
    job = add_job(server, put_sealed_gram(server, (48, 48))[0].id)
    catalog = server.services.catalog
    for number in range(60):
        failure = {
            "tile": [0, 1],
            "kind": "tile-failed",
            "message": f"<script>{number}",
            "advice": "",
            "fatal": False,
        }
        catalog.append_event(job, TILE_FAILED, failure)
    share = {"worker": "tcp://127.0.0.1:9", "tiles": 4, "seconds": 1.5}
    catalog.save_progress(job, {"phase": "computing", "workers": [share]})
    found = http.get(f"/v1/jobs/{job}/tiles").json()
    assert [f["message"] for f in found["failures"]] == [f"<script>{n}" for n in range(59, 9, -1)]
    assert found["failures"][0]["at"].endswith("Z")
    assert found["workers"] == [share]


def test_a_complete_matrix_is_the_picture_of_its_job(
    http: httpx2.Client, server: LiveServer
) -> None:
    manifest, _ = put_sealed_gram(server, (72, 72))
    mine = http.get(f"/v1/jobs/{add_job(server, manifest.id)}/preview.png")
    theirs = http.get(f"/v1/matrices/{manifest.id}/preview.png")
    assert mine.content == theirs.content
    assert mine.headers["etag"] == theirs.headers["etag"]
    assert "immutable" in mine.headers["cache-control"]


def test_jobs_that_have_nothing_to_show(http: httpx2.Client, server: LiveServer) -> None:
    waiting = add_job(server, "mx-" + "9" * 32)
    summary = add_job(server, None)
    solve = add_job(server, None, "solve")
    answers = {
        (waiting, "preview.png"): (409, "not-ready"),
        (waiting, "tiles"): (409, "not-ready"),
        (summary, "preview.png"): (404, "not-found"),
        (solve, "tiles"): (422, "invalid-request"),
        ("job-" + "0" * 32, "tiles"): (404, "not-found"),
        ("job-" + "0" * 32, "preview.png"): (404, "not-found"),
    }
    for (job, what), expected in answers.items():
        response = http.get(f"/v1/jobs/{job}/{what}")
        assert (response.status_code, response.json()["kind"]) == expected


def test_the_machines_without_a_scheduler(http: httpx2.Client, server: LiveServer) -> None:
    response = http.get("/v1/cluster")
    found = response.json()
    assert response.headers["cache-control"] == "no-store"
    assert (found["scheduler"], found["workers"], found["threads"]) == (False, [], 0)
    assert set(found["jobs"]) == {"queued", "running", "succeeded", "failed", "cancelled"}
    assert found["jobs"]["queued"] == len(server.services.catalog.list_jobs(500)[0])
    assert found["store"]["free_bytes"] > 0
    before = found["store"]["used_bytes"]
    added = put_sealed_gram(server, (80, 80))[0]
    after = http.get("/v1/cluster").json()["store"]["used_bytes"]
    assert after - before == added.stored_bytes


def test_the_plot_of_a_solve(http: httpx2.Client, server: LiveServer) -> None:
    job, catalog = add_job(server, None, "solve"), server.services.catalog
    url = f"/v1/jobs/{job}/plot.svg"
    nothing = http.get(url)
    assert (nothing.status_code, nothing.json()["kind"]) == (409, "not-ready")
    catalog.save_progress(job, {"history": [[1, 0.5], [2, 0.25]], "tolerance": 1e-3})
    running = http.get(url)
    assert running.headers["content-type"].startswith("image/svg+xml")
    assert running.headers["cache-control"] == "no-store"
    assert "default-src 'none'" in running.headers["content-security-policy"]
    assert running.text.startswith("<svg")
    assert running.text.count("<polyline") == 2
    gram = add_job(server, None)
    refused = http.get(f"/v1/jobs/{gram}/plot.svg")
    assert (refused.status_code, refused.json()["kind"]) == (422, "invalid-request")
