"""Ops on the inputs: normalisation, scaling, Fourier features."""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest

from support.oracle import oracle
from workers.kernels import InvalidKernelError, compile_kernel, parse_kernel
from workers.kernels.input_ops import FourierFeatures, embed, embedded_features

ORACLE = oracle("embeddings")
DENSE = {"op": "dense", "w_std": math.sqrt(2), "b_std": 0.1}
RELU = {"op": "activation", "fn": "relu"}
NETWORK = [DENSE, RELU, DENSE, RELU, DENSE]
POSITIONAL = {"op": "fourier_features", "kind": "positional", "frequencies": 4, "scale": 8.0}


def fourier(**fields: Any) -> FourierFeatures:
    return FourierFeatures.model_validate({"op": "fourier_features", **fields})


@pytest.mark.parametrize(
    ("name", "op"), [("basic", {"op": "fourier_features"}), ("positional", POSITIONAL)]
)
def test_embeddings_and_their_kernels(name: str, op: dict[str, Any]) -> None:
    x = ORACLE["coords"]
    model = FourierFeatures.model_validate(op)
    np.testing.assert_allclose(model.embed(x), ORACLE[f"emb|{name}"], atol=2e-14)
    assert embedded_features([model], 2) == ORACLE[f"emb|{name}"].shape[1]
    kernel = compile_kernel({"layers": [op, *NETWORK]})
    np.testing.assert_allclose(kernel(x)["ntk"], ORACLE[f"ntk|{name}"], rtol=1e-13)
    coarse = x.astype(np.float32)
    exact = kernel(coarse.astype(float))["ntk"]
    out = kernel(coarse)["ntk"]
    assert out.dtype == np.float32
    assert np.max(np.abs(out - exact)) < 3e-7 * np.max(exact)


def test_gaussian_frequencies_are_those_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    x = ORACLE["coords"]
    model = fourier(kind="gaussian", frequencies=500, scale=3.0, seed=7)
    b = model.matrix(2)
    assert b.shape == (500, 2)
    np.testing.assert_array_equal(b, model.matrix(2))
    assert not np.array_equal(b, fourier(**{**model.model_dump(), "seed": 8}).matrix(2))
    assert np.std(b) == pytest.approx(3.0, rel=0.1)
    assert abs(np.mean(b)) < 0.3
    # The first draws of the frozen generator: kernels are named by their seeds.
    np.testing.assert_allclose(b[0], [3 * 1.690525703800356, 3 * -0.46593736705408997])
    monkeypatch.setattr(FourierFeatures, "matrix", lambda self, features: ORACLE["B"])
    small = fourier(kind="gaussian", frequencies=4, scale=1.0, seed=0)
    np.testing.assert_allclose(small.embed(x), ORACLE["emb|gaussian"], atol=2e-14)
    spec = {"layers": [small.model_dump(exclude_none=True), *NETWORK]}
    out = compile_kernel(spec)(x)
    np.testing.assert_allclose(out["ntk"], ORACLE["ntk|gaussian"], rtol=1e-13)


def test_cosines_on_the_torus() -> None:
    dense = {"op": "dense", "w_std": 1.5, "b_std": 0.3}
    cos = {"op": "activation", "fn": "cos"}
    kernel = compile_kernel({"layers": [{"op": "fourier_features"}, dense, cos, dense]})
    x = ORACLE["coords"]
    reference = ORACLE["ntk|torus_cos"]
    np.testing.assert_allclose(kernel(x)["ntk"], reference, rtol=1e-12, atol=1e-13)
    # The kernel of the torus is invariant under shifts of both arguments, by any real number.
    moved = x + np.array([0.3, 17.9])
    np.testing.assert_allclose(kernel(moved)["ntk"], reference, rtol=1e-11, atol=1e-12)


