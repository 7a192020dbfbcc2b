"""Every bad input of the specification: the status, the kind, and nothing written anywhere."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest

from support.server import LiveServer, raw_request
from support.service_state import npy, put_sealed_gram

Upload = Callable[..., str]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 5)).astype(np.float32)
MISSING_DATASET = "ds-" + "0" * 32
MISSING_MATRIX = "mx-" + "0" * 32
MISSING_JOB = "job-" + "0" * 32


def check(response: httpx2.Response, status: int, kind: str) -> dict[str, Any]:
    """The response is the problem document that it should be."""
    assert (response.status_code, response.headers["content-type"]) == (
        status,
        "application/problem+json",
    ), response.text
    document: dict[str, Any] = response.json()
    assert document["status"] == status
    assert document["kind"] == kind, document
    assert document["type"] == f"urn:gramian:problem:{kind}"
    assert document["detail"]
    assert document["title"]
    assert document["instance"] == response.request.url.path
    assert "Traceback" not in response.text
    assert "site-packages" not in response.text
    return document


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


@pytest.fixture(scope="module")
def made(server: LiveServer, upload: Upload) -> dict[str, str]:
    """Data sets and matrices for requests that are wrong in one thing only."""
    y = np.arange(20) % 3
    train = upload(X, y)
    request = {"kernel": {"layers": []}, "x1": train, "x2": None}
    return {
        "train": train,
        "unlabelled": upload(X + 1),
        "real": upload(X + 2, RNG.standard_normal(20)),
        "long": upload(RNG.standard_normal((30, 5)), np.arange(30) % 3),
        "wide": upload(RNG.standard_normal((20, 6)).astype(np.float32)),
        "pictures": upload(RNG.standard_normal((4, 6, 5, 3)).astype(np.float32)),
        "images": upload(RNG.standard_normal((20, 5, 1)).astype(np.float32)),
        "gram": put_sealed_gram(server, (20, 20), provenance={"request": request})[0].id,
        "rectangle": put_sealed_gram(
            server, (10, 20), symmetric=False, provenance={"request": request}
        )[0].id,
        "narrow": put_sealed_gram(
            server, (10, 15), symmetric=False, provenance={"request": request}
        )[0].id,
    }


def gram(**changes: Any) -> dict[str, Any]:
    return {"type": "gram", "kernel": "fc", "x1": "train", **changes}


def solve(**changes: Any) -> dict[str, Any]:
    return {"type": "solve", "matrix": "gram", **changes}


DENSE, RELU = {"op": "dense"}, {"op": "activation", "fn": "relu"}
CONV, GAP = {"op": "conv", "filter": [3, 3]}, {"op": "global_avg_pool"}
IMAGES = {"op": "conv_equilibrium", "filter": [3, 3], "w_var": 0.5, "u_var": 0.5}


def pixels(*layers: Any, x1: str = "pictures") -> dict[str, Any]:
    """A Gram of images of 6 x 5 x 3 pixels."""
    return gram(kernel={"layers": list(layers)}, x1=x1)


BAD_CONVOLUTIONS: dict[str, tuple[Any, int, str]] = {
    "conv without a filter": (pixels({"op": "conv"}, GAP, DENSE), 422, "invalid-kernel"),
    "empty filter": (pixels({"op": "conv", "filter": []}, GAP, DENSE), 422, "invalid-kernel"),
    "filter of no pixels": (pixels({**CONV, "filter": [0, 3]}, GAP, DENSE), 422, "invalid-kernel"),
    "filter as text": (pixels({**CONV, "filter": "3x3"}, GAP, DENSE), 422, "invalid-kernel"),
    "filter of three axes": (
        pixels({**CONV, "filter": [3, 3, 3]}, GAP, DENSE),
        422,
        "invalid-kernel",
    ),
    "huge filter": (pixels({**CONV, "filter": [10**9, 3]}, GAP, DENSE), 422, "invalid-kernel"),
    "unknown padding": (pixels({**CONV, "padding": "MIRROR"}, GAP, DENSE), 422, "invalid-kernel"),
    "strides of one axis": (pixels({**CONV, "strides": [2]}, GAP, DENSE), 422, "invalid-kernel"),
    "conv without readout": (pixels(CONV, RELU), 422, "invalid-kernel"),
    "kernel of pixels": (pixels(CONV, RELU, CONV), 422, "invalid-kernel"),
    "dense on pixels": (pixels(CONV, RELU, DENSE), 422, "invalid-kernel"),
    "conv after flatten": (
        pixels(CONV, {"op": "flatten"}, CONV, GAP, DENSE),
        422,
        "invalid-kernel",
    ),
    "conv in the standard parametrisation": (
        gram(
            kernel={"layers": [CONV, RELU, GAP, DENSE], "parameterization": "standard"},
            x1="pictures",
        ),
        422,
        "invalid-kernel",
    ),
    "conv and an injection": (
        pixels(CONV, {"op": "input_injection"}, GAP, DENSE),
        422,
        "invalid-kernel",
    ),
    "conv of rows": (pixels(CONV, RELU, GAP, DENSE, x1="train"), 422, "invalid-inputs"),
    "conv of sequences": (pixels(CONV, RELU, GAP, DENSE, x1="images"), 422, "invalid-inputs"),
    "pool that does not divide": (
        pixels(CONV, RELU, {"op": "avg_pool", "window": [2, 2]}, GAP, DENSE),
        422,
        "invalid-inputs",
    ),
    "VALID filter larger than the image": (
        pixels({"op": "conv", "filter": [3, 7], "padding": "VALID"}, GAP, DENSE),
        422,
        "invalid-inputs",
    ),
    "preset on rows": (gram(kernel="myrtle5"), 422, "invalid-inputs"),
    "depth zero of a cntk": (
        gram(kernel={"preset": "cntk", "depth": 0}, x1="pictures"),
        422,
        "invalid-kernel",
    ),
    "equilibrium of images that expands": (
        gram(kernel={"preset": "cdeq", "w_var": 1.0}, x1="pictures"),
        422,
        "invalid-kernel",
    ),
    "equilibrium of images with an even filter": (
        pixels({**IMAGES, "filter": [2, 3]}),
        422,
        "invalid-kernel",
    ),
    "equilibrium of images and a layer": (pixels(IMAGES, DENSE), 422, "invalid-kernel"),
    "equilibrium of rows": (gram(kernel="cdeq"), 422, "invalid-inputs"),
}

BAD_TASKS: dict[str, tuple[Any, int, str]] = {
    **BAD_CONVOLUTIONS,
    "no task type": ({"x1": "train"}, 422, "invalid-request"),
    "unknown task type": ({"type": "teapot"}, 422, "invalid-request"),
    "unknown field": (gram(colour="red"), 422, "invalid-request"),
    "no kernel": ({"type": "gram", "x1": "train"}, 422, "invalid-request"),
    "missing data set": (gram(x1=MISSING_DATASET), 404, "not-found"),
    "missing second data set": (gram(x2=MISSING_DATASET), 404, "not-found"),
    "id with path tricks": (gram(x1="ds-../../etc/passwd"), 422, "invalid-request"),
    "id with a line break": (gram(x1=MISSING_DATASET + "\n"), 422, "invalid-request"),
    "id of another kind": (gram(x1=MISSING_MATRIX), 422, "invalid-request"),
    "features differ": (gram(x2="wide"), 422, "invalid-gram"),
    "sample shapes differ": (gram(x2="images"), 422, "invalid-gram"),
    "unknown preset": (gram(kernel="transformer9"), 422, "invalid-kernel"),
    "unknown op": (gram(kernel={"layers": [{"op": "convolve"}]}), 422, "invalid-kernel"),
    "unknown layer field": (
        gram(kernel={"layers": [{"op": "dense", "units": 3}]}),
        422,
        "invalid-kernel",
    ),
    "unknown activation": (
        gram(kernel={"layers": [DENSE, {"op": "activation", "fn": "swoosh"}, DENSE]}),
        422,
        "invalid-kernel",
    ),
    "activation after a skip of one": (
        gram(kernel={"layers": [DENSE, RELU, {"op": "residual", "body": [DENSE]}, RELU, DENSE]}),
        422,
        "invalid-kernel",
    ),
    "residual without weights": (
        gram(kernel={"layers": [DENSE, {"op": "residual", "body": [RELU]}, DENSE]}),
        422,
        "invalid-kernel",
    ),
    "equilibrium that expands": (gram(kernel={"preset": "deq", "w_var": 1}), 422, "invalid-kernel"),
    "equilibrium of nothing": (
        gram(kernel={"layers": [{"op": "fixed_point", "body": [RELU, DENSE]}]}),
        422,
        "invalid-kernel",
    ),
    "frequencies without a seed": (
        gram(kernel={"layers": [{"op": "fourier_features", "kind": "gaussian"}, DENSE]}),
        422,
        "invalid-kernel",
    ),
    "nothing trained": (
        gram(kernel={"layers": [{"op": "dense", "trained": "none"}]}, outputs=["ntk"]),
        422,
        "invalid-kernel",
    ),
    "no layers": (gram(kernel={"layers": []}), 422, "invalid-kernel"),
    "no readout": (gram(kernel={"layers": [DENSE, RELU]}), 422, "invalid-kernel"),
    "depth zero": (gram(kernel={"preset": "fc", "depth": 0}), 422, "invalid-kernel"),
    "negative depth": (gram(kernel={"preset": "fc", "depth": -3}), 422, "invalid-kernel"),
    "impossible depth": (gram(kernel={"preset": "fc", "depth": 10**9}), 422, "invalid-kernel"),
    "depth as text": (gram(kernel={"preset": "fc", "depth": "3"}), 422, "invalid-kernel"),
    "too many layers": (gram(kernel={"layers": [DENSE, RELU] * 700}), 422, "invalid-kernel"),
    "negative deviation": (gram(kernel={"preset": "fc", "w_std": -1}), 422, "invalid-kernel"),
    "no outputs": (gram(outputs=[]), 422, "invalid-request"),
    "outputs twice": (gram(outputs=["ntk", "ntk"]), 422, "invalid-gram"),
    "unknown output": (gram(outputs=["rbf"]), 422, "invalid-request"),
    "unknown dtype": (gram(dtype="float16"), 422, "invalid-request"),
    "odd tile size": (gram(tile_rows=100), 422, "invalid-gram"),
    "tile size zero": (gram(tile_rows=0), 422, "invalid-request"),
    "negative ridge": (solve(ridge=-1e-9), 422, "invalid-request"),
    "ridge as text": (solve(ridge="small"), 422, "invalid-request"),
    "missing matrix": (solve(matrix=MISSING_MATRIX), 404, "not-found"),
    "matrix id with path tricks": (solve(matrix="mx-/../../"), 422, "invalid-request"),
    "rectangular matrix": (solve(matrix="rectangle"), 422, "invalid-solve"),
    "array that is not there": (solve(array="nngp"), 422, "invalid-solve"),
    "array with path tricks": (solve(array="../ntk"), 422, "invalid-request"),
    "targets of the wrong length": (solve(targets="long"), 422, "invalid-solve"),
    "data set without targets": (solve(targets="unlabelled"), 422, "invalid-solve"),
    "labels wanted": (solve(targets="real", encoding="one_hot"), 422, "invalid-solve"),
    "cross of the wrong width": (solve(cross="narrow"), 422, "invalid-solve"),
    "test targets of the wrong length": (
        solve(cross="rectangle", test_targets="train"),
        422,
        "invalid-solve",
    ),
    "test targets without cross": (solve(test_targets="train"), 422, "invalid-solve"),
    "unknown method": (solve(method="magic"), 422, "invalid-request"),
    "tolerance zero": (solve(tolerance=0), 422, "invalid-request"),
    "no inducing points": (solve(method="nystrom", inducing=0), 422, "invalid-request"),
    "too many inducing points": (solve(method="nystrom", inducing=21), 422, "invalid-solve"),
    "inducing points for cg": (solve(method="cg", inducing=5), 422, "invalid-solve"),
    "task is a list": ([], 422, "invalid-request"),
    "task is null": (None, 422, "invalid-request"),
}


def resolved(task: Any, made: dict[str, str]) -> Any:
    """The task with names of `made` replaced by their ids."""
    if not isinstance(task, dict):
        return task
    fields = ("x1", "x2", "matrix", "targets", "cross", "test_targets")
    return {
        name: made.get(value, value) if name in fields and isinstance(value, str) else value
        for name, value in task.items()
    }


@pytest.mark.parametrize("route", ["/v1/jobs", "/v1/estimates"])
@pytest.mark.parametrize("case", BAD_TASKS)
def test_bad_tasks_are_refused_before_any_work(
    http: httpx2.Client,
    made: dict[str, str],
    request: pytest.FixtureRequest,
    case: str,
    route: str,
) -> None:
    request.getfixturevalue("unchanged")
    task, status, kind = BAD_TASKS[case]
    check(http.post(route, json={"task": resolved(task, made)}), status, kind)


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        (b"", 422, "invalid-request"),
        (b"{", 400, "malformed-body"),
        (b'{"task": ', 400, "malformed-body"),
        (b'{"task": {"type": "gram"}} trailing', 400, "malformed-body"),
        (b"\xff\xfe{}", 400, "malformed-body"),
        (b"[" * 60_000, 400, "malformed-body"),
        (b"null", 422, "invalid-request"),
        (b"3", 422, "invalid-request"),
        (b'{"task": {"type": "solve", "matrix": "mx-%s", "ridge": NaN}}' % (b"0" * 32), 422,
         "invalid-request"),
        (b'{"task": {"type": "solve", "matrix": "mx-%s", "ridge": 1e999}}' % (b"0" * 32), 422,
         "invalid-request"),
        (b'{"task": {"type": "solve", "seed": %s}}' % (b"9" * 5000), 400, "malformed-body"),
        (b" " * 70_000, 413, "too-large"),
    ],
)  # fmt: skip
def test_bodies_that_are_no_requests(
    http: httpx2.Client, body: bytes, status: int, kind: str
) -> None:
    response = http.post("/v1/jobs", content=body, headers={"Content-Type": "application/json"})
    check(response, status, kind)


@pytest.mark.usefixtures("unchanged")
def test_other_media_types_are_named(http: httpx2.Client) -> None:
    for headers in ({"Content-Type": "text/plain"}, {"Content-Type": "application/xml"}, {}):
        response = http.post("/v1/jobs", content=b"{}", headers=headers)
        check(response, 415, "unsupported-media-type")


@pytest.mark.parametrize("key", ["a b", "x" * 256, "schl\u00fcssel".encode()])
def test_idempotency_keys_are_short_and_printable(
    http: httpx2.Client, made: dict[str, str], key: str | bytes
) -> None:
    response = http.post(
        "/v1/jobs",
        content=json.dumps({"task": resolved(gram(), made)}),
        headers=[("Content-Type", "application/json"), ("Idempotency-Key", key)],
    )
    check(response, 422, "invalid-request")


PLACES = [
    f"/v1/datasets/{MISSING_DATASET}",
    f"/v1/jobs/{MISSING_JOB}",
    f"/v1/jobs/{MISSING_JOB}/result",
    f"/v1/jobs/{MISSING_JOB}/events",
    f"/v1/matrices/{MISSING_MATRIX}",
    f"/v1/matrices/{MISSING_MATRIX}/slice",
    f"/v1/matrices/{MISSING_MATRIX}/zarr/zarr.json",
    "/v1/kernels/none",
    "/v1/nothing",
    "/v1/jobs/",
    "/nothing/at/all",
]


@pytest.mark.parametrize("path", PLACES)
def test_things_that_are_not_there(http: httpx2.Client, path: str) -> None:
    check(http.get(path), 404, "not-found")


TRICKS = ["..", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "a" * 90, "DS-" + "0" * 32, "ds-0%0a"]


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("name", TRICKS)
@pytest.mark.parametrize("folder", ["datasets", "jobs", "matrices"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_ids_with_path_tricks_name_nothing(
    server: LiveServer, folder: str, name: str, method: str
) -> None:
    status, headers, body = raw_request(server, method, f"/v1/{folder}/{name}")
    assert status in (404, 405)
    assert headers["content-type"] == "application/problem+json"
    assert json.loads(body)["kind"] in ("not-found", "invalid-key", "method-not-allowed")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/v1/jobs", "GET, POST"),
        ("DELETE", "/v1/datasets", "GET, POST"),
        ("PATCH", f"/v1/datasets/{MISSING_DATASET}", "DELETE, GET"),
        ("POST", f"/v1/matrices/{MISSING_MATRIX}/zarr/ntk/c/0/0", "GET, HEAD"),
        ("PUT", f"/v1/matrices/{MISSING_MATRIX}/zarr/zarr.json", "GET, HEAD"),
        ("POST", "/healthz", "GET"),
    ],
)
def test_methods_that_are_not_there(
    http: httpx2.Client, method: str, path: str, allowed: str
) -> None:
    response = http.request(method, path)
    check(response, 405, "method-not-allowed")
    assert response.headers["allow"] == allowed


def test_lists_refuse_pages_that_cannot_be(http: httpx2.Client) -> None:
    for path in ("/v1/datasets", "/v1/jobs", "/v1/matrices"):
        for query in ("limit=0", "limit=-1", "limit=301", "limit=x", "cursor=rubbish"):
            response = http.get(f"{path}?{query}")
            assert response.status_code == 422, (path, query, response.text)
            assert response.json()["kind"] in ("invalid-request", "invalid-cursor")


def test_a_bug_tells_its_request_id_and_nothing_else(
    server: LiveServer, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret detail in /home/user")

    monkeypatch.setattr(type(server.services.catalog), "list_jobs", broken)
    response = http.get("/v1/jobs", headers={"X-Request-ID": "abc-123"})
    document = check(response, 500, "internal")
    assert document["request_id"] == response.headers["x-request-id"] == "abc-123"
    assert "secret" not in response.text
    assert "RuntimeError" not in response.text
