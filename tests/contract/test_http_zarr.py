"""Zarr over HTTP, request by request: ranges, tags, caching, keys, damage."""

from __future__ import annotations

import json

import httpx2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage import matrices
from storage.chunks import encode_chunk
from storage.format import MatrixManifest
from support.matrices import gram_manifest, random_array
from support.server import LiveServer, raw_request
from support.service_state import put_sealed_gram, register

Stored = tuple[MatrixManifest, dict[str, np.ndarray]]


@pytest.fixture(scope="module")
def stored(server: LiveServer) -> Stored:
    """A symmetric matrix of 3 x 3 chunks, six of them stored."""
    return put_sealed_gram(server, (40, 40), names=("nngp", "ntk"))


@pytest.fixture
def base(stored: Stored) -> str:
    return f"/v1/matrices/{stored[0].id}/zarr"


def chunk_bytes(stored: Stored, i: int, j: int, name: str = "ntk") -> bytes:
    """The bytes that a full, unsymmetric Zarr array would have for this chunk."""
    manifest, arrays = stored
    layout = manifest.array(name)
    return bytes(encode_chunk(arrays[name][layout.chunk_extent((i, j))], layout))


@pytest.mark.parametrize(("i", "j"), [(0, 0), (0, 2), (2, 0), (1, 2), (2, 1), (2, 2)])
def test_every_chunk_of_the_square_is_there(
    http: httpx2.Client, base: str, stored: Stored, i: int, j: int
) -> None:
    response = http.get(f"{base}/ntk/c/{i}/{j}")
    assert response.status_code == 200
    assert response.content == chunk_bytes(stored, i, j)
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["accept-ranges"] == "bytes"
    assert "immutable" in response.headers["cache-control"]
    assert response.headers["etag"].startswith('"')


@pytest.mark.parametrize("key", ["ntk/c/0/1", "ntk/c/1/0", "zarr.json", "ntk/zarr.json"])
def test_head_tells_what_get_would_without_a_body(http: httpx2.Client, base: str, key: str) -> None:
    head, get = http.head(f"{base}/{key}"), http.get(f"{base}/{key}")
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    for name in ("content-length", "content-type", "etag", "accept-ranges", "cache-control"):
        assert head.headers[name] == get.headers[name]
    assert int(head.headers["content-length"]) == len(get.content)


RANGES = {
    "bytes=0-9": (0, 10),
    "bytes=5-": (5, None),
    "bytes=-7": (-7, None),
    "bytes=-999999": (0, None),
    "bytes=100-999999": (100, None),
    "bytes= 3-3": (3, 4),
    "BYTES=0-0": (0, 1),
}


@pytest.mark.parametrize("value", RANGES)
@pytest.mark.parametrize("key", ["ntk/c/0/1", "ntk/c/1/0", "zarr.json"])
def test_single_ranges(http: httpx2.Client, base: str, key: str, value: str) -> None:
    whole = http.get(f"{base}/{key}").content
    start, stop = RANGES[value]
    expected = whole[start:stop]
    response = http.get(f"{base}/{key}", headers={"Range": value})
    assert response.status_code == 206
    assert response.content == expected
    first = start if start >= 0 else len(whole) + start
    last = first + len(expected) - 1
    assert response.headers["content-range"] == f"bytes {first}-{last}/{len(whole)}"
    assert int(response.headers["content-length"]) == len(expected)


@pytest.mark.parametrize(
    "value", ["items=0-9", "bytes=0-1,4-5", "bytes=9-3", "bytes=a-b", "bytes=", "bytes=--5", "0-9"]
)
def test_what_is_no_range_is_ignored(http: httpx2.Client, base: str, value: str) -> None:
    response = http.get(f"{base}/ntk/c/0/0", headers={"Range": value})
    assert response.status_code == 200
    assert "content-range" not in response.headers
    assert len(response.content) == int(response.headers["content-length"])


@pytest.mark.parametrize("value", ["bytes=99999999-", "bytes=-0"])
@pytest.mark.parametrize("key", ["ntk/c/0/1", "ntk/c/1/0"])
def test_ranges_outside_are_416(http: httpx2.Client, base: str, key: str, value: str) -> None:
    size = len(http.get(f"{base}/{key}").content)
    response = http.get(f"{base}/{key}", headers={"Range": value})
    assert response.status_code == 416
    assert response.headers["content-range"] == f"bytes */{size}"
    assert response.json()["kind"] == "range-not-satisfiable"


