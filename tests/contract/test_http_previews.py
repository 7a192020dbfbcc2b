"""Pictures and statistics of matrices over REST."""

from __future__ import annotations

import io
from pathlib import Path

import httpx2
import numpy as np
import pytest

from storage import matrices, previews
from storage.format import MatrixManifest
from support.matrices import gram_manifest
from support.server import LiveServer, live_server, offline_settings
from support.service_state import put_sealed_gram, put_sealed_solution, register

Stored = tuple[MatrixManifest, dict[str, np.ndarray]]

JSON = {"Accept": "application/json"}
ROWS = 150


@pytest.fixture(scope="module")
def stored(server: LiveServer) -> Stored:
    return put_sealed_gram(server, (ROWS, ROWS), names=("nngp", "ntk"), tile_rows=64)


@pytest.fixture
def url(stored: Stored) -> str:
    return f"/v1/matrices/{stored[0].id}"


def load(response: httpx2.Response) -> np.ndarray:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-npy"
    return np.load(io.BytesIO(response.content), allow_pickle=False)


def test_an_overview_in_cells(http: httpx2.Client, url: str, stored: Stored) -> None:
    response = http.get(f"{url}/preview?array=ntk&size=20")
    values, whole = load(response), stored[1]["ntk"].astype(np.float64)
    assert values.dtype == np.dtype("<f4")
    expected = [
        [whole[i : i + 8, j : j + 8].mean() for j in range(0, 150, 8)] for i in range(0, 150, 8)
    ]
    np.testing.assert_allclose(values, expected, atol=1e-6)
    about = {n: response.headers[f"x-gramian-{n}"] for n in ("array", "shape", "rows", "cols")}
    assert about == {"array": "ntk", "shape": "150,150", "rows": "0,150", "cols": "0,150"}
    numbers = {n: response.headers[f"x-gramian-{n}"] for n in ("cell", "level", "holes")}
    assert numbers == {"cell": "8", "level": "8", "holes": "0"}
    low, high = map(float, response.headers["x-gramian-scale"].split(","))
    assert (low, high) == (values.min(), values.max())


def test_a_small_window_is_exact(http: httpx2.Client, url: str, stored: Stored) -> None:
    response = http.get(f"{url}/preview?array=ntk&rows=100:103&cols=7", headers=JSON)
    document = response.json()
    assert document["exact"]
    assert (document["rows"], document["cols"], document["cell"]) == ([100, 103], [7, 8], 1)
    np.testing.assert_array_equal(
        np.array(document["values"], np.float32), stored[1]["ntk"][100:103, 7:8]
    )


