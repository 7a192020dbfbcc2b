"""Equilibrium networks: fixed points that are solved, iterated, or do not exist."""

from __future__ import annotations

import math
from typing import Any

import mpmath as mp
import numpy as np
import pytest

from support.oracle import oracle
from workers.kernels import InvalidKernelError, compile_kernel, parse_kernel
from workers.kernels.equilibrium import chebyshev_series, fixed_angle
from workers.kernels.errors import NoFixedPointError

X = oracle("inputs")["X"]
INJECTED = oracle("fcnn_ij")
INPUTS = {"op": "rescale", "factor": "sqrt_features"}


def activation(fn: str, **fields: Any) -> dict[str, Any]:
    return {"op": "activation", "fn": fn, **fields}


def dense(w_std: float = 1.0, b_std: float = 0.0, **fields: Any) -> dict[str, Any]:
    return {"op": "dense", "w_std": w_std, "b_std": b_std, **fields}


def injection(w_std: float = 1.0, **fields: Any) -> dict[str, Any]:
    return {"op": "input_injection", "w_std": w_std, **fields}


def network(*body: dict[str, Any], after: tuple[dict[str, Any], ...] = ()) -> dict[str, Any]:
    return {"layers": [INPUTS, {"op": "fixed_point", "body": list(body)}, *after]}


RELU = (activation("relu"), dense(math.sqrt(1.2), 0.3), injection(0.7))


def test_iterated_fixed_point_of_erf() -> None:
    kernel = compile_kernel(
        network(activation("erf"), dense(math.sqrt(0.9), math.sqrt(0.1)), injection(math.sqrt(0.3)))
    )
    out = kernel(X)
    key = "erf|sw2=0.9|su2=0.3|sb2=0.1|L=inf|X"
    for name, kind in (("nngp", "Sigma"), ("ntk", "Theta")):
        np.testing.assert_allclose(out[name], INJECTED[f"{key}|{kind}"], rtol=1e-12, atol=1e-13)
    report = kernel.convergence(X)
    assert report is not None
    assert report.converged
    assert report.contraction < 1
    assert 1 < report.correlation_steps < 20
    assert report.variance_steps > 10