def test_rows_that_nearly_coincide_keep_their_digits_in_float32() -> None:
    """Rounded embeddings would not: two float32 neighbours, far apart in units of their phase."""
    x = np.array([[0.4], [0.4 + 3e-8], [0.1]], np.float32)
    assert x[0, 0] != x[1, 0]
    spec = {"layers": [{"op": "fourier_features"}, DENSE, RELU, DENSE]}
    out = compile_kernel(spec)(x)["ntk"]
    with mp.workdps(40):
        angle = 2 * mp.pi * (mp.mpf(float(x[1, 0])) - mp.mpf(float(x[0, 0])))
        w, b = mp.mpf(DENSE["w_std"]) ** 2, mp.mpf("0.1") ** 2
        q, c = w / 2 + b, w / 2 * mp.cos(angle) + b
        rho = c / q
        theta = mp.acos(rho)
        covariance = q / (2 * mp.pi) * (mp.sin(theta) + (mp.pi - theta) * rho)
        expected = w * covariance + b + w * (mp.pi - theta) / (2 * mp.pi) * c
    assert abs(out[0, 1] / float(expected) - 1) < 2e-7


def test_order_and_composition() -> None:
    """Ops act in order: lengths before and after an embedding are different things."""
    x = np.array([[3.0, 4.0], [1.0, 0.0]])
    unit = parse_kernel({"layers": [{"op": "normalize"}, POSITIONAL, DENSE]}).input_ops
    np.testing.assert_allclose(embed(unit, x), embed(unit, 7 * x), atol=1e-12)
    half = [{"op": "rescale", "factor": 0.5}, {"op": "fourier_features"}]
    ops = parse_kernel({"layers": [*half, DENSE]}).input_ops
    np.testing.assert_allclose(embed(ops, x), fourier().embed(x / 2), atol=1e-14)
    dense = {"op": "dense"}
    sums = [{"op": "rescale", "factor": "sqrt_features"}]
    np.testing.assert_allclose(compile_kernel({"layers": [*sums, dense]})(x)["nngp"], x @ x.T)
    tail = [{"op": "fourier_features"}, {"op": "normalize"}, *sums]
    out = compile_kernel({"layers": [*tail, dense]})(x + 0.2)["nngp"]
    np.testing.assert_allclose(np.diag(out), 1)


def test_ops_that_do_nothing_are_not_part_of_the_kernel() -> None:
    idle = [{"op": "normalize", "kind": "none"}, {"op": "rescale", "factor": 1}]
    assert (
        parse_kernel({"layers": [*idle, DENSE]}).digest == parse_kernel({"layers": [DENSE]}).digest
    )


@pytest.mark.parametrize(
    ("op", "part"),
    [
        ({"op": "rescale"}, "layers[0].factor"),
        ({"op": "rescale", "factor": 0}, "greater than 0"),
        ({"op": "rescale", "factor": True}, "must be a number"),
        ({"op": "rescale", "factor": "d"}, "sqrt_features"),
        ({"op": "rescale", "factor": math.inf}, "layers[0].factor"),
        ({"op": "fourier_features", "kind": "random"}, "layers[0].kind"),
        ({"op": "fourier_features", "seed": 1}, "seed has no effect on basic"),
        ({"op": "fourier_features", "kind": "positional", "scale": 2.0}, "need frequencies"),
        ({**POSITIONAL, "seed": 1}, "seed has no effect on positional"),
        ({**POSITIONAL, "frequencies": 0}, "layers[0].frequencies"),
        ({**POSITIONAL, "frequencies": 10**9}, "layers[0].frequencies"),
        ({**POSITIONAL, "kind": "gaussian"}, "need seed"),
        ({**POSITIONAL, "kind": "gaussian", "seed": -1}, "layers[0].seed"),
    ],
)
def test_refusals(op: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidKernelError) as caught:
        parse_kernel({"layers": [op, DENSE]})
    assert part in str(caught.value)


def test_input_ops_come_first() -> None:
    with pytest.raises(InvalidKernelError, match="fourier_features, which acts on inputs only"):
        parse_kernel({"layers": [DENSE, {"op": "fourier_features"}, DENSE]})
