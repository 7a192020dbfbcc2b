"""Tasks that ask for more than the service has room for: told apart, with numbers and a way out."""

from __future__ import annotations

from pathlib import Path

import httpx2
import numpy as np
import pytest

from support.server import live_server, offline_settings
from support.service_state import put_sealed_gram
from support.task_requests import (
    KERNEL,
    analysis,
    classify,
    dynamics,
    label_kernel,
    likelihood,
    resolved,
    ridge,
    spectrum,
    svm,
)

RNG = np.random.default_rng(1)


def test_what_is_too_large_for_one_worker_is_refused_with_numbers(tmp_path: Path) -> None:
    with (
        live_server(offline_settings(tmp_path, max_dense_rows=19)) as server,
        server.http() as http,
    ):
        made = {"gram": put_sealed_gram(server, (20, 20))[0].id}
        asked = (
            (spectrum(method="dense"), "lanczos"),
            (analysis("conditioning"), "submatrix"),
            (label_kernel(), "submatrix"),
            (svm(), "classify"),
        )
        for task, way_out in asked:
            response = http.post("/v1/jobs", json={"task": resolved(task, made)})
            assert (response.status_code, response.json()["kind"]) == (413, "too-large")
            assert response.json()["limit_rows"] == 19
            assert way_out in response.json()["advice"]


def test_leave_one_out_that_no_worker_has_room_for_is_refused_with_a_way_out(
    tmp_path: Path,
) -> None:
    settings = offline_settings(tmp_path, worker_memory_limit_bytes=256 << 20)
    with live_server(settings) as server, server.http() as http:
        with server.client() as client:
            train = client.upload(RNG.standard_normal((20, 4)), np.arange(20) % 3).id
        request = {"kernel": KERNEL, "x1": train, "x2": None}
        made = {"gram": put_sealed_gram(server, (20, 20), provenance={"request": request})[0].id}
        for task in (ridge(), classify()):
            response = http.post("/v1/estimates", json={"task": resolved(task, made)})
            refused = response.json()
            assert (response.status_code, refused["kind"]) == (413, "too-large")
            assert refused["projected_bytes"] > refused["worker_memory_bytes"] == 256 << 20
            assert "k_fold" in refused["advice"]
        ways_out = (
            (spectrum(), "submatrix"),
            (likelihood(method="cholesky"), "lanczos"),
            (ridge(selection="k_fold", folds=2), "fewer folds"),
            (dynamics(), "smaller tiles"),
        )
        for task, way_out in ways_out:
            response = http.post("/v1/jobs", json={"task": resolved(task, made)})
            refused = response.json()
            assert (response.status_code, refused["kind"]) == (422, "exceeds-memory")
            assert refused["peak_bytes_per_worker"] > refused["worker_limit_bytes"] == 256 << 20
            assert way_out in refused["advice"]


def test_what_one_worker_has_no_room_for_goes_to_all_of_them(tmp_path: Path) -> None:
    rows = 1800
    settings = offline_settings(tmp_path, worker_memory_limit_bytes=740 << 20)
    with live_server(settings) as server, server.http() as http:
        with server.client() as client:
            train = client.upload(RNG.standard_normal((rows, 2)), np.arange(rows) % 3).id
        request = {"kernel": KERNEL, "x1": train, "x2": None}
        made = {
            "gram": put_sealed_gram(
                server, (rows, rows), tile_rows=256, provenance={"request": request}
            )[0].id
        }
        assert settings.max_dense_rows > rows
        for task in (dynamics(), ridge(selection="k_fold", folds=2), spectrum()):
            found = http.post("/v1/estimates", json={"task": resolved(task, made)}).json()
            assert found["admitted"]
            assert found["estimate"]["applications"] > 0  # passes over the tiles
            assert found["estimate"]["peak_bytes_per_worker"] <= 740 << 20
        dense = {"task": resolved(spectrum(method="dense"), made)}
        assert not http.post("/v1/estimates", json=dense).json()["admitted"]


def test_a_store_without_room_for_the_factor_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        live_server(offline_settings(tmp_path, max_dense_rows=19)) as server,
        server.http() as http,
    ):
        with server.client() as client:
            train = client.upload(RNG.standard_normal((20, 4)), np.arange(20) % 3).id
        request = {"kernel": KERNEL, "x1": train, "x2": None}
        made = {"gram": put_sealed_gram(server, (20, 20), provenance={"request": request})[0].id}
        task = {"task": resolved(ridge(), made)}
        cost = http.post("/v1/estimates", json=task).json()["estimate"]
        assert cost["scratch_bytes"] > 0
        needed = cost["bytes_written"] + cost["preview_bytes"] + cost["scratch_bytes"]
        blobs = type(server.services.blobs)
        monkeypatch.setattr(blobs, "free_bytes", lambda self: needed - 1)
        refused = http.post("/v1/jobs", json=task)
        assert (refused.status_code, refused.json()["kind"]) == (507, "insufficient-storage")
        assert refused.json()["scratch_bytes"] == cost["scratch_bytes"]
        assert "keeps no factor" in refused.json()["advice"]
        monkeypatch.setattr(blobs, "free_bytes", lambda self: needed)
        assert http.post("/v1/jobs", json=task).status_code == 202


def test_more_columns_than_the_service_keeps_of_one_job_are_refused(tmp_path: Path) -> None:
    settings = offline_settings(tmp_path, max_dense_rows=19, max_solve_vectors_bytes=1 << 20)
    with live_server(settings) as server, server.http() as http:
        with server.client() as client:
            train = client.upload(RNG.standard_normal((600, 4)), np.arange(600) % 3).id
        request = {"kernel": KERNEL, "x1": train, "x2": None}
        made = {"gram": put_sealed_gram(server, (600, 600), provenance={"request": request})[0].id}

        def asked(folds: int) -> httpx2.Response:
            task = ridge(selection="k_fold", folds=folds)
            return http.post("/v1/estimates", json={"task": resolved(task, made)})

        refused = asked(100).json()
        assert (refused["status"], refused["kind"]) == (413, "too-large")
        assert refused["columns"] == 300  # of three classes
        fitting = refused["limit_columns"] // 3
        assert asked(fitting).status_code == 200
        assert asked(fitting + 1).status_code == 413
