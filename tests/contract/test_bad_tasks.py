"""Requests for answers from stored Grams that cannot work: a clear 4xx, and nothing is recorded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest

from storage import matrices
from support.matrices import gram_manifest
from support.server import LiveServer
from support.service_state import put_sealed_gram, put_sealed_solution, register
from support.task_requests import (
    KERNEL,
    MISSING,
    analysis,
    classify,
    convergence,
    dynamics,
    label_kernel,
    likelihood,
    posterior,
    predict,
    resolved,
    ridge,
    smoothness,
    solve,
    spectrum,
    submatrix,
    svm,
    theory,
)

RNG = np.random.default_rng(1)
INVALID, SOLVE, ANALYSIS = "invalid-request", "invalid-solve", "invalid-analysis"


@pytest.fixture(scope="module")
def made(server: LiveServer, upload: Callable[..., str]) -> dict[str, str]:
    """Data sets and matrices for requests that are wrong in one thing only."""
    x = RNG.standard_normal((20, 5)).astype(np.float32)
    train = upload(x, np.arange(20) % 3)
    request = {"kernel": KERNEL, "x1": train, "x2": None}
    gram = put_sealed_gram(server, (20, 20), provenance={"request": request})[0].id
    solve = {"task": "solve", "matrix": gram, "array": "ntk"}
    derived = put_sealed_gram(
        server, (22, 22), provenance={"request": {**request, "task": "label-kernel"}}
    )[0].id
    other = {**request, "x1": "ds-" + "1" * 32, "x2": "ds-" + "2" * 32}
    test = upload(x[:12] + 3, np.arange(12) % 3)
    unsealed = gram_manifest((21, 21))
    register(server, unsealed)
    matrices.create(server.services.blobs, unsealed)
    return {
        "train": train,
        "unlabelled": upload(x + 1),
        "twins": upload(np.repeat(x[:4], 2, axis=0)),
        "long": upload(RNG.standard_normal((30, 5)), np.arange(30) % 3),
        "numbers": upload(x + 2, RNG.standard_normal(20)),
        "ten numbers": upload(x[:10], RNG.standard_normal(10)),
        "other kernel": put_sealed_gram(
            server,
            (11, 20),
            symmetric=False,
            provenance={"request": {**request, "kernel": {"layers": [1]}, "x2": train}},
        )[0].id,
        "cross": put_sealed_gram(
            server,
            (12, 20),
            symmetric=False,
            block_rows=4,
            provenance={"request": {**request, "x1": test, "x2": train}},
        )[0].id,
        "test gram": put_sealed_gram(
            server, (12, 12), provenance={"request": {**request, "x1": test}}
        )[0].id,
        "twelve of train": put_sealed_gram(
            server, (12, 12), tile_rows=8, block_rows=4, provenance={"request": request}
        )[0].id,
        "gram": gram,
        "unsealed": unsealed.id,
        "wide": upload(RNG.standard_normal((20, 7)), np.arange(20) % 3),
        "one class": upload(x + 2, np.zeros(20, dtype=np.int64)),
        "real": upload(x + 3, np.linspace(0, 1, 20)),
        "derived dual": put_sealed_solution(server, {**solve, "matrix": derived}, (22, 3)),
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


BAD_TASKS: dict[str, tuple[dict[str, Any], int, str]] = {
    "no rows": (submatrix(rows=[]), 422, INVALID),
    "rows that are no integers": (submatrix(rows=["0"]), 422, INVALID),
    "negative row": (submatrix(rows=[-1, 3]), 422, INVALID),
    "row beyond the matrix": (submatrix(rows=[0, 20]), 422, SOLVE),
    "row taken twice": (submatrix(rows=[3, 3]), 422, SOLVE),
    "columns not ascending": (submatrix(columns=[3, 1]), 422, SOLVE),
    "rows of a rectangle": (submatrix(matrix="rectangle"), 422, SOLVE),
    "rows of what is not complete": (submatrix(matrix="unsealed"), 409, "not-ready"),
    "rows of a matrix that is not there": (submatrix(matrix=MISSING), 404, "not-found"),
    "rows of an array that is not there": (submatrix(array="nngp"), 422, SOLVE),
    "rank of a preconditioner that has none": (solve(preconditioner="jacobi", rank=5), 422, SOLVE),
    "preconditioner of a method that has none": (
        solve(method="cholesky", preconditioner="nystrom"),
        422,
        SOLVE,
    ),
    "precision of a factor that is not made": (
        solve(method="cg", factor_precision="float32"),
        422,
        SOLVE,
    ),
    "inducing points of conjugate gradients": (solve(method="cg", inducing=5), 422, SOLVE),
    "more inducing points than rows": (solve(method="falkon", inducing=21), 422, SOLVE),
    "unknown preconditioner": (solve(preconditioner="magic"), 422, INVALID),
    "spectrum of nothing": (spectrum(matrix=MISSING), 404, "not-found"),
    "spectrum of an unsealed matrix": (spectrum(matrix="unsealed"), 409, "not-ready"),
    "spectrum of a rectangle": (spectrum(matrix="rectangle"), 422, SOLVE),
    "spectrum of an array that is not there": (spectrum(array="nngp"), 422, SOLVE),
    "spectrum with a negative ridge": (spectrum(ridge=-1.0), 422, INVALID),
    "more components than rows": (spectrum(components=21), 422, SOLVE),
    "more eigenvalues than rows": (spectrum(method="lanczos", largest=21), 422, SOLVE),
    "more components than eigenvalues": (
        spectrum(method="lanczos", largest=3, components=4),
        422,
        SOLVE,
    ),
    "ridge of nothing": (ridge(matrix=MISSING), 404, "not-found"),
    "ridge of an unsealed matrix": (ridge(matrix="unsealed"), 409, "not-ready"),
    "ridge of a rectangle": (ridge(matrix="rectangle"), 422, SOLVE),
    "ridge of an array that is not there": (ridge(array="nngp"), 422, SOLVE),
    "ridge with targets of the wrong length": (ridge(targets="long"), 422, SOLVE),
    "ridge with targets that are not there": (ridge(targets="unlabelled"), 422, SOLVE),
    "a negative ridge in the list": (ridge(ridges=[1.0, -1.0]), 422, INVALID),
    "no ridges": (ridge(ridges=[]), 422, INVALID),
    "more folds than samples": (ridge(selection="k_fold", folds=21), 422, SOLVE),
    "one fold": (ridge(selection="k_fold", folds=1), 422, INVALID),
    "cross-Gram of another size": (ridge(cross="small"), 422, SOLVE),
    "cross-Gram of another kernel": (ridge(cross="other kernel"), 422, SOLVE),
    "cross-Gram that is not there": (ridge(cross=MISSING), 404, "not-found"),
    "test targets without a cross-Gram": (ridge(test_targets="train"), 422, SOLVE),
    "test targets of the wrong length": (ridge(cross="rectangle"), 422, SOLVE),
    "test targets of another kind": (
        ridge(cross="rectangle", test_targets="ten numbers"),
        422,
        SOLVE,
    ),
    "classes of real targets": (classify(targets="numbers"), 422, SOLVE),
    "classes as they are": (classify(encoding="real"), 422, INVALID),
    "posterior without a cross-Gram": (posterior(cross=None), 422, INVALID),
    "posterior through another size": (posterior(cross="small"), 422, SOLVE),
    "posterior of an unsealed matrix": (posterior(matrix="unsealed"), 409, "not-ready"),
    "posterior without its output": (posterior(prior="nngp"), 422, SOLVE),
    "ensemble without its kernel": (posterior(model="ensemble", trained="nngp"), 422, SOLVE),
    "variance without a test Gram": (posterior(test_matrix=None), 422, SOLVE),
    "test Gram of another size": (posterior(test_matrix="gram"), 422, SOLVE),
    "test Gram of another test set": (posterior(test_matrix="twelve of train"), 422, SOLVE),
    "negative noise": (posterior(ridge=-1.0), 422, INVALID),
    "time below zero": (posterior(model="ensemble", trained="ntk", time=-1.0), 422, INVALID),
    "posterior at a time": (posterior(time=1.0), 422, SOLVE),
    "training at a time below zero": (dynamics(times=[-1.0, 1.0]), 422, INVALID),
    "training at no time": (dynamics(times=None), 422, SOLVE),
    "training at times and steps": (dynamics(steps=[1]), 422, SOLVE),
    "times that fall": (dynamics(times=[2.0, 1.0]), 422, SOLVE),
    "steps below zero": (dynamics(times=None, steps=[-1]), 422, INVALID),
    "flow with a learning rate": (dynamics(learning_rate=0.1), 422, SOLVE),
    "no learning rate": (dynamics(times=None, steps=[1], learning_rate=0.0), 422, INVALID),
    "cross-entropy to the end": (dynamics(loss="cross_entropy", times=[None]), 422, SOLVE),
    "too many steps": (
        dynamics(loss="cross_entropy", times=None, steps=[100_001]),
        422,
        SOLVE,
    ),
    "cross-entropy of numbers": (dynamics(loss="cross_entropy", targets="numbers"), 422, SOLVE),
    "three classes of two": (dynamics(loss="binary_cross_entropy"), 422, SOLVE),
    "probabilities above one": (
        dynamics(loss="binary_cross_entropy", targets="numbers"),
        422,
        SOLVE,
    ),
    "training with a negative ridge": (dynamics(ridge=-1e-9), 422, INVALID),
    "training through another kernel": (dynamics(cross="other kernel"), 422, SOLVE),
    "initial outputs of another size": (dynamics(initial="numbers"), 422, SOLVE),
    "initial outputs of nothing": (dynamics(test_initial="numbers"), 422, SOLVE),
    "likelihood without its output": (likelihood(array="nngp"), 422, SOLVE),
    "likelihood of a rectangle": (likelihood(matrix="rectangle"), 422, SOLVE),
    "likelihood of targets too many": (likelihood(targets="long"), 422, SOLVE),
    "likelihood with negative noise": (likelihood(ridge=-1.0), 422, INVALID),
    "estimated likelihood without noise": (likelihood(ridge=0.0, method="lanczos"), 422, SOLVE),
    "one probe": (likelihood(method="lanczos", probes=1), 422, INVALID),
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
    "machine of an unsealed matrix": (svm(matrix="unsealed"), 409, "not-ready"),
    "machine of a rectangle": (svm(matrix="rectangle"), 422, SOLVE),
    "machine that costs nothing": (svm(cost=0), 422, INVALID),
    "machine with a negative tube": (svm(epsilon=-0.1), 422, INVALID),
    "machine without targets": (svm(targets="unlabelled"), 422, SOLVE),
    "machine with too many targets": (svm(targets="long"), 422, SOLVE),
    "machine for one class": (svm(targets="one class"), 422, SOLVE),
    "classes of real numbers": (svm(targets="real", kind="classification"), 422, SOLVE),
    "machine tested on nothing": (svm(test_targets="train"), 422, SOLVE),
    "machine with a foreign cross-Gram": (svm(cross="foreign cross"), 422, SOLVE),
    "machine with a cross-Gram that does not fit": (svm(cross="small"), 422, SOLVE),
    "labels of an unsealed matrix": (label_kernel(matrix="unsealed"), 409, "not-ready"),
    "labels of a rectangle": (label_kernel(matrix="rectangle"), 422, SOLVE),
    "more than the labels": (label_kernel(mixing=1.1), 422, INVALID),
    "labels without a width": (label_kernel(bandwidth=0), 422, INVALID),
    "no labels": (label_kernel(targets="unlabelled"), 422, SOLVE),
    "labels of a foreign cross-Gram": (label_kernel(cross="foreign cross"), 422, SOLVE),
    "predictions with a derived kernel": (predict(solution="derived dual", x="train"), 422, SOLVE),
    "analysis components": (analysis("kernel_pca", components=21), 422, ANALYSIS),
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
