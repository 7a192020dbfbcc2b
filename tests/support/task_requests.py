"""Requests for answers from stored matrices, by names that a test has put its own ids to."""

from __future__ import annotations

from typing import Any

from workers.kernels.spec import parse_kernel

KERNEL = parse_kernel({"preset": "fc", "depth": 1}).canonical()
MISSING = "mx-" + "0" * 32


def solve(**changes: Any) -> dict[str, Any]:
    return {"type": "solve", "matrix": "gram", **changes}


def spectrum(**changes: Any) -> dict[str, Any]:
    return {"type": "spectrum", "matrix": "gram", **changes}


def ridge(**changes: Any) -> dict[str, Any]:
    return {"type": "ridge", "matrix": "gram", "ridges": [1e-3], **changes}


def classify(**changes: Any) -> dict[str, Any]:
    return {"type": "classify", "matrix": "gram", "ridges": [1e-3], **changes}


def posterior(**changes: Any) -> dict[str, Any]:
    asked = {"matrix": "gram", "cross": "cross", "test_matrix": "test gram", "prior": "ntk"}
    return {"type": "posterior", **asked, **changes}


def dynamics(**changes: Any) -> dict[str, Any]:
    return {"type": "dynamics", "matrix": "gram", "times": [1.0], **changes}


def likelihood(**changes: Any) -> dict[str, Any]:
    return {"type": "log_marginal_likelihood", "matrix": "gram", "array": "ntk", **changes}


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


def svm(**changes: Any) -> dict[str, Any]:
    return {"type": "svm", "matrix": "gram", **changes}


def submatrix(**changes: Any) -> dict[str, Any]:
    return {"type": "submatrix", "matrix": "gram", "rows": [0, 3], **changes}


def label_kernel(**changes: Any) -> dict[str, Any]:
    return {"type": "label-kernel", "matrix": "gram", "mixing": 0.5, **changes}


_NAMES = (
    "matrix",
    "other",
    "targets",
    "cross",
    "test",
    "test_targets",
    "x",
    "solution",
    "samples",
    "test_matrix",
    "initial",
    "test_initial",
)


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
