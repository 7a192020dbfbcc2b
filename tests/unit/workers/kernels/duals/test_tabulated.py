"""Activations by quadrature and tables: values in 30 digits, closed forms, layers of networks.

The tables are made from slopes only, by a method that shares nothing with the references: 30-digit
trapezoidal sums (smooth activations) and conditional integrals (ELU, SELU), and for relu, erf and
gelu the closed forms of the other files.
"""

from __future__ import annotations

from typing import Any

import mpmath as mp
import numpy as np
import pytest

from support.activations import dual_of
from support.duals import deviations, pair_values, variance_derivatives
from support.oracle import oracle
from workers.kernels import InvalidKernelError, KernelRangeError, compile_kernel, parse_kernel
from workers.kernels.compile import CompiledKernel
from workers.kernels.duals.combination import PARTS
from workers.kernels.duals.sectors import pair_expectations
from workers.kernels.duals.tables import LARGEST_DEVIATION
from workers.kernels.planes import Activation, Convolution, Network, prepare

ORACLE = oracle("duals")
CASES: dict[str, dict[str, Any]] = {
    "tanh": {"fn": "tanh"},
    "sigmoid": {"fn": "sigmoid"},
    "softplus": {"fn": "softplus"},
    "silu": {"fn": "silu"},
    "elu(1.0)": {"fn": "elu"},
    "selu": {"fn": "selu"},
}


def combined(**coefficients: float) -> dict[str, Any]:
    return {
        "fn": "combination",
        "terms": [{"part": part, "coefficient": c} for part, c in coefficients.items()],
    }


@pytest.mark.parametrize(
    "name",
    [
        "tanh",
        "elu(1.0)",
        *(pytest.param(n, marks=pytest.mark.slow) for n in ("silu", "sigmoid", "softplus", "selu")),
    ],
)
def test_against_thirty_digits(name: str) -> None:
    dual = dual_of(CASES[name])
    rho = ORACLE["rho"]
    for row, (q1, q2) in enumerate(ORACLE["q_pairs"]):
        s1, s2 = np.array([np.sqrt(q1)]), np.full(rho.size, np.sqrt(q2))
        norm = deviations(dual, s1)[0] * deviations(dual, s2[:1])[0]
        out = pair_values(dual, s1, s2, rho[None])
        assert np.max(np.abs(out.rho[0] - ORACLE[f"{name}|K"][row] / norm)) < 4e-14
        reference = ORACLE[f"{name}|KD"][row] * s1[0] * s2[0] / norm
        np.testing.assert_allclose(out.derivative[0], reference, rtol=3e-12)


@pytest.mark.parametrize("name", ["tanh", "elu(1.0)"])
def test_rows_of_one_variance_take_the_same_values(name: str) -> None:
    """Equal deviations (one series) and unequal ones (bilinear forms) are two ways to one value."""
    dual = dual_of(CASES[name])
    rho = np.array([[1.0, 1 - 1e-9, 0.7, -0.2, -1.0], [0.3, 0.5, 0.9, -0.9, 0.99]])
    for s in (0.05, 1.0, 30.0):
        equal = pair_values(dual, np.full(2, s), np.full(5, s), rho)
        nearly = pair_values(dual, np.full(2, s), s * (1 + 1e-15 * np.arange(5)), rho)
        for one, other in zip(equal, nearly, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["tanh", "elu(1.0)"])
@pytest.mark.parametrize("tiny", [1e-8, 1e-24])
def test_distance_keeps_its_digits(name: str, tiny: float) -> None:
    dual = dual_of(CASES[name])
    s = np.array([1.3])
    out = pair_values(dual, s, s, np.ones((1, 1)), np.full((1, 1), tiny))
    expected = variance_derivatives(dual, s)[0] * tiny
    np.testing.assert_allclose(out.w[0, 0], expected, rtol=max(3 * tiny**0.5, 1e-12))


