"""Every fully connected kernel of the oracle files, for float64 and float32 inputs.

Entries are compared relative to sqrt(k(x,x) k(y,y)): entries near 0 (opposite or nearly
orthogonal rows) are differences of larger numbers in any formula, and have no relative accuracy
to keep. Where all entries are positive and large, test_deep.py compares entry by entry.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from support.oracle import oracle
from workers.kernels import compile_kernel

ACTIVATIONS: dict[str, Any] = {
    "identity": "linear",
    "relu": "relu",
    "leaky(0.1)": {"fn": "leaky_relu", "slope": 0.1},
    "abs": "abs",
    "erf": "erf",
    "relu_eoc": "relu",
    "gelu": "gelu",
    "sigmoid_like": "sigmoid_like",
    "sin(w=1.5,b=0.3)": {"fn": "sin", "frequency": 1.5, "phase": 0.3},
    "cos(w=1.0)": "cos",
    "rbf(gamma=1.0)": "rbf",
    "exp(0.5)": {"fn": "exp", "rate": 0.5},
    "gaussian(1.0)": "gaussian",
    "square": {"fn": "polynomial", "coefficients": [0.0, 0.0, 1.0]},
    "poly3": {"fn": "polynomial", "coefficients": [-0.3, 1.0, 0.5, 0.25]},
    "rectmono(2)": {"fn": "rectified_power", "power": 2},
    "sign": "sign",
    "step": "step",
}
EVERY_DEPTH = {"identity", "relu", "leaky(0.1)", "abs", "erf", "relu_eoc"}
"""The others are compared at the largest depth of the file only: each case is a compilation."""
WITHOUT_NTK = {"sign", "step"}
TOLERANCE = {"float32": 3e-7, "float64": 5e-15}

FC = oracle("fc")
CONVENTIONS = oracle("fc_conventions")
X = oracle("inputs")["X"]


def fully_connected_cases() -> list[Any]:
    cases = []
    for key in FC:
        name, *fields, kind = key.split("|")
        if kind == "K" and name in ACTIVATIONS:
            values = dict(field.split("=") for field in fields)
            spec = {
                "preset": "fc",
                "depth": int(values["H"]),
                "activation": ACTIVATIONS[name],
                "w_std": float(values.get("sw", np.sqrt(2))),
                "b_std": float(values.get("sb", 0)),
            }
            # Each case costs a compilation; test_deep.py has more of float32.
            dtypes = ["float64"]
            if name in EVERY_DEPTH:
                dtypes += ["float32"] if spec["depth"] == 3 else []
            elif f"{name}|H={spec['depth'] + 1}|{'|'.join(fields[1:])}|K" in FC:
                continue
            cases += [pytest.param(key[:-2], spec, x, id=f"{key[:-2]}-{x}") for x in dtypes]
    return cases


def scaled_error(value: NDArray[Any], reference: NDArray[Any]) -> float:
    """Largest error relative to sqrt(k(x,x) k(y,y)); rows of zero kernel must be exactly 0."""
    diagonal = np.sqrt(np.diag(reference))
    scale = np.outer(diagonal, diagonal)
    assert (value[scale == 0] == 0).all()
    return float(np.max(np.abs(value - reference) / np.where(scale > 0, scale, 1)))


@pytest.mark.parametrize(("key", "spec", "dtype"), fully_connected_cases())
def test_fully_connected(key: str, spec: dict[str, Any], dtype: str) -> None:
    outputs = ("nngp",) if key.split("|")[0] in WITHOUT_NTK else ("nngp", "ntk")
    out = compile_kernel(spec)(X.astype(dtype), outputs=outputs)
    for name, kind in (("nngp", "K"), ("ntk", "T"))[: len(outputs)]:
        assert out[name].dtype == dtype
        assert scaled_error(out[name], FC[f"{key}|{kind}"]) < TOLERANCE[dtype]
        assert (out[name] == out[name].T).all()


@pytest.mark.parametrize("activation", ["relu", "erf"])
def test_two_sides_agree_with_one(activation: str) -> None:
    """Equal, opposite, zero and near-equal rows are found between different arrays too."""
    spec = {"preset": "fc", "depth": 3, "activation": activation, "w_std": 1.3, "b_std": 0.4}
    out = compile_kernel(spec)(X, X[::-1].copy())
    for name, kind in (("nngp", "K"), ("ntk", "T")):
        reference = FC[f"{activation}|H=3|sw=1.3|sb=0.4|{kind}"]
        assert scaled_error(out[name][:, ::-1], reference) < TOLERANCE["float64"]


def written_out(affines: list[tuple[float, float]], **fields: Any) -> dict[str, Any]:
    """A ReLU network of dense layers with these (w_std, b_std)."""
    layers: list[dict[str, Any]] = []
    for w_std, b_std in affines:
        layers += [
            {"op": "dense", "w_std": w_std, "b_std": b_std},
            {"op": "activation", "fn": "relu"},
        ]
    return {"layers": layers[:-1], **fields}


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_jacot_convention(depth: int) -> None:
    """L affine layers, unit weights, bias scaled by beta: layers may be written out."""
    out = compile_kernel(written_out([(1.0, 0.1)] * depth))(X)
    for name, kind in (("nngp", "K"), ("ntk", "T")):
        reference = CONVENTIONS[f"jacot|L={depth}|beta=0.1|{kind}"]
        assert scaled_error(out[name], reference) < TOLERANCE["float64"]


@pytest.mark.parametrize("scaled_input", [True, False])
def test_survey_convention(scaled_input: bool) -> None:
    """Without the 1/n0 of the first layer: its weights have deviation sqrt(d)."""
    first = 1.0 if scaled_input else float(np.sqrt(X.shape[1]))
    out = compile_kernel(written_out([(first, 0.0), (1.0, 0.0), (1.0, 0.0)]))(X)
    name = "survey" if scaled_input else "survey58_unscaled"
    for output, kind in (("nngp", "K"), ("ntk", "T")):
        reference = CONVENTIONS[f"{name}|L=3|{kind}"]
        assert scaled_error(out[output], reference) < TOLERANCE["float64"]


@pytest.mark.parametrize("width", [64, 1024])
def test_standard_parameterization(width: int) -> None:
    network = {"preset": "fc", "depth": 2, "w_std": 1.4, "b_std": 0.3}
    standard = compile_kernel(network | {"parameterization": "standard", "width": width})(X[:4])
    leading = CONVENTIONS[f"standard_param|relu|H=2|n={width}|sw=1.4|sb=0.3|T"]
    parts = {k.split("|")[-1]: v for k, v in CONVENTIONS.items() if k.startswith("layer_split")}
    hidden = width / 1.4**2 * (parts["W2"] + parts["W3"])
    inputs = X.shape[1] / 1.4**2 * parts["W1"]
    biases = (parts["b1"] + parts["b2"] + parts["b3"]) / 0.3**2
    np.testing.assert_allclose(standard["ntk"], leading, rtol=1e-13)
    np.testing.assert_allclose(standard["ntk"], hidden + inputs + biases, rtol=1e-13)
    np.testing.assert_array_equal(standard["nngp"], compile_kernel(network)(X[:4])["nngp"])


def test_unit_vectors_of_theory() -> None:
    """sqrt(2)-ReLU on unit vectors: the NTK's diagonal is H + 1, and values at cos = 1/2."""
    x = np.array([[1.0, 0.0], [0.5, np.sqrt(0.75)]])
    spec = written_out([(np.sqrt(2), 0.0), (np.sqrt(2), 0.0)])  # K1 = <x, y>: sqrt(d) = sqrt(2)
    spec["layers"][0]["w_std"] = float(np.sqrt(2))
    out = compile_kernel(spec)(x)
    np.testing.assert_allclose(out["nngp"], [[1, 0.6089977810], [0.6089977810, 1]], rtol=1e-10)
    np.testing.assert_allclose(out["ntk"], [[2, 0.9423311144], [0.9423311144, 2]], rtol=1e-10)
