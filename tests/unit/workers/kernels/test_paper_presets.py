"""The papers' networks by their presets, against 50-digit values of the papers' own recursions.

Entries are compared relative to sqrt(k(x,x) k(y,y)), as in test_oracle.py. The rows include equal,
opposite, nearly equal and zero ones.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.oracle import oracle
from workers.kernels import compile_kernel

INPUTS = oracle("inputs")
TIRER, HAYOU = oracle("resnet_tirer"), oracle("resnet_hayou")
DEQ, INJECTED = oracle("deq"), oracle("fcnn_ij")
CONVENTIONS = oracle("fc_conventions")
SLOW = pytest.mark.slow
TOLERANCE = {"float64": 1e-14, "float32": 5e-7}


def scaled_error(value: NDArray[Any], reference: NDArray[Any]) -> float:
    diagonal = np.sqrt(np.diag(reference))
    scale = np.outer(diagonal, diagonal)
    assert (value[scale == 0] == 0).all()
    return float(np.max(np.abs(value - reference) / np.where(scale > 0, scale, 1)))


def assert_matches(
    spec: dict[str, Any],
    nngp: NDArray[Any],
    ntk: NDArray[Any],
    *,
    rows: str = "X",
    dtypes: tuple[str, ...] = ("float64", "float32"),
    tolerance: dict[str, float] = TOLERANCE,
) -> None:
    kernel = compile_kernel(spec)
    for dtype in dtypes:
        out = kernel(INPUTS[rows].astype(dtype))
        assert scaled_error(out["nngp"], nngp) < tolerance[dtype]
        assert scaled_error(out["ntk"], ntk) < tolerance[dtype]
        assert (out["ntk"] == out["ntk"].T).all()


def fields(key: str) -> dict[str, float]:
    """Numbers of an oracle key such as `relu|L=5|sw=sqrt2`."""
    pairs = (part.split("=") for part in key.split("|") if "=" in part)
    return {
        name: math.sqrt(float(value[4:])) if value.startswith("sqrt") else float(value)
        for name, value in pairs
        if value != "inf"
    }


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("relu|L=1|alpha=1.0|sv=1|sw=1", marks=SLOW),
        "relu|L=15|alpha=0.1|sv=1|sw=1",
        "relu|L=5|alpha=0.5|sv=1.1|sw=1.3",
        pytest.param("erf|L=5|alpha=0.5|sv=1.1|sw=1.3", marks=SLOW),
    ],
)
def test_tirer_resnet(key: str) -> None:
    f = fields(key)
    spec = {
        "preset": "tirer_resnet",
        "activation": key.split("|")[0],
        "blocks": int(f["L"]),
        "alpha": f["alpha"],
        "v_std": f["sv"],
        "w_std": f["sw"],
    }
    assert_matches(spec, TIRER[f"{key}|K"], TIRER[f"{key}|T"])


def test_tirer_resnet_without_blocks_is_two_layers() -> None:
    """L = 0: the NTK is twice the covariance."""
    x = INPUTS["X"]
    out = compile_kernel({"preset": "tirer_resnet", "blocks": 0, "w_std": 1.2})(x)
    np.testing.assert_allclose(
        out["ntk"], 2 * 1.2**2 * x @ x.T / x.shape[1], rtol=1e-13, atol=1e-13
    )


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("relu|L=2|sw=1|sb=0", marks=SLOW),
        "relu|L=20|sw=sqrt2|sb=0",
        "relu|L=5|sw=1|sb=0.3",
        pytest.param("erf|L=5|sw=1.2|sb=0.2", marks=SLOW),
    ],
)
def test_hayou_resnet(key: str) -> None:
    f = fields(key)
    spec = {
        "preset": "hayou_resnet",
        "activation": key.split("|")[0],
        "affine_layers": int(f["L"]),
        "w_std": f["sw"],
        "b_std": f["sb"],
    }
    assert_matches(spec, HAYOU[f"{key}|S"], HAYOU[f"{key}|K"])


def test_hayou_resnet_diagonal_at_depth_two_hundred() -> None:
    """K^L(x, x) = S^1 A^(L-1) (1 + (L-1)(w^2/2)/A), A = 1 + w^2/2: exact for ReLU, no bias."""
    layers, w = 200, 0.5
    x = INPUTS["X"]
    spec = {"preset": "hayou_resnet", "affine_layers": layers, "w_std": w}
    a = 1 + w * w / 2
    expected = w * w * (x * x).sum(1) / x.shape[1] * a ** (layers - 1)
    expected = expected * (1 + (layers - 1) * (w * w / 2) / a)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 3e-6)):
        out = compile_kernel(spec)(x.astype(dtype))
        np.testing.assert_allclose(np.diag(out["ntk"]), expected, rtol=tolerance)


def variances(key: str) -> dict[str, float]:
    f = fields(key)
    return {"w_var": f["sw2"], "u_var": f["su2"], "b_var": f["sb2"], "normalize": "none"}  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("key", "rows"),
    [
        ("sw2=0.25|su2=0.25|sb2=0.5", "X"),
        pytest.param("sw2=0.6|su2=0.4|sb2=0", "X", marks=SLOW),
        ("sw2=0.8|su2=0.2|sb2=0", "X"),
        pytest.param("sw2=0.25|su2=0.25|sb2=0.5", "XU", marks=SLOW),
        ("sw2=0.99|su2=0.005|sb2=0.005", "XU"),
    ],
)
def test_equilibrium(key: str, rows: str) -> None:
    wide = {"float64": 1e-13, "float32": 5e-7}
    reference = [DEQ[f"{key}|{rows}|{name}"] for name in ("Sigma", "Theta")]
    assert_matches({"preset": "deq", **variances(key)}, *reference, rows=rows, tolerance=wide)


@pytest.mark.parametrize("setting", ["0.25-0.25-0.5", "0.6-0.4-0", "0.8-0.2-0"])
def test_equilibrium_settings_on_unit_vectors(setting: str) -> None:
    """Values at cos = 1/2 from 50-digit arithmetic, and 1/(1 - sigma_w^2) on the diagonal."""
    at_half = {
        "0.25-0.25-0.5": (0.839800323336285, 1.055465751697127),
        "0.6-0.4-0": (0.611339352094309, 1.064349048722408),
        "0.8-0.2-0": (0.700179688888008, 1.739652210789253),
    }
    x = 3 * np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])  # the preset normalises them
    out = compile_kernel({"preset": "deq", "setting": setting})(x)
    for name, value in zip(("nngp", "ntk"), at_half[setting], strict=True):
        assert out[name][0, 1] == pytest.approx(value, rel=3e-14)
    diagonal = 1 / (1 - float(setting.split("-")[0]))
    np.testing.assert_allclose(np.diag(out["ntk"]), diagonal, rtol=1e-14)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("sw2=0.25|su2=0.25|sb2=0.5|L=20|XU", marks=SLOW),
        pytest.param("sw2=0.6|su2=0.4|sb2=0|L=0|XU", marks=SLOW),
        "sw2=0.6|su2=0.4|sb2=0|L=5|X",
        pytest.param("erf|sw2=0.9|su2=0.3|sb2=0.1|L=5|X", marks=SLOW),
    ],
)
def test_input_injection_at_finite_depth(key: str) -> None:
    activation = "erf" if key.startswith("erf") else "relu"
    spec = {
        "preset": "fcnn_ij",
        "activation": activation,
        "depth": int(fields(key)["L"]),
        **variances(key),
    }
    reference = [INJECTED[f"{key}|{name}"] for name in ("Sigma", "Theta")]
    assert_matches(spec, *reference, rows=key.split("|")[-1])


def test_literal_first_layer_has_the_same_limit() -> None:
    x = INPUTS["XU"]
    deep = {"preset": "fcnn_ij", "depth": 60, "w_var": 0.6, "u_var": 0.4, "b_var": 0.0}
    limit = compile_kernel({"preset": "deq", "setting": "0.6-0.4-0"})(x)["ntk"]
    literal = compile_kernel({**deep, "literal_first_layer": True, "depth": 1})(x)
    np.testing.assert_allclose(np.diag(literal["nngp"]), 1, rtol=1e-14)
    out = compile_kernel({**deep, "literal_first_layer": True})(x)["ntk"]
    np.testing.assert_allclose(out, limit, rtol=1e-11)


@pytest.mark.parametrize("depth", [pytest.param(1, marks=SLOW), 4])
def test_jacot_and_survey_count_affine_layers(depth: int) -> None:
    key = f"jacot|L={depth}|beta=0.1"
    spec = {"preset": "jacot", "affine_layers": depth}
    assert_matches(spec, CONVENTIONS[f"{key}|K"], CONVENTIONS[f"{key}|T"], dtypes=("float64",))


@pytest.mark.parametrize("scaling", [pytest.param(True, marks=SLOW), False])
def test_survey_with_and_without_input_scaling(scaling: bool) -> None:
    name = "survey" if scaling else "survey58_unscaled"
    spec = {"preset": "survey", "affine_layers": 3, "input_scaling": scaling}
    nngp, ntk = CONVENTIONS[f"{name}|L=3|K"], CONVENTIONS[f"{name}|L=3|T"]
    assert_matches(spec, nngp, ntk, dtypes=("float64",))


def test_tirer_mlp_counts_hidden_layers() -> None:
    spec = {"preset": "tirer_mlp", "hidden_layers": 6}
    key = "tirer_mlp|L=6|sw=1.0"
    assert_matches(spec, CONVENTIONS[f"{key}|K"], CONVENTIONS[f"{key}|T"], dtypes=("float64",))