@pytest.mark.parametrize(
    ("combination", "closed"),
    [
        pytest.param({"relu": 1.0}, {"fn": "relu"}, marks=pytest.mark.slow),
        pytest.param({"erf": 1.0}, {"fn": "erf"}, marks=pytest.mark.slow),
        pytest.param({"gelu": 2.0}, {"fn": "gelu"}, marks=pytest.mark.slow),
    ],
    ids=["relu", "erf", "gelu"],
)
def test_against_closed_forms(combination: dict[str, float], closed: dict[str, Any]) -> None:
    """At variances that the oracle does not have, up to the end of the tables."""
    dual, reference = dual_of(combined(**combination)), dual_of(closed)
    s1, s2 = np.array([1e-6, 0.3, 4.0, 60.0, 250.0]), np.array([0.02, 1.0, 20.0, 255.0])
    for rho in (1.0, 1 - 1e-10, 0.999, 0.3, 0.0, -0.6, -0.9999, -1.0):
        grid = np.full((5, 4), rho)
        found, expected = pair_values(dual, s1, s2, grid), pair_values(reference, s1, s2, grid)
        np.testing.assert_allclose(found.rho, expected.rho, atol=3e-13)
        scale = np.sqrt(
            np.outer(variance_derivatives(reference, s1), variance_derivatives(reference, s2))
        )
        assert np.max(np.abs(found.derivative - expected.derivative) / scale) < 1e-11
        if rho > 0:
            np.testing.assert_allclose(found.w, expected.w, rtol=1e-10, atol=1e-15)


def test_erf_of_very_unlike_rows() -> None:
    """1 - rho_E where one variance is 1e12 times the other, against Williams' formula."""
    s1, s2 = np.array([1e-6, 0.3, 250.0]), np.array([0.02, 1.0, 255.0])

    def expectation(a: Any, b: Any, rho: Any) -> Any:
        return mp.asin(2 * a * b * rho / mp.sqrt((1 + 2 * a * a) * (1 + 2 * b * b)))

    for rho in (1.0, 1 - 1e-10, 0.999):
        found = pair_values(dual_of({"fn": "erf"}), s1, s2, np.full((3, 3), rho)).w
        with mp.workdps(40):
            rows, columns = list(map(mp.mpf, s1)), list(map(mp.mpf, s2))
            exact = [
                [
                    1
                    - expectation(a, b, mp.mpf(rho))
                    / mp.sqrt(expectation(a, a, 1) * expectation(b, b, 1))
                    for b in columns
                ]
                for a in rows
            ]
            exact = np.array(exact, dtype=float)
        np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-15)


def test_elu_in_closed_form() -> None:
    """theory of ELU: bivariate normal probabilities, in 20 digits, at unequal large variances."""
    dual = dual_of({"fn": "elu"})
    for s1, s2, rho in ((0.7, 12.0, 0.6), (9.0, 10.0, -0.95)):
        with mp.workdps(20):
            slope = _elu_slope(mp.mpf(s1), mp.mpf(s2), mp.mpf(rho))
        rows, columns = np.array([s1]), np.array([s2])
        norm = deviations(dual, rows)[0] * deviations(dual, columns)[0] / (s1 * s2)
        found = pair_values(dual, rows, columns, np.array([[rho]])).derivative[0, 0]
        np.testing.assert_allclose(found * norm, float(slope), rtol=2e-12)


def _elu_slope(a: Any, b: Any, rho: Any) -> Any:
    """P(u, v > 0) + E[e^v; u > 0, v < 0] + E[e^u; u < 0, v > 0] + E[e^(u+v); u, v < 0]."""
    sine = mp.sqrt(1 - rho * rho)

    def negative(mean: Any, power: Any) -> Any:  # E[e^(power v); v < 0], v ~ N(mean, (b sine)^2)
        d = b * sine
        return mp.exp(power * mean + (power * d) ** 2 / 2) * mp.ncdf(-(mean + power * d * d) / d)

    def inner(z: Any) -> Any:
        mean = b * rho * z
        above = 1 - negative(mean, mp.mpf(0))
        below = negative(mean, mp.mpf(1))
        outer = mp.mpf(1) if z > 0 else mp.exp(a * z)
        return outer * (above + below) * mp.npdf(z)

    edges = [-14, -6, -3, -1, -0.3, -0.1, 0, 0.1, 0.3, 1, 3, 6, 14]
    return mp.quad(inner, edges)


NUMERIC = oracle("fc_numeric")
X = oracle("inputs")["X"][:5]


