"""Matrices over REST: slices and their limits, lists, deleting."""

from __future__ import annotations

import io
from pathlib import Path

import httpx2
import numpy as np
import pytest

from service.client import ApiError
from storage.format import MatrixManifest
from support.server import LiveServer
from support.service_state import put_sealed_gram

Stored = tuple[MatrixManifest, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def stored(server: LiveServer) -> Stored:
    return put_sealed_gram(server, (45, 45), names=("nngp", "ntk"))


@pytest.fixture
def url(stored: Stored) -> str:
    return f"/v1/matrices/{stored[0].id}/slice"


def load(response: httpx2.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-npy"
    return np.load(io.BytesIO(response.content), allow_pickle=False)


@pytest.mark.parametrize(
    ("query", "rows", "cols"),
    [
        ("", slice(None), slice(None)),
        ("rows=0:3", slice(0, 3), slice(None)),
        ("rows=:3&cols=40:", slice(0, 3), slice(40, 45)),
        ("rows=44&cols=0", slice(44, 45), slice(0, 1)),
        ("rows=:&cols=7:30", slice(None), slice(7, 30)),
    ],
)
def test_slices_as_npy(
    http: httpx2.Client, url: str, stored: Stored, query: str, rows: slice, cols: slice
) -> None:
    values = load(http.get(f"{url}?array=ntk&{query}"))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, stored[1]["ntk"][rows, cols])


def test_a_slice_as_json(http: httpx2.Client, url: str, stored: Stored) -> None:
    response = http.get(
        f"{url}?rows=2:4&cols=1:3&array=nngp", headers={"Accept": "application/json"}
    )
    document = response.json()
    assert (document["rows"], document["cols"], document["array"]) == ([2, 4], [1, 3], "nngp")
    np.testing.assert_array_equal(
        np.array(document["values"], np.float32), stored[1]["nngp"][2:4, 1:3]
    )


@pytest.mark.parametrize(
    ("query", "accept", "status", "kind"),
    [
        ("array=ntk&rows=3:3", "*/*", 422, "invalid-request"),
        ("array=ntk&rows=5:3", "*/*", 422, "invalid-request"),
        ("array=ntk&rows=0:46", "*/*", 422, "invalid-request"),
        ("array=ntk&rows=45", "*/*", 422, "invalid-request"),
        ("array=ntk&rows=-1", "*/*", 422, "invalid-request"),
        ("array=ntk&rows=0:9:2", "*/*", 422, "invalid-request"),
        ("array=ntk&rows=%D9%A1", "*/*", 422, "invalid-request"),
        ("array=ntk&rows=" + "9" * 30, "*/*", 422, "invalid-request"),
        ("rows=0:2", "*/*", 422, "invalid-request"),  # two arrays: which one?
        ("array=dual", "*/*", 404, "not-found"),
        ("array=../x", "*/*", 422, "invalid-request"),
        ("array=ntk", "text/html", 406, "not-acceptable"),
        ("array=ntk", "application/json;q=0", 406, "not-acceptable"),
        ("array=ntk", "application/json", 413, "too-large"),
    ],
)
def test_slices_that_cannot_be(
    http: httpx2.Client, url: str, query: str, accept: str, status: int, kind: str
) -> None:
    response = http.get(f"{url}?{query}", headers={"Accept": accept})
    assert response.status_code == status, response.text
    assert response.json()["kind"] == kind


def test_slices_over_the_byte_limit_are_refused_with_numbers(
    server: LiveServer, http: httpx2.Client
) -> None:
    manifest, _ = put_sealed_gram(server, (600, 600), tile_rows=256)
    url = f"/v1/matrices/{manifest.id}/slice"
    document = http.get(url).json()
    assert document["kind"] == "too-large"
    assert document["limit_bytes"] == server.services.settings.max_slice_bytes
    assert load(http.get(f"{url}?rows=:300")).shape == (300, 600)


def test_the_client_fetches_more_than_one_slice_may_hold(
    server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.client.arrays._PIECE_BYTES", 100_000)
    manifest, arrays = put_sealed_gram(server, (601, 601), tile_rows=64)
    seen: list[tuple[int, int]] = []
    with server.client() as client:
        path = client.fetch(
            manifest.id, tmp_path / "k.npy", on_bytes=lambda d, t: seen.append((d, t))
        )
        np.testing.assert_array_equal(np.load(path), arrays["ntk"])
        assert seen[-1] == (arrays["ntk"].nbytes, arrays["ntk"].nbytes)
        assert len(seen) > 5
        with pytest.raises(ApiError, match="no array") as caught:
            client.fetch(manifest.id, tmp_path / "other.npy", array="dual")
        assert caught.value.kind == "not-found"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["k.npy"]


def test_a_matrix_says_what_it_is(http: httpx2.Client, stored: Stored) -> None:
    document = http.get(f"/v1/matrices/{stored[0].id}").json()
    assert document["state"] == "sealed"
    assert [a["name"] for a in document["arrays"]] == ["nngp", "ntk"]
    assert document["arrays"][1] == {
        "name": "ntk",
        "shape": [45, 45],
        "chunk_shape": [16, 16],
        "dtype": "float32",
        "symmetric": True,
    }
    assert len(document["digest"]) == 64
    assert document["provenance"]
    for link in ("self", "slice"):
        query = "?array=ntk" if link == "slice" else ""
        assert http.get(document["links"][link] + query).status_code == 200


def test_a_deleted_matrix_is_gone_from_disk_and_lists(
    server: LiveServer, http: httpx2.Client
) -> None:
    manifest, _ = put_sealed_gram(server, (30, 30))
    url = f"/v1/matrices/{manifest.id}"
    assert http.delete(url).status_code == 204
    assert http.get(url).status_code == 404
    assert http.get(f"{url}/zarr/zarr.json").status_code == 404
    assert http.delete(url).status_code == 404
    assert not list(server.services.blobs.list(f"matrices/{manifest.id}"))


def test_pages_reach_every_matrix_once(server: LiveServer, http: httpx2.Client) -> None:
    for n in range(5):
        put_sealed_gram(server, (20 + n, 20 + n))
    everything = [m["id"] for m in http.get("/v1/matrices?limit=300").json()["items"]]
    seen: list[str] = []
    path = "/v1/matrices?limit=2&state=sealed"
    while path:
        page = http.get(path).json()
        assert len(page["items"]) <= 2
        seen += [m["id"] for m in page["items"]]
        path = page["next"]
    assert seen == everything
    assert len(set(seen)) == len(seen)