def test_iteration_agrees_with_the_closed_form() -> None:
    """A linear layer with weights of deviation 1 more: the body is no longer the simple one, its
    NNGP is the same, and its NTK counts one layer more."""
    phi, affine, inject = RELU
    without_bias = dense(affine["w_std"])
    closed = compile_kernel(network(phi, without_bias, inject))
    iterated = compile_kernel(network(phi, without_bias, dense(trained="none"), inject))
    assert closed.convergence(X) is None
    assert iterated.convergence(X) is not None
    a, b = closed(X), iterated(X)
    for name in ("nngp", "ntk"):
        np.testing.assert_allclose(a[name], b[name], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("slope", [pytest.param(0.3, marks=pytest.mark.slow), -0.5])
def test_other_slopes_and_layers_after_it(slope: float) -> None:
    """The limit of many layers, with a hidden layer on top of the equilibrium."""
    phi = activation("relu_like", positive_slope=1.0, negative_slope=slope)
    body = (phi, dense(1.0, 0.2), injection(0.8))
    after = (activation("relu"), dense(1.3))
    out = compile_kernel(network(*body, after=after))(X)
    deep = compile_kernel({"layers": [INPUTS, dense(), *body * 120, *after]})(X)
    for name in ("nngp", "ntk"):
        np.testing.assert_allclose(out[name], deep[name], rtol=1e-12, atol=1e-13)


def test_what_is_trained_is_counted() -> None:
    """The parts of the NTK add up, and that of the weights is a deep network's with its mask."""
    masks = [("weights", "none"), ("biases", "none"), ("none", "all")]
    total = np.zeros((len(X), len(X)))
    for layer, inject in masks:
        phi, affine, injected = RELU
        body = (phi, {**affine, "trained": layer}, {**injected, "trained": inject})
        part = compile_kernel(network(*body))(X)["ntk"]
        if layer == "weights":
            deep = {"layers": [INPUTS, dense(trained="none"), *body * 100]}
            expected = compile_kernel(deep)(X)["ntk"]
            np.testing.assert_allclose(part, expected, rtol=1e-11, atol=1e-12)
        total += part
    np.testing.assert_allclose(total, compile_kernel(network(*RELU))(X)["ntk"], rtol=1e-12)


@pytest.mark.parametrize("contraction", [0.05, 0.5, 0.9, 0.995])
def test_angle_of_the_fixed_point_in_many_digits(contraction: float) -> None:
    phi = np.array([1e-9, 1e-3, 0.5, 1.5, 3.0, math.pi])
    theta = fixed_angle(contraction, 1.0, phi)
    with mp.workdps(50):
        c = mp.mpf(contraction)
        for angle, found in zip(phi, theta, strict=True):

            def gap(t: Any, angle: float = angle) -> Any:
                sine = (mp.sin(t) - t * mp.cos(t)) / mp.pi
                return (1 - c) * (mp.cos(mp.mpf(angle)) - mp.cos(t)) + c * sine

            exact = mp.findroot(gap, (mp.mpf(found) * (1 - mp.mpf("1e-6")), mp.mpf(found)))
            assert abs(found / exact - 1) < 2e-14
    series = chebyshev_series(contraction, 1.0, "double")
    assert (series is None) == (contraction > 0.99)


@pytest.mark.parametrize("w_std", [math.sqrt(2), 1.5])
def test_no_fixed_point_for_large_weights(w_std: float) -> None:
    with pytest.raises(InvalidKernelError, match=r"must be below 1 \(the papers' sigma_w\^2\)"):
        parse_kernel(network(activation("relu"), dense(w_std), injection()))
    with pytest.raises(InvalidKernelError, match="multiplies variances by"):
        parse_kernel({"preset": "deq", "w_var": w_std**2 / 2})


def test_divergence_of_an_iterated_body_is_an_error_with_its_numbers() -> None:
    grows = network(activation("relu"), dense(1.2), dense(1.3), injection())
    with pytest.raises(NoFixedPointError, match="variances still change") as caught:
        compile_kernel(grows)(X)
    assert caught.value.kind == "no-fixed-point"
    assert caught.value.details["variance_steps"] > 0
    chaotic = compile_kernel(network(activation("erf", scale=4.0), dense(2.0), injection(0.05)))
    with pytest.raises(NoFixedPointError, match="multiplies gradients by"):
        chaotic(X)
    report = chaotic.convergence(X)
    assert report is not None
    assert not report.converged


@pytest.mark.parametrize(
    ("layers", "part"),
    [
        ([{"op": "fixed_point", "body": []}], "empty body"),
        ([{"op": "fixed_point", "body": list(RELU[:2])}], "has no input_injection"),
        ([{"op": "fixed_point", "body": [RELU[0], RELU[2]]}], "must end with a dense layer"),
        ([{"op": "fixed_point", "body": [*RELU, RELU[0]]}], "must end with a dense layer"),
        ([dense(), {"op": "fixed_point", "body": list(RELU)}], "make it the first layer"),
        (
            [dense(), {"op": "residual", "body": [{"op": "fixed_point", "body": list(RELU)}]}],
            "make it the first layer",
        ),
        ([injection()], "must start with a dense layer or a fixed point"),
        ([dense(), {"op": "input_injection", "w_std": 0.0}], "layers[1].w_std"),
        ([dense(), {"op": "input_injection", "trained": "biases"}], "layers[1].trained"),
    ],
)
def test_refusals(layers: list[Any], part: str) -> None:
    with pytest.raises(InvalidKernelError) as caught:
        parse_kernel({"layers": layers})
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ({"setting": "0.5-0.5-0"}, "setting"),
        ({"setting": "0.6-0.4-0", "w_var": 0.5}, "remove w_var"),
        ({"u_var": 0.0}, "u_var"),
        ({"w_var": 1.0}, "must be below 1"),
    ],
)
def test_refused_presets(source: dict[str, Any], part: str) -> None:
    with pytest.raises(InvalidKernelError) as caught:
        parse_kernel({"preset": "deq", **source})
    assert part in str(caught.value)


def test_equilibrium_in_the_standard_parameterization_is_refused() -> None:
    spec = network(*RELU) | {"parameterization": "standard"}
    with pytest.raises(InvalidKernelError, match="ntk parameterization only"):
        parse_kernel(spec)
