"""Gram matrices and solves that cannot be: the status, the kind, and nothing written anywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import numpy as np
import pytest

from support.problems import MISSING_DATASET, MISSING_MATRIX, check
from support.server import LiveServer
from support.service_state import put_sealed_gram

Upload = Callable[..., str]

RNG = np.random.default_rng(0)
X = RNG.standard_normal((20, 5)).astype(np.float32)


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
