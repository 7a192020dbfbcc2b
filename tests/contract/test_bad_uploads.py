"""Uploads that are no data sets: the status, the kind, and nothing written anywhere."""

from __future__ import annotations

import io
import struct
import zipfile

import httpx2
import numpy as np
import pytest

from support.problems import check
from support.server import LiveServer
from support.service_state import npy

X = np.random.default_rng(0).standard_normal((20, 5)).astype(np.float32)


def with_value(value: float, dtype: str = "float32") -> np.ndarray:
    x = X.astype(dtype)
    x[7, 3] = value
    return x


def npz(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def lying_header() -> bytes:
    """A .npy header that announces 10^12 numbers, and eight bytes."""
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"\0" * 8


BAD_UPLOADS: dict[str, tuple[dict[str, bytes], int, str]] = {
    "one dimension": ({"x": npy(np.ones(5, np.float32))}, 422, "invalid-array"),
    "no dimension": ({"x": npy(np.float32(1))}, 422, "invalid-array"),
    "zero samples": ({"x": npy(np.ones((0, 5), np.float32))}, 422, "invalid-array"),
    "zero features": ({"x": npy(np.ones((5, 0), np.float32))}, 422, "invalid-array"),
    "NaN": ({"x": npy(with_value(np.nan))}, 422, "invalid-array"),
    "infinity": ({"x": npy(with_value(np.inf, "float64"))}, 422, "invalid-array"),
    "objects": (
        {"x": npy(np.array([[1, "a"]], dtype=object), allow_pickle=True)},
        422,
        "invalid-array",
    ),
    "text": ({"x": npy(np.array([["a", "b"]]))}, 422, "invalid-array"),
    "complex": ({"x": npy(X.astype(np.complex64))}, 422, "invalid-array"),
    "truncated": ({"x": npy(X)[:-10]}, 422, "invalid-array"),
    "trailing bytes": ({"x": npy(X) + b"\0"}, 422, "invalid-array"),
    "truncated header": ({"x": npy(X)[:20]}, 422, "invalid-array"),
    "empty file": ({"x": b""}, 422, "invalid-array"),
    "not an array": ({"x": b"GIF89a"}, 422, "invalid-array"),
    "lying header": ({"x": lying_header()}, 413, "too-large"),
    "zip bomb": ({"x": npz(x=npy(np.zeros((1024, 5000), np.float32)))}, 413, "too-large"),
    "truncated npz": ({"x": npz(x=npy(X))[:-30]}, 422, "invalid-array"),
    "npz with path tricks": ({"x": npz(**{"../x": npy(X)})}, 422, "invalid-array"),
    "targets too short": ({"x": npy(X), "y": npy(np.arange(19))}, 422, "invalid-array"),
    "targets NaN": ({"x": npy(X), "y": npy(np.full(20, np.nan))}, 422, "invalid-array"),
    "targets 3-d": ({"x": npy(X), "y": npy(np.ones((20, 1, 1)))}, 422, "invalid-array"),
    "targets twice": (
        {"x": npz(x=npy(X), y=npy(np.arange(20))), "y": npy(np.arange(20))},
        422,
        "invalid-request",
    ),
    "no samples": ({"y": npy(np.arange(20))}, 422, "invalid-request"),
    "unknown part": ({"x": npy(X), "z": npy(X)}, 422, "invalid-request"),
}


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("case", BAD_UPLOADS)
def test_bad_uploads_are_refused_and_leave_nothing(http: httpx2.Client, case: str) -> None:
    parts, status, kind = BAD_UPLOADS[case]
    files = {name: (f"{name}.npy", data) for name, data in parts.items()}
    document = check(http.post("/v1/datasets", files=files), status, kind)
    assert document["advice"]


@pytest.mark.usefixtures("unchanged")
def test_names_that_are_no_labels_are_refused(http: httpx2.Client) -> None:
    for name in ("a" * 201, "line\nbreak", "a" * 5000):
        response = http.post("/v1/datasets", files={"x": npy(X)}, data={"name": name})
        check(response, 422, "invalid-request")


@pytest.mark.usefixtures("unchanged")
def test_uploads_over_the_limit_are_refused_declared_or_not(
    http: httpx2.Client, server: LiveServer
) -> None:
    limit = server.services.settings.max_upload_bytes
    boundary = b"b" * 20
    head = b"--" + boundary + b'\r\nContent-Disposition: form-data; name="x"; filename="x"\r\n\r\n'
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"}

    def endless():  # no Content-Length: only counting finds it
        yield head
        for _ in range(2 * limit // 65536):
            yield b"\0" * 65536

    document = check(
        http.post("/v1/datasets", content=endless(), headers=headers), 413, "too-large"
    )
    assert document["limit_bytes"] == limit
    assert document["setting"] == "max_upload_bytes"
    declared = head + b"\0" * (limit + 1)
    check(http.post("/v1/datasets", content=declared, headers=headers), 413, "too-large")


@pytest.mark.usefixtures("unchanged")
def test_multipart_bodies_that_break_off_are_refused(http: httpx2.Client) -> None:
    def send(
        body: bytes, content_type: str = "multipart/form-data; boundary=zz"
    ) -> httpx2.Response:
        return http.post("/v1/datasets", content=body, headers={"Content-Type": content_type})

    part = b'--zz\r\nContent-Disposition: form-data; name="x"; filename="x"\r\n\r\n'
    check(send(part + npy(X)), 400, "malformed-body")
    check(send(b"rubbish"), 400, "malformed-body")
    check(send(b"", "multipart/form-data"), 400, "malformed-body")
    check(send(npy(X), "application/octet-stream"), 415, "unsupported-media-type")
    check(send(b"{}", "application/json"), 415, "unsupported-media-type")
