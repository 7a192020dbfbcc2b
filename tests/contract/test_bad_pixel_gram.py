"""Pixel-pair requests that cannot work: refused with advice before any work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from service.client import ApiError
from support.server import LiveServer, live_server, offline_settings
from support.service_state import put_sealed_gram

CONV = {"op": "conv", "filter": [3, 3]}
RELU = {"op": "activation", "fn": "relu"}
PIXELS = {"layers": [CONV, RELU, CONV]}
READOUT = {"layers": [CONV, RELU, {"op": "global_avg_pool"}, {"op": "dense"}]}
STRIDED = {"layers": [{**CONV, "strides": [1, 1]}, {"op": "activation", "fn": "erf"}, CONV]}
POOL = {"layers": [{"op": "avg_pool", "window": [5, 5]}, CONV]}


@pytest.fixture(scope="module")
def data(upload: Callable[..., str]) -> dict[str, str]:
    rng = np.random.default_rng(0)
    return {
        "images": upload(rng.random((3, 6, 5, 2)).astype(np.float32)),
        "large": upload(np.zeros((1, 96, 96, 1), np.float32)),
        "rows": upload(rng.random((3, 7)).astype(np.float32)),
        "nothing": "ds-" + "0" * 32,
    }


BAD: dict[str, tuple[dict[str, Any], int, str]] = {
    "unknown image": ({"image": 3}, 422, "invalid-gram"),
    "unknown other image": ({"other": 3}, 422, "invalid-gram"),
    "negative image": ({"image": -1}, 422, "invalid-request"),
    "image that is no integer": ({"image": "0"}, 422, "invalid-request"),
    "unknown data set": ({"x": "nothing"}, 404, "not-found"),
    "samples without pixels": ({"x": "rows"}, 422, "invalid-inputs"),
    "readout": ({"kernel": READOUT}, 422, "invalid-kernel"),
    "fully connected": ({"kernel": {"preset": "fc", "depth": 1}}, 422, "invalid-kernel"),
    "no kernel": ({"kernel": {"layers": []}}, 422, "invalid-kernel"),
    "pool that does not divide": ({"kernel": POOL}, 422, "invalid-inputs"),
    "no outputs": ({"outputs": []}, 422, "invalid-request"),
    "unknown output": ({"outputs": ["dense"]}, 422, "invalid-request"),
    "unknown field": ({"tile_rows": 64}, 422, "invalid-request"),
    "tensor beyond a worker": ({"x": "large", "kernel": STRIDED}, 422, "exceeds-memory"),
}


@pytest.mark.parametrize("route", ["/v1/jobs", "/v1/estimates"])
@pytest.mark.parametrize("case", BAD)
def test_bad_requests_are_refused(
    http: httpx2.Client, data: dict[str, str], case: str, route: str
) -> None:
    changes, status, kind = BAD[case]
    task = {"type": "pixel_gram", "kernel": PIXELS, "x": "images", **changes}
    response = http.post(route, json={"task": {**task, "x": data[task["x"]]}})
    if route == "/v1/estimates" and kind == "exceeds-memory":
        assert response.status_code == 200
        answer = response.json()
        assert not answer["admitted"]
        assert answer["refusal"]["kind"] == kind
        assert answer["estimate"]["bytes_written"] > 0
        return
    assert (response.status_code, response.json()["kind"]) == (status, kind), response.text
    assert response.json()["advice"]


def test_too_many_pixels_are_refused_with_numbers(tmp_path: Path) -> None:
    with (
        live_server(offline_settings(tmp_path, max_matrix_rows=29)) as server,
        server.client() as client,
    ):
        images = client.upload(np.ones((1, 6, 5, 1), np.float32)).id
        with pytest.raises(ApiError, match="30 rows") as refusal:
            client.pixel_gram(PIXELS, images)
        assert refusal.value.kind == "too-large"


def test_pixels_have_no_targets_of_their_own(
    http: httpx2.Client, server: LiveServer, upload: Callable[..., str]
) -> None:
    """Thirty samples with targets: as many as the image of one of them has pixels."""
    images = upload(np.ones((30, 6, 5, 1), np.float32), np.arange(30) % 2)
    request = {"task": "pixel_gram", "kernel": {}, "x1": images, "images": [0, 0]}
    gram = put_sealed_gram(server, (30, 30), provenance={"request": request})[0].id
    response = http.post("/v1/jobs", json={"task": {"type": "solve", "matrix": gram}})
    assert (response.status_code, response.json()["kind"]) == (422, "invalid-solve")
    assert "pixels" in response.json()["detail"]
