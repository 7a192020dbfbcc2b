"""Jobs over REST, on a service whose cluster never comes: submit, repeat, list, cancel, refuse."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from support.server import LiveServer, live_server, offline_settings
from support.service_state import snapshot

RNG = np.random.default_rng(1)


@pytest.fixture(scope="module")
def train(upload: Callable[..., str]) -> str:
    return upload(RNG.standard_normal((100, 8)).astype(np.float32), np.arange(100) % 10)


def body(x1: str, **changes: Any) -> dict[str, Any]:
    return {"task": {"type": "gram", "kernel": {"preset": "fc", "depth": 3}, "x1": x1, **changes}}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "nothing happened for 20 seconds"
        time.sleep(0.01)


def cancel(http: httpx2.Client, job: str) -> None:
    assert http.delete(f"/v1/jobs/{job}").status_code == 202
    wait_for(lambda: http.get(f"/v1/jobs/{job}").json()["state"] == "cancelled")


def test_a_job_is_accepted_with_a_place_and_an_estimate(http: httpx2.Client, train: str) -> None:
    response = http.post("/v1/jobs", json=body(train))
    assert response.status_code == 202
    job = response.json()
    assert response.headers["location"] == f"/v1/jobs/{job['id']}"
    assert int(response.headers["retry-after"]) >= 1
    assert job["state"] == "queued"
    assert job["matrix"].startswith("mx-")
    assert job["estimate"]["tiles"] == 3
    assert job["estimate"]["pairs"] == 100 * 101 // 2
    assert http.get(response.headers["location"]).json() == job
    result = http.get(job["links"]["result"])
    assert (result.status_code, result.json()["kind"]) == (409, "not-ready")
    assert "retry-after" in result.headers
    cancel(http, job["id"])
    result = http.get(job["links"]["result"])
    assert (result.status_code, result.json()["kind"]) == (409, "job-failed")
    assert "retry-after" not in http.get(f"/v1/jobs/{job['id']}").headers


def test_equal_requests_have_one_job_while_it_is_wanted(http: httpx2.Client, train: str) -> None:
    first = http.post("/v1/jobs", json=body(train, outputs=["nngp"])).json()
    spelled = {"layers": [{"op": "dense", "w_std": 2**0.5}, {"op": "activation", "fn": "relu"}] * 3}
    spelled["layers"].append({"op": "dense", "w_std": 2**0.5})
    for repeat in (
        body(train, outputs=["nngp"]),
        body(train, outputs=["nngp"], dtype="float32"),  # the default, spelled out
        body(train, outputs=["nngp"], tile_rows=128),  # does not change a bit
        body(train, outputs=["nngp"], kernel=spelled),
    ):
        response = http.post("/v1/jobs", json=repeat)
        assert response.status_code == 200, response.text
        assert response.json()["id"] == first["id"]
    other = http.post("/v1/jobs", json=body(train, outputs=["nngp"], dtype="float64"))
    assert other.status_code == 202
    cancel(http, first["id"])
    again = http.post("/v1/jobs", json=body(train, outputs=["nngp"]))
    assert again.status_code == 202
    assert again.json()["id"] != first["id"]
    assert again.json()["matrix"] == first["matrix"]
    for job in (other, again):
        cancel(http, job.json()["id"])


def test_an_idempotency_key_stands_for_one_body(
    http: httpx2.Client, server: LiveServer, train: str
) -> None:
    headers = {"Idempotency-Key": "retry-1"}
    request = body(train, kernel={"preset": "fc", "depth": 5})
    first = http.post("/v1/jobs", json=request, headers=headers)
    assert first.status_code == 202
    repeat = http.post("/v1/jobs", json=request, headers=headers)
    assert (repeat.status_code, repeat.json()["id"]) == (200, first.json()["id"])
    before = snapshot(server)
    other = http.post(
        "/v1/jobs", json=body(train, kernel={"preset": "fc", "depth": 6}), headers=headers
    )
    assert (other.status_code, other.json()["kind"]) == (422, "idempotency-conflict")
    assert snapshot(server) == before
    cancel(http, first.json()["id"])
    # The key goes on standing for its job, also after that has ended.
    late = http.post("/v1/jobs", json=request, headers=headers)
    assert (late.status_code, late.json()["id"]) == (200, first.json()["id"])


def test_estimates_record_nothing(http: httpx2.Client, server: LiveServer, train: str) -> None:
    before = snapshot(server)
    response = http.post("/v1/estimates", json=body(train, outputs=["ntk", "nngp"]))
    assert response.status_code == 200
    document = response.json()
    assert document["admitted"] is True
    assert document["refusal"] is None
    estimate = document["estimate"]
    # Two symmetric arrays of 2 x 2 chunks of 64 x 64 float32, three of them stored.
    assert estimate["bytes_written"] == 2 * 3 * (64 * 64 * 4 + 4)
    assert estimate["basis"] == "model"
    assert estimate["peak_bytes_per_worker"] > 0
    assert snapshot(server) == before


def test_lists_filter_by_state_and_page(http: httpx2.Client, train: str) -> None:
    ids = [
        http.post("/v1/jobs", json=body(train, kernel={"preset": "fc", "depth": 20 + n})).json()[
            "id"
        ]
        for n in range(3)
    ]
    cancel(http, ids[0])
    queued = [job["id"] for job in http.get("/v1/jobs?state=queued").json()["items"]]
    assert queued == [ids[2], ids[1]]
    assert ids[0] in [j["id"] for j in http.get("/v1/jobs?state=cancelled").json()["items"]]
    page = http.get("/v1/jobs?state=queued&limit=1").json()
    assert [j["id"] for j in page["items"]] == [ids[2]]
    rest = http.get(page["next"]).json()
    assert [j["id"] for j in rest["items"]] == [ids[1]]
    assert rest["next"] is None
    for wrong in ("state=sleeping", "matrix=mx-1", "type=a%20b"):
        assert http.get(f"/v1/jobs?{wrong}").status_code == 422
    matrix = http.get(f"/v1/jobs/{ids[2]}").json()["matrix"]
    asked = f"/v1/jobs?matrix={matrix}&type=gram&limit=1"
    assert [j["id"] for j in http.get(asked).json()["items"]] == [ids[2]]
    assert http.get(f"/v1/jobs?matrix={matrix}&type=solve").json()["items"] == []
    following = http.get("/v1/jobs?type=gram&limit=1").json()["next"]
    assert "type=gram" in following
    for job in ids[1:]:
        cancel(http, job)


def test_cancelling_is_repeatable_and_says_so(http: httpx2.Client, train: str) -> None:
    job = http.post("/v1/jobs", json=body(train, kernel={"preset": "fc", "depth": 40})).json()
    cancel(http, job["id"])
    again = http.delete(f"/v1/jobs/{job['id']}")
    assert (again.status_code, again.json()["state"]) == (202, "cancelled")
    assert again.json()["cancelling"] is False


def test_what_a_queued_job_reads_cannot_be_deleted(
    http: httpx2.Client, upload: Callable[..., str]
) -> None:
    data = upload(RNG.standard_normal((10, 4)))
    job = http.post("/v1/jobs", json=body(data)).json()
    refused = http.delete(f"/v1/datasets/{data}")
    assert (refused.status_code, refused.json()["kind"]) == (409, "conflict")
    assert job["id"] in refused.json()["detail"]
    cancel(http, job["id"])
    assert http.delete(f"/v1/datasets/{data}").status_code == 204
    assert http.get(f"/v1/datasets/{data}").status_code == 404
    assert http.delete(f"/v1/datasets/{data}").status_code == 404


def test_quotas_refuse_with_numbers_and_record_nothing(tmp_path: Path) -> None:
    settings = offline_settings(
        tmp_path, max_open_jobs=1, max_matrix_rows=60, max_store_bytes=10**6
    )
    with live_server(settings) as server, server.http() as http, server.client() as client:
        small = client.upload(RNG.standard_normal((50, 4)).astype(np.float32)).id
        large = client.upload(RNG.standard_normal((61, 4)).astype(np.float32)).id
        first = http.post("/v1/jobs", json=body(small))
        assert first.status_code == 202
        before = snapshot(server)
        too_many = http.post("/v1/jobs", json=body(small, kernel={"preset": "fc", "depth": 1}))
        assert (too_many.status_code, too_many.json()["kind"]) == (429, "too-many-jobs")
        assert int(too_many.headers["retry-after"]) > 0
        assert too_many.json()["max_open_jobs"] == 1
        # A repeat needs no new job, so it is answered although none is free.
        assert http.post("/v1/jobs", json=body(small)).status_code == 200
        too_large = http.post("/v1/jobs", json=body(large))
        assert (too_large.status_code, too_large.json()["kind"]) == (413, "too-large")
        assert (too_large.json()["rows"], too_large.json()["limit_rows"]) == (61, 60)
        refusal = http.post("/v1/estimates", json=body(large)).json()
        assert refusal["admitted"] is False
        assert refusal["refusal"]["kind"] == "too-large"
        assert snapshot(server) == before
        big = http.post(
            "/v1/datasets",
            files={"x": ("x.npy", _npy_bytes(RNG.standard_normal((1000, 130))))},
        )
        assert (big.status_code, big.json()["kind"]) == (507, "insufficient-storage")
        assert big.json()["max_store_bytes"] == 10**6
        assert snapshot(server) == before


def _npy_bytes(array: np.ndarray) -> bytes:
    from support.service_state import npy

    return npy(array)
