"""Data sets over REST: what is accepted, under which id, and where the bytes go."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import httpx2
import numpy as np
import pytest

from storage import datasets
from storage.datasets import DatasetInfo
from support.server import LiveServer
from support.service_state import npy

RNG = np.random.default_rng(2)
X = RNG.standard_normal((30, 6)).astype(np.float32)
Y = np.arange(30) % 4


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


def test_an_upload_is_stored_under_the_digest_of_its_content(
    server: LiveServer, http: httpx2.Client
) -> None:
    files = {"x": ("anything.bin", npy(X)), "y": ("y", npy(Y))}
    response = http.post("/v1/datasets", files=files, data={"name": "train"})
    assert response.status_code == 201
    document = response.json()
    assert response.headers["location"] == f"/v1/datasets/{document['id']}"
    assert document["id"] == f"ds-{document['digest'][:32]}"
    assert (document["shape"], document["dtype"], document["name"]) == ([30, 6], "float32", "train")
    assert document["targets"] == {"shape": [30], "dtype": "int64"}
    services = server.services
    info = DatasetInfo.from_json(services.catalog.get_dataset(document["id"]).info)
    np.testing.assert_array_equal(datasets.read_rows(services.blobs, info, 0, 30), X)
    np.testing.assert_array_equal(datasets.read_targets(services.blobs, info), Y)
    assert list(services.settings.scratch_dir.iterdir()) == []
    # The same content in other clothes is the same data set; its first name stays.
    for again in (
        {"x": ("x.npz", npz(x=X, y=Y))},
        {"x": ("x.npy", npy(np.asfortranarray(X))), "y": ("y.npy", npy(Y.astype(np.uint8)))},
        {"x": ("x.npy", npy(X.astype(">f4"))), "y": ("y.npy", npy(Y))},
    ):
        repeat = http.post("/v1/datasets", files=again, data={"name": "other"})
        assert repeat.status_code == 200
        assert repeat.json() == document
    assert http.get(document["links"]["self"]).json() == document


@pytest.mark.parametrize(
    ("x", "dtype", "shape"),
    [
        (X.astype(np.float64), "float64", [30, 6]),
        (RNG.integers(0, 256, (8, 5, 5, 3)).astype(np.uint8), "float32", [8, 5, 5, 3]),
        (X[:7] > 0, "float32", [7, 6]),
        (X.astype(np.float16), "float32", [30, 6]),
        (np.arange(40).reshape(10, 4), "float64", [10, 4]),
    ],
)
def test_dtypes_and_shapes(
    http: httpx2.Client, x: np.ndarray, dtype: str, shape: list[int]
) -> None:
    document = http.post("/v1/datasets", files={"x": ("x.npy", npy(x))}).json()
    assert (document["dtype"], document["shape"], document["targets"]) == (dtype, shape, None)


def test_the_client_streams_files_and_memory_maps(server: LiveServer, tmp_path: Path) -> None:
    x, y = X + 5, RNG.standard_normal((30, 2))
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "both.npz", x=x, y=y)
    with server.client() as client:
        from_array = client.upload(x, y, name="arrays")
        from_map = client.upload(np.load(tmp_path / "x.npy", mmap_mode="r"), y)
        from_archive = client.upload(tmp_path / "both.npz")
        assert from_array.id == from_map.id == from_archive.id
        assert from_array.shape == (30, 6)
        assert client.upload(tmp_path / "x.npy").id != from_array.id  # without targets
        assert client.dataset(from_array.id).document["targets"]["shape"] == [30, 2]
        listed = [d.id for d in client.datasets()]
        assert from_array.id in listed
        assert len(listed) == len(set(listed))
        client.delete_dataset(from_array.id)
        assert from_array.id not in [d.id for d in client.datasets()]


def test_a_client_that_goes_away_leaves_nothing(server: LiveServer, http: httpx2.Client) -> None:
    head = b'--zz\r\nContent-Disposition: form-data; name="x"; filename="x"\r\n\r\n'

    def half():
        yield head + npy(X)[:100]
        raise ConnectionAbortedError("the user pressed Ctrl-C")

    headers = {"Content-Type": "multipart/form-data; boundary=zz"}
    with pytest.raises(ConnectionAbortedError):
        http.post("/v1/datasets", content=half(), headers=headers)
    scratch = server.services.settings.scratch_dir
    with server.http() as other:
        assert other.get("/healthz").status_code == 200
    for _ in range(500):
        if not list(scratch.iterdir()):
            break
        other = server.http()
        other.get("/healthz")
        other.close()
    assert list(scratch.iterdir()) == []


@pytest.fixture(scope="module")
def stored(upload: Callable[..., str]) -> str:
    return upload(X, Y)


@pytest.mark.parametrize(("part", "whole"), [("x", X), ("y", Y)])
def test_rows_come_as_npy_and_as_json(
    http: httpx2.Client, stored: str, part: str, whole: np.ndarray
) -> None:
    path = f"/v1/datasets/{stored}/rows"
    for rows, expected in (("3:7", whole[3:7]), ("29", whole[29:]), (":2", whole[:2])):
        answer = http.get(path, params={"rows": rows, "part": part})
        assert answer.headers["content-type"] == "application/x-npy"
        values = np.load(io.BytesIO(answer.content))
        assert values.dtype == whole.dtype
        np.testing.assert_array_equal(values, expected)
        document = http.get(
            path, params={"rows": rows, "part": part}, headers={"Accept": "application/json"}
        ).json()
        assert (document["array"], document["cols"]) == (part, None)
        np.testing.assert_array_equal(np.array(document["values"], whole.dtype), expected)
    np.testing.assert_array_equal(
        np.load(io.BytesIO(http.get(path, params={"part": part}).content)), whole
    )


@pytest.mark.parametrize(
    ("query", "accept", "kind"),
    [
        ("rows=0:31", "*/*", "invalid-request"),
        ("rows=5:5", "*/*", "invalid-request"),
        ("rows=-1", "*/*", "invalid-request"),
        ("part=z", "*/*", "invalid-request"),
        ("rows=0:2", "text/html", "not-acceptable"),
    ],
)
def test_rows_that_cannot_be_had(
    http: httpx2.Client, stored: str, query: str, accept: str, kind: str
) -> None:
    answer = http.get(f"/v1/datasets/{stored}/rows?{query}", headers={"Accept": accept})
    assert answer.json()["kind"] == kind


def test_rows_of_targets_that_are_not_there(
    http: httpx2.Client, upload: Callable[..., str]
) -> None:
    answer = http.get(f"/v1/datasets/{upload(X + 1)}/rows?part=y")
    assert (answer.status_code, answer.json()["kind"]) == (404, "not-found")


def test_rows_are_limited_in_bytes_and_as_json_in_numbers(
    http: httpx2.Client, upload: Callable[..., str]
) -> None:
    """`max_json_numbers` is 1000 and `max_slice_bytes` 1 MiB here."""
    path = f"/v1/datasets/{upload(np.ones((101, 10), np.float32))}/rows"
    too_many = http.get(path, headers={"Accept": "application/json"})
    assert (too_many.status_code, too_many.json()["limit_numbers"]) == (413, 1000)
    assert http.get(path, params={"rows": "0:100"}).status_code == 200
    large = f"/v1/datasets/{upload(np.ones((263, 1000), np.float32))}/rows"
    assert http.get(large).json()["limit_bytes"] == 1 << 20
    assert http.get(large, params={"rows": "0:262"}).status_code == 200