@pytest.mark.parametrize(
    "name",
    ["elu(1.0)", *(pytest.param(n, marks=pytest.mark.slow) for n in CASES if n[:3] != "elu")],
)
def test_networks_of_two_hidden_layers(name: str) -> None:
    """On rows that hold an opposite pair; the file is good to 1e-12 or so."""
    spec = {"preset": "fc", "depth": 2, "activation": CASES[name], "w_std": 1.3, "b_std": 0.4}
    out = compile_kernel(spec)(X)
    for output, kind in (("nngp", "K"), ("ntk", "T")):
        reference = NUMERIC[f"{name}|H=2|{kind}"]
        diagonal = np.sqrt(np.diag(reference))
        error = np.abs(out[output] - reference) / np.outer(diagonal, diagonal)
        assert error.max() < 3e-12
        assert (out[output] == out[output].T).all()


def plane_expectation(function: Any, s1: float, s2: float, rho: float, w: float) -> float:
    """E[f(u) f(v)] of an analytic f: the trapezoidal rule on the plane, which converges like
    exp(-2 pi d/h), d being the distance of the poles. No sectors, no polar coordinates."""
    z = np.arange(-9.0, 9.01, 0.05)
    density = np.exp(-z * z / 2)
    density /= density.sum()
    sine = np.sqrt(w * (1 + abs(rho)))
    u = s1 * z
    v = s2 * (rho * z[:, None] + sine * z)
    return float((density * function(u)) @ (function(v) @ density))


def tanh_network(x: np.ndarray, depth: int, w_std: float, b_std: float) -> dict[str, np.ndarray]:
    """NNGP and NTK of `depth` hidden tanh layers, pair by pair, float64."""

    def slope(a: Any) -> Any:
        return 1 / np.cosh(np.minimum(np.abs(a), 300)) ** 2

    k = w_std**2 * x @ x.T / x.shape[1] + b_std**2
    ntk = k.copy()
    for _ in range(depth):
        s = np.sqrt(np.diag(k))
        value, derivative = np.empty_like(k), np.empty_like(k)
        for i, j in np.ndindex(*k.shape):
            live = s[i] * s[j] > 0
            rho = np.clip(k[i, j] / (s[i] * s[j]), -1, 1) if live else 0.0
            rho = 1.0 if i == j else rho
            w = 1 - abs(rho)
            value[i, j] = plane_expectation(np.tanh, s[i], s[j], rho, w)
            derivative[i, j] = plane_expectation(slope, s[i], s[j], rho, w)
        k = w_std**2 * value + b_std**2
        ntk = k + w_std**2 * derivative * ntk
    return {"nngp": k, "ntk": ntk}


@pytest.fixture(scope="module")
def deep_tanh() -> CompiledKernel:
    spec = {"preset": "fc", "depth": 10, "activation": "tanh", "w_std": 1.5, "b_std": 0.1}
    return compile_kernel(spec)


def awkward_rows() -> np.ndarray:
    """Equal, opposite, zero, nearly equal and nearly opposite rows that float32 holds."""
    a, b = np.array([1.0, 2.0, -1.0, 0.5]), np.array([0.3, -0.7, 1.1, 0.2])
    step = 1e-6 * np.array([1.0, -2.0, 0.5, 3.0])
    rows = np.array([a, b, a, -b, 0 * a, a + step, step - b, 2 * a])
    return rows.astype(np.float32).astype(np.float64)


def assert_like_reference(out: dict[str, Any], expected: dict[str, Any], bound: float) -> None:
    for name, reference in expected.items():
        diagonal = np.sqrt(np.diag(reference))
        scale = np.outer(diagonal, diagonal)
        error = np.abs(out[name] - reference)
        assert np.max(error / scale) < bound
        large = np.abs(reference) > 0.05 * scale
        assert np.max(error[large] / np.abs(reference)[large]) < bound


def test_ten_layers_of_awkward_rows(deep_tanh: CompiledKernel) -> None:
    x = awkward_rows()
    out = deep_tanh(x)
    assert_like_reference(out, tanh_network(x, 10, 1.5, 0.1), 2e-12)
    for value in out.values():
        # Equal rows; entries near 0 are differences of numbers as large as the others.
        np.testing.assert_allclose(value[0], value[2], rtol=0, atol=1e-14 * np.abs(value).max())


@pytest.mark.slow
@pytest.mark.parametrize("depth", [3, 10])
def test_float32_networks_of_awkward_rows(depth: int) -> None:
    spec = {"preset": "fc", "depth": depth, "activation": "tanh", "w_std": 1.5, "b_std": 0.1}
    x = awkward_rows()
    out = compile_kernel(spec)(x.astype(np.float32))
    assert_like_reference(out, tanh_network(x, depth, 1.5, 0.1), 1e-6)