@pytest.mark.parametrize("key", ["ntk/c/0/1", "ntk/c/1/0", "zarr.json"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_current_copy_is_304(http: httpx2.Client, base: str, key: str, method: str) -> None:
    etag = http.get(f"{base}/{key}").headers["etag"]
    for value in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = http.request(method, f"{base}/{key}", headers={"If-None-Match": value})
        assert response.status_code == 304
        assert response.content == b""
        assert response.headers["etag"] == etag
    stale = http.request(method, f"{base}/{key}", headers={"If-None-Match": '"other"'})
    assert stale.status_code == 200
    if method == "GET":
        assert stale.content == http.get(f"{base}/{key}").content


def test_a_chunk_and_its_mirror_have_different_tags(http: httpx2.Client, base: str) -> None:
    tags = {http.head(f"{base}/ntk/c/{i}/{j}").headers["etag"] for i, j in ((0, 1), (1, 0))}
    assert len(tags) == 2


def test_if_range_serves_parts_of_the_same_object_only(http: httpx2.Client, base: str) -> None:
    url = f"{base}/ntk/c/0/1"
    etag = http.head(url).headers["etag"]
    same = http.get(url, headers={"Range": "bytes=0-3", "If-Range": etag})
    other = http.get(url, headers={"Range": "bytes=0-3", "If-Range": '"other"'})
    assert (same.status_code, len(same.content)) == (206, 4)
    assert other.status_code == 200


BAD_KEYS = [
    "",
    "c/0/0",
    "ntk",
    "ntk/",
    "ntk/c",
    "ntk/c/0",
    "ntk/c/00/0",
    "ntk/c/0/00",
    "ntk/c/-1/0",
    "ntk/c/+1/0",
    "ntk/c/3/0",
    "ntk/c/0/3",
    "ntk/c/0/0/0",
    "ntk/c/0/0/",
    "ntk/c/0/0 ",
    "ntk/c/0/1e0",
    "ntk/c/0/%D9%A1",
    "ntk//c/0/0",
    "/ntk/c/0/0",
    "NTK/c/0/0",
    "other/c/0/0",
    "ntk/../nngp/zarr.json",
    "../manifest.json",
    "..%2fmanifest.json",
    "%2e%2e/manifest.json",
    "ntk/c/..%2f..%2f..%2f..%2fcatalog.sqlite",
    "%2fetc%2fpasswd",
    "manifest.json",
    "ntk/c/0/0%00",
    ".zarray",
    ".zattrs",
    ".zgroup",
    ".zmetadata",
    "ntk/.zarray",
    "x" * 300,
]


@pytest.mark.parametrize("key", BAD_KEYS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_other_keys_name_nothing(server: LiveServer, base: str, key: str, method: str) -> None:
    status, headers, body = raw_request(server, method, f"{base}/{key.replace(' ', '%20')}")
    assert status in (404, 422)
    assert headers["content-type"] == "application/problem+json"
    if method == "GET":
        assert json.loads(body)["kind"] in ("not-found", "invalid-key", "invalid-request")
    else:
        assert body == b""


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    key=st.text(
        st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=30
    )
)
def test_no_text_reaches_anything_but_keys_of_the_matrix(
    server: LiveServer, base: str, stored: Stored, key: str
) -> None:
    known = {"zarr.json", "ntk/zarr.json", "nngp/zarr.json"}
    known |= {f"{n}/c/{i}/{j}" for n in ("ntk", "nngp") for i in range(3) for j in range(3)}
    escaped = key.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
    status, _, _ = raw_request(server, "GET", f"{base}/{escaped}")
    assert status == (200 if key in known else 404)


def test_an_unsealed_matrix_is_not_readable_at_all(server: LiveServer, http: httpx2.Client) -> None:
    services = server.services
    manifest = gram_manifest((24, 24))
    register(server, manifest)
    matrices.create(services.blobs, manifest)
    matrices.write_array(services.blobs, manifest, "ntk", random_array((24, 24), symmetric=True))
    base = f"/v1/matrices/{manifest.id}"
    for path in ("zarr/zarr.json", "zarr/ntk/zarr.json", "zarr/ntk/c/0/0", "zarr/.zarray", "slice"):
        response = http.get(f"{base}/{path}")
        assert response.status_code == 409, path
        assert response.json()["kind"] == "not-ready"
        assert "retry-after" in response.headers


def damaged(server: LiveServer, seed: int) -> tuple[MatrixManifest, str]:
    """A sealed matrix of its own, and the URL of its chunk (0, 1)."""
    manifest, _ = put_sealed_gram(server, (40 + seed, 40 + seed))
    return manifest, f"/v1/matrices/{manifest.id}/zarr/ntk/c"


def chunk_file(server: LiveServer, manifest: MatrixManifest):
    path = server.services.blobs.path(f"matrices/{manifest.id}/ntk/c/0/1")
    assert path is not None
    return path


def test_a_lost_chunk_is_an_error_and_never_fill_values(
    server: LiveServer, http: httpx2.Client
) -> None:
    manifest, url = damaged(server, 1)
    chunk_file(server, manifest).unlink()
    for key in ("0/1", "1/0"):
        response = http.get(f"{url}/{key}")
        assert response.status_code == 500, key
        assert response.json()["kind"] == "missing-chunk"
    assert http.get(f"{url}/0/0").status_code == 200


def test_a_truncated_chunk_is_an_error(server: LiveServer, http: httpx2.Client) -> None:
    manifest, url = damaged(server, 2)
    path = chunk_file(server, manifest)
    path.write_bytes(path.read_bytes()[:-1])
    for key in ("0/1", "1/0"):
        response = http.get(f"{url}/{key}")
        assert response.status_code == 500, key
        assert response.json()["kind"] == "corrupt-chunk"


def test_a_flipped_bit_is_found_by_whoever_decodes(server: LiveServer, http: httpx2.Client) -> None:
    """The service decodes mirrors itself; a passed-through chunk carries its checksum along."""
    manifest, url = damaged(server, 3)
    path = chunk_file(server, manifest)
    data = bytearray(path.read_bytes())
    data[17] ^= 1
    path.write_bytes(data)
    assert http.get(f"{url}/1/0").json()["kind"] == "corrupt-chunk"
    assert http.get(f"/v1/matrices/{manifest.id}/slice").json()["kind"] == "corrupt-chunk"
    zarr = pytest.importorskip("zarr")
    array = zarr.open(f"{server.url}/v1/matrices/{manifest.id}/zarr", mode="r")["ntk"]
    with pytest.raises(Exception, match=r"(?i)checksum|crc"):
        array[0:16, 16:32]