def test_a_window_grows_to_whole_cells(http: httpx2.Client, url: str) -> None:
    document = http.get(f"{url}/preview?array=ntk&rows=60:130&cols=3:149&size=10", headers=JSON)
    found = document.json()
    cell = found["cell"]
    assert cell == found["cell_columns"] == found["level"] * (cell // found["level"])
    assert found["rows"] == [60 // cell * cell, min(150, -(-130 // cell) * cell)]
    assert found["cols"] == [0, 150]
    shape = [-(-(b - a) // cell) for a, b in (found["rows"], found["cols"])]
    assert [len(found["values"]), len(found["values"][0])] == shape


def test_a_picture(http: httpx2.Client, url: str) -> None:
    response = http.get(f"{url}/preview.png?array=ntk&size=19&colors=diverging")
    assert response.status_code == 200
    assert response.headers["content-type"] == "image/png"
    assert response.content[:8] == b"\x89PNG\r\n\x1a\n"
    assert response.content[16:24] == (19).to_bytes(4, "big") * 2
    low, high = map(float, response.headers["x-gramian-scale"].split(","))
    assert low == -high
    fixed = http.get(f"{url}/preview.png?array=ntk&size=19&low=-2&high=3.5")
    assert fixed.headers["x-gramian-scale"] == "-2.0,3.5"
    assert fixed.content != response.content


@pytest.mark.parametrize("what", ["preview.png?size=20&", "preview?size=20&", "statistics?"])
def test_answers_are_kept_for_ever(
    http: httpx2.Client, server: LiveServer, url: str, stored: Stored, what: str
) -> None:
    first = http.get(f"{url}/{what}array=ntk")
    assert first.headers["cache-control"] == "private, max-age=31536000, immutable"
    etag = first.headers["etag"]
    again = http.get(f"{url}/{what}array=ntk", headers={"If-None-Match": etag})
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    assert http.get(f"{url}/{what}array=nngp").headers["etag"] != etag
    other = put_sealed_gram(server, (41 + len(what), 50), names=("nngp", "ntk"), symmetric=False)
    assert http.get(f"/v1/matrices/{other[0].id}/{what}array=ntk").headers["etag"] != etag


@pytest.mark.parametrize(
    ("query", "status", "kind"),
    [
        ("preview?rows=0:2", 422, "invalid-request"),  # two arrays: which one?
        ("preview?array=dual", 404, "not-found"),
        ("preview?array=../x", 422, "invalid-request"),
        ("preview?array=ntk&rows=3:3", 422, "invalid-request"),
        ("preview?array=ntk&cols=0:151", 422, "invalid-request"),
        ("preview?array=ntk&size=0", 422, "invalid-request"),
        ("preview?array=ntk&size=1025", 422, "invalid-request"),
        ("preview.png?array=ntk&colors=jet", 422, "invalid-request"),
        ("preview.png?array=ntk&low=1", 422, "invalid-request"),
        ("preview.png?array=ntk&low=2&high=1", 422, "invalid-request"),
        ("preview.png?array=ntk&low=nan&high=1", 422, "invalid-request"),
        ("statistics?array=dual", 404, "not-found"),
    ],
)
def test_what_is_refused(
    http: httpx2.Client, url: str, query: str, status: int, kind: str, unchanged: None
) -> None:
    response = http.get(f"{url}/{query}")
    assert (response.status_code, response.json()["kind"]) == (status, kind)


def test_json_for_few_cells_only(http: httpx2.Client, url: str) -> None:
    assert http.get(f"{url}/preview?array=ntk&size=100", headers=JSON).status_code == 413
    fitting = http.get(f"{url}/preview?array=ntk", headers=JSON)  # this server: 1000 numbers
    assert sum(map(len, fitting.json()["values"])) <= 1000
    assert http.get(f"{url}/preview?array=ntk", headers={"Accept": "text/html"}).status_code == 406


def test_nothing_that_is_not_sealed_is_seen(http: httpx2.Client, server: LiveServer) -> None:
    manifest = gram_manifest((64, 64), names=("nngp",), tile_rows=64, block_rows=64)
    blobs = server.services.blobs
    matrices.create(blobs, manifest)
    register(server, manifest)
    values = np.ones((64, 64), np.float32)
    matrices.write_chunk(blobs, manifest, "nngp", (0, 0), values)
    previews.write(blobs, manifest, "nngp", (0, 0), values)
    for what in ("preview", "preview.png", "statistics"):
        response = http.get(f"/v1/matrices/{manifest.id}/{what}")
        assert (response.status_code, response.json()["kind"]) == (409, "not-ready")
        assert http.get(f"/v1/matrices/mx-{'0' * 32}/{what}").status_code == 404


def test_results_that_are_tables(http: httpx2.Client, server: LiveServer) -> None:
    solution = put_sealed_solution(server, {"task": "solve", "n": 1}, (300, 3))
    document = http.get(f"/v1/matrices/{solution}/preview?size=30", headers=JSON).json()
    assert (document["cell"], document["cell_columns"], document["cols"]) == (10, 1, [0, 3])
    values = np.random.default_rng(0).standard_normal((300, 3))
    np.testing.assert_allclose(document["values"], values.reshape(30, 10, 3).mean(axis=1))
    found = http.get(f"/v1/matrices/{solution}/statistics").json()
    assert (found["minimum"], found["maximum"]) == (values.min(), values.max())
    assert (found["nonfinite"], found["diagonal"], found["tiles"]) == (0, None, None)
    assert (found["histogram"]["of"], sum(found["histogram"]["counts"])) == ("entries", 900)


def test_statistics_of_a_small_matrix_are_of_its_entries(
    http: httpx2.Client, url: str, stored: Stored
) -> None:
    found, values = http.get(f"{url}/statistics?array=ntk").json(), stored[1]["ntk"]
    assert (found["minimum"], found["maximum"]) == (float(values.min()), float(values.max()))
    histogram = found["histogram"]
    assert (histogram["of"], histogram["cell"]) == ("entries", 1)
    counts, edges = np.histogram(values, 64)
    np.testing.assert_allclose(histogram["edges"], edges, atol=1e-5)
    assert abs(np.array(histogram["counts"]) - counts).sum() <= 4  # at the edges of bins
    diagonal = np.diagonal(values).astype(np.float64)
    assert found["diagonal"]["trace"] == pytest.approx(diagonal.sum())
    np.testing.assert_allclose(found["diagonal"]["values"], diagonal)


def test_a_matrix_without_previews_gets_them(tmp_path: Path) -> None:
    """As after an import: every request makes as many as the limit allows, and says how many
    are left."""
    settings = offline_settings(tmp_path, max_preview_rebuild_bytes=5 * 64 * 64 * 4)
    with live_server(settings) as server, server.http() as http:
        manifest, arrays = put_sealed_gram(server, (512, 512), block_rows=64, tile_rows=64)
        url = f"/v1/matrices/{manifest.id}/preview?size=64"
        answers = [http.get(url) for _ in range(8)]
        assert [a.status_code for a in answers] == [503] * 7 + [200]  # 36 tiles
        problem = answers[0].json()
        assert (problem["kind"], problem["missing_tiles"]) == ("preview-missing", 31)
        assert answers[0].headers["retry-after"] == "1"
        expected = arrays["ntk"].astype(np.float64).reshape(64, 8, 64, 8).mean(axis=(1, 3))
        np.testing.assert_allclose(load(answers[-1]), expected, atol=1e-6)
        # They go with the matrix.
        assert http.delete(f"/v1/matrices/{manifest.id}").status_code == 204
        folder = server.services.settings.store_dir / "matrices"
        assert not [path for path in folder.rglob("*") if path.is_file()]