@pytest.mark.parametrize("part", sorted(set(PARTS) - {"relu", "abs", "elu", "selu", "constant"}))
def test_sectors_against_the_plane(part: Any) -> None:
    """The quadrature that tables are made from, for every analytic activation."""
    phi, s = PARTS[part](), np.array([0.4, 1.7])

    def evaluate(u: Any, weights: Any) -> Any:
        above, below = (phi.slope(sign * s[:, None] * u, np) for sign in (1, -1))
        return (above + below) * weights, (above - below) * weights

    for theta in (0.01, 0.8, 1.5):
        for found, rho in zip(
            pair_expectations(evaluate, theta), (np.cos(theta), -np.cos(theta)), strict=True
        ):
            expected = [
                plane_expectation(lambda a: phi.slope(a, np), a, b, rho, 2 * np.sin(theta / 2) ** 2)
                for a, b in ((s[0], s[0]), (s[0], s[1]), (s[1], s[1]))
            ]
            np.testing.assert_allclose(
                found[[0, 0, 1], [0, 1, 1]], expected, rtol=1e-12, atol=2e-15
            )


@pytest.mark.slow
@pytest.mark.parametrize("normalize", ["unit", "none"])
def test_deep_networks_of_equal_opposite_zero_and_close_rows(normalize: str) -> None:
    """Depth 100: finite, exact symmetry and limits that hold row by row."""
    x = np.array(
        [[1.0, 2.0, -1.0], [1.0, 2.0, -1.0], [-1.0, -2.0, 1.0], [0, 0, 0], [1, 2, -1 + 1e-6]]
    )
    spec = {
        "preset": "fc", "depth": 100, "activation": "tanh", "w_std": 1.3, "normalize": normalize,
    }  # fmt: skip
    out = compile_kernel(spec)(x)
    for value in out.values():
        assert np.isfinite(value).all()
        np.testing.assert_array_equal(value[0], value[1])  # equal rows
        np.testing.assert_array_equal(value[0, [0, 1, 4]], -value[2, [0, 1, 4]])  # tanh is odd
        assert (value[3] == 0).all()
        assert 0 < 1 - value[0, 4] / value[0, 0] < 0.01


def test_deviations_out_of_reach_are_an_error(deep_tanh: CompiledKernel) -> None:
    with pytest.raises(KernelRangeError, match="kernels of tanh are tabulated") as error:
        deep_tanh(np.full((8, 4), 2 * LARGEST_DEVIATION))
    assert "normalised inputs" in error.value.advice
    assert error.value.details["largest_deviation"] == LARGEST_DEVIATION


def test_deviations_of_pixels_out_of_reach_are_an_error() -> None:
    network = Network((4, 4), (Convolution((3, 3)), Activation(dual_of("tanh"))))
    images = np.full((1, 4, 4, 1), 3 * LARGEST_DEVIATION)
    with pytest.raises(KernelRangeError, match="standard deviations above 256"):
        prepare(network, images, "double")


@pytest.mark.parametrize(
    ("terms", "message"),
    [
        ([{"part": "constant", "coefficient": 1.0}], "constant"),
        ([{"part": "relu", "coefficient": 1.0}, {"part": "relu", "coefficient": 2.0}], "twice"),
        ([{"part": "sign", "coefficient": 1.0}], "terms"),
        ([], "terms"),
    ],
)
def test_combinations_that_mean_nothing(terms: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(InvalidKernelError, match=message):
        parse_kernel({"preset": "fc", "activation": {"fn": "combination", "terms": terms}})


def test_slopes_are_derivatives() -> None:
    """phi' of every function that tables are made from, by central differences."""
    x = np.array([-30.0, -4.0, -0.7, -1e-3, 1e-3, 0.4, 3.0, 40.0])
    for name, make in PARTS.items():
        phi, step = make(), 1e-5 * np.maximum(np.abs(x), 1e-2)
        slope = (phi.value(x + step, np) - phi.value(x - step, np)) / (2 * step)
        np.testing.assert_allclose(phi.slope(x, np), slope, rtol=1e-7, atol=1e-9, err_msg=name)
