"""Requests for answers from stored Grams that cannot work: a clear 4xx, and nothing is recorded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from storage import matrices
from support.matrices import gram_manifest
from support.server import LiveServer, live_server, offline_settings
from support.service_state import put_sealed_gram, put_sealed_solution, register
from workers.kernels.spec import parse_kernel

RNG = np.random.default_rng(1)
KERNEL = parse_kernel({"preset": "fc", "depth": 1}).canonical()
MISSING = "mx-" + "0" * 32


@pytest.fixture(scope="module")
def made(server: LiveServer, upload: Callable[..., str]) -> dict[str, str]:
    """Data sets and matrices for requests that are wrong in one thing only."""
    x = RNG.standard_normal((20, 5)).astype(np.float32)
    train = upload(x, np.arange(20) % 3)
    request = {"kernel": KERNEL, "x1": train, "x2": None}
    gram = put_sealed_gram(server, (20, 20), provenance={"request": request})[0].id
    solve = {"task": "solve", "matrix": gram, "array": "ntk"}
    other = {**request, "x1": "ds-" + "1" * 32, "x2": "ds-" + "2" * 32}
    unsealed = gram_manifest((21, 21))
    register(server, unsealed)
    matrices.create(server.services.blobs, unsealed)
    return {
        "train": train,
        "unlabelled": upload(x + 1),
        "twins": upload(np.repeat(x[:4], 2, axis=0)),
        "long": upload(RNG.standard_normal((30, 5)), np.arange(30) % 3),
        "gram": gram,
        "unsealed": unsealed.id,
        "wide": upload(RNG.standard_normal((20, 7)), np.arange(20) % 3),
        "dual": put_sealed_solution(server, solve, (20, 3)),
        "short": put_sealed_solution(server, solve, (19, 3)),
        "duals of something else": put_sealed_solution(server, solve, (20, 3), name="alpha"),
        "foreign cross": put_sealed_gram(
            server, (12, 20), symmetric=False, provenance={"request": other}
        )[0].id,
        "small": put_sealed_gram(server, (10, 10), provenance={"request": request})[0].id,
        "rectangle": put_sealed_gram(
            server, (10, 20), symmetric=False, provenance={"request": request}
        )[0].id,
    }


def spectrum(**changes: Any) -> dict[str, Any]:
    return {"type": "spectrum", "matrix": "gram", **changes}


def analysis(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "analysis", "analysis": {"name": name, "matrix": "gram", **parameters}}


def theory(name: str, **parameters: Any) -> dict[str, Any]:
    return {"type": "analysis", "analysis": {"name": name, **parameters}}


def convergence(**changes: Any) -> dict[str, Any]:
    given = {"samples": "train", "activation": "erf", "w_std": 1.0, "depths": [1, 5]}
    return theory("depth_convergence", **{**given, **changes})


def smoothness(**changes: Any) -> dict[str, Any]:
    given = {"kernel": "fc", "angles": [0.0, 1.0], "values": [1.0, 2.0]}
    return theory("smoothness", **{**given, **changes})


def predict(**changes: Any) -> dict[str, Any]:
    return {"type": "predict", "solution": "dual", **changes}


INVALID, SOLVE, ANALYSIS = "invalid-request", "invalid-solve", "invalid-analysis"

BAD_TASKS: dict[str, tuple[dict[str, Any], int, str]] = {
    "spectrum of nothing": (spectrum(matrix=MISSING), 404, "not-found"),
    "spectrum of an unsealed matrix": (spectrum(matrix="unsealed"), 409, "not-ready"),
    "spectrum of a rectangle": (spectrum(matrix="rectangle"), 422, SOLVE),
    "spectrum of an array that is not there": (spectrum(array="nngp"), 422, SOLVE),
    "spectrum with a negative ridge": (spectrum(ridge=-1.0), 422, INVALID),
    "more components than rows": (spectrum(components=21), 422, SOLVE),
    "unknown analysis": (analysis("astrology"), 422, INVALID),
    "analysis of a rectangle": (analysis("conditioning", matrix="rectangle"), 422, SOLVE),
    "analysis with another's parameter": (analysis("conditioning", delta=0.1), 422, INVALID),
    "pair without a second": (analysis("kernel_distance"), 422, INVALID),
    "pair of different sizes": (analysis("kernel_distance", other="small"), 422, ANALYSIS),
    "pair with an unsealed one": (analysis("kernel_distance", other="unsealed"), 409, "not-ready"),
    "no interval": (analysis("kernel_velocity", other="gram", interval=0), 422, INVALID),
    "targets of the wrong length": (analysis("target_alignment", targets="long"), 422, SOLVE),
    "targets that are not there": (analysis("target_alignment", targets="unlabelled"), 422, SOLVE),
    "bound that never fails": (analysis("generalization_bound", delta=0), 422, INVALID),
    "activation that is not there": (
        theory("edge_of_chaos", activation="swoosh", b_std=0.1),
        422,
        "invalid-kernel",
    ),
    "deviation below zero": (theory("edge_of_chaos", activation="erf", b_std=-1), 422, INVALID),
    "no variances": (
        theory("phase", activation="erf", w_std=1, b_std=0, lowest_variance=9, highest_variance=1),
        422,
        ANALYSIS,
    ),
    "limit of a residual network with bias": (
        theory("depth_limit", activation="relu", w_std=1, b_std=0.1, architecture="residual"),
        422,
        ANALYSIS,
    ),
    "convergence of no data": (convergence(samples="ds-" + "0" * 32), 404, "not-found"),
    "convergence of more samples than there are": (convergence(rows=21), 422, ANALYSIS),
    "convergence of one sample": (convergence(rows=1), 422, INVALID),
    "convergence of equal samples": (convergence(samples="twins"), 422, ANALYSIS),
    "depths that fall": (convergence(depths=[5, 1]), 422, ANALYSIS),
    "no depths": (convergence(depths=[]), 422, INVALID),
    "spectrum on no sphere": (
        theory("mercer_spectrum", kernel="fc", dimension=1, k_max=3),
        422,
        INVALID,
    ),
    "spectrum of no kernel": (
        theory("mercer_spectrum", kernel="nothing", dimension=3, k_max=3),
        422,
        "invalid-kernel",
    ),
    "fewer values than angles": (smoothness(values=[1.0]), 422, ANALYSIS),
    "smoothness of nothing": (smoothness(angles=[], values=[]), 422, INVALID),
    "predictions from nothing": (predict(solution=MISSING, x="train"), 404, "not-found"),
    "predictions for nothing": (predict(), 422, INVALID),
    "predictions for two things": (predict(x="train", cross="rectangle"), 422, INVALID),
    "predictions from an unsealed matrix": (
        predict(solution="unsealed", x="train"),
        409,
        "not-ready",
    ),
    "predictions from a Gram matrix": (predict(solution="gram", x="train"), 422, SOLVE),
    "predictions without a dual": (
        predict(solution="duals of something else", x="train"),
        422,
        SOLVE,
    ),
    "a dual of another size": (predict(solution="short", x="train"), 422, SOLVE),
    "new inputs that are not there": (predict(x="ds-" + "0" * 32), 404, "not-found"),
    "new inputs of another shape": (predict(x="wide"), 422, "invalid-gram"),
    "targets for other inputs": (predict(x="twins", targets="train"), 422, SOLVE),
    "inputs compared with no targets": (predict(x="train", targets="unlabelled"), 422, SOLVE),
    "a cross-Gram with too few columns": (predict(cross="small"), 422, SOLVE),
    "a cross-Gram of other data": (predict(cross="foreign cross"), 422, SOLVE),
    "analysis components": (analysis("kernel_pca", components=21), 422, ANALYSIS),
}

_NAMES = ("matrix", "other", "targets", "cross", "test", "test_targets", "x", "solution", "samples")


def resolved(task: Any, made: dict[str, str]) -> Any:
    """The task with names of `made` replaced by their ids, also inside."""
    if not isinstance(task, dict):
        return task
    return {
        name: made.get(value, value)
        if name in _NAMES and isinstance(value, str)
        else resolved(value, made)
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
    response = http.post(route, json={"task": resolved(task, made)})
    assert (response.status_code, response.json()["kind"]) == (status, kind), response.text
    assert response.json()["advice"]


def test_what_is_too_large_for_one_worker_is_refused_with_numbers(tmp_path: Path) -> None:
    with (
        live_server(offline_settings(tmp_path, max_dense_rows=19)) as server,
        server.http() as http,
    ):
        made = {"gram": put_sealed_gram(server, (20, 20))[0].id}
        for task in (spectrum(), analysis("conditioning")):
            response = http.post("/v1/jobs", json={"task": resolved(task, made)})
            assert (response.status_code, response.json()["kind"]) == (413, "too-large")
            assert response.json()["limit_rows"] == 19
