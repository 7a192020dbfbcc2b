"""The NNGP and NTK recursion written down plainly, in many digits, pair by pair.

Shares no formula with workers/kernels: covariances, not correlations; arc cosines, not
polynomials; the whole chain in mpmath. Slow (milliseconds per pair and layer): a dozen rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import mpmath as mp
import numpy as np
from numpy.typing import NDArray

DIGITS = 50

Number = Any  # mpmath numbers carry no types
Duals = Callable[[Number, Number, Number], tuple[Number, Number]]


def relu_like(a: float, b: float) -> Duals:
    """E and Edot of slopes a (x > 0), b (x <= 0): Hayou et al. 2019 with Cho & Saul 2009."""
    p, r = (mp.mpf(a) + b) / 2, (mp.mpf(a) - b) / 2

    def duals(q: Number, q2: Number, c: Number) -> tuple[Number, Number]:
        s = mp.sqrt(q * q2)
        rho = c / s if s else mp.mpf(0)
        rho = max(min(rho, mp.mpf(1)), mp.mpf(-1))
        theta = mp.acos(rho)
        sine = mp.sqrt(1 - rho * rho)
        value = p * p * c + r * r * 2 * s / mp.pi * (sine + rho * (mp.pi / 2 - theta))
        return value, p * p + r * r * (1 - 2 * theta / mp.pi)

    return duals


def erf(amplitude: float, scale: float) -> Duals:
    """E and Edot of amplitude*erf(scale*x): Williams 1997."""
    a2, b2 = mp.mpf(amplitude) ** 2, mp.mpf(scale) ** 2

    def duals(q: Number, q2: Number, c: Number) -> tuple[Number, Number]:
        norm = mp.sqrt((1 + 2 * b2 * q) * (1 + 2 * b2 * q2))
        ratio = 2 * b2 * c / norm
        slope = norm * mp.sqrt(1 - ratio * ratio)
        return a2 * 2 / mp.pi * mp.asin(ratio), a2 * 4 * b2 / mp.pi / slope

    return duals


def shifted(duals: Duals, offset: float) -> Duals:
    """Those of an odd function plus a constant."""

    def result(q: Number, q2: Number, c: Number) -> tuple[Number, Number]:
        value, slope = duals(q, q2, c)
        return value + mp.mpf(offset) ** 2, slope

    return result


def sine(frequency: float, phase: Number) -> Duals:
    """E and Edot of sin(frequency*x + phase): characteristic function of a normal pair."""
    w2, mixing = mp.mpf(frequency) ** 2, mp.cos(2 * mp.mpf(phase))

    def duals(q: Number, q2: Number, c: Number) -> tuple[Number, Number]:
        near, far = (mp.exp(-w2 * (q + q2 + sign * 2 * c) / 2) for sign in (-1, 1))
        return (near - mixing * far) / 2, w2 * (near + mixing * far) / 2

    return duals


def gaussian_kernel(gamma: float) -> Duals:
    g = mp.mpf(gamma)

    def duals(q: Number, q2: Number, c: Number) -> tuple[Number, Number]:
        value = mp.exp(-g * (q + q2 - 2 * c))
        return value, 2 * g * value

    return duals


def gaussian(rate: float) -> Duals:
    """E and Edot of exp(-rate*x^2)."""
    a = mp.mpf(rate)

    def duals(q: Number, q2: Number, c: Number) -> tuple[Number, Number]:
        d = 1 + 2 * a * (q + q2) + 4 * a * a * (q * q2 - c * c)
        return 1 / mp.sqrt(d), 4 * a * a * c / mp.sqrt(d) ** 3

    return duals


def gelu(q: Number, q2: Number, c: Number) -> tuple[Number, Number]:
    """E and Edot of x Phi(x)."""
    d = 1 + q + q2 + q * q2 - c * c
    g = 2 / mp.pi / mp.sqrt(d)
    angle = 2 / mp.pi * mp.atan2(c, mp.sqrt(d))
    value = g * (q * q2 - q * c * c / (1 + q) + c * c / (1 + q2)) + c * angle
    slope = angle + c * g * (1 / (1 + q) + 1 / (1 + q2)) + c * g / d
    return (c + value) / 4, (1 + slope) / 4


def duals_of(activation: dict[str, Any]) -> Duals:
    """Reference duals of one activation layer of a canonical spec."""
    match activation["fn"]:
        case "relu":
            return relu_like(1, 0)
        case "leaky_relu":
            return relu_like(1, activation["slope"])
        case "relu_like":
            return relu_like(activation["positive_slope"], activation["negative_slope"])
        case "abs":
            return relu_like(1, -1)
        case "linear":
            return relu_like(1, 1)
        case "erf":
            return erf(activation["amplitude"], activation["scale"])
        case "sigmoid_like":
            return shifted(erf(0.5, 1 / 2.4020563531719796), 0.5)
        case "sin":
            return sine(activation["frequency"], activation["phase"])
        case "cos":
            return sine(activation["frequency"], mp.pi / 2)
        case "rbf":
            return gaussian_kernel(activation["gamma"])
        case "gaussian":
            return gaussian(activation["rate"])
        case "gelu":
            return gelu
        case other:
            raise ValueError(f"no reference for {other}")


def reference_kernels(
    canonical: dict[str, Any], x1: NDArray[Any], x2: NDArray[Any] | None = None
) -> dict[str, NDArray[np.float64]]:
    """{"nngp", "ntk"} (n1, n2) of a canonical spec, correctly rounded up to depth 100 or so."""
    right = x1 if x2 is None else x2
    shape = (len(x1), len(right))
    nngp, ntk = np.empty(shape), np.empty(shape)
    with mp.workdps(DIGITS):
        left_rows = [[mp.mpf(float(v)) for v in row] for row in x1]
        right_rows = [[mp.mpf(float(v)) for v in row] for row in right]
        for i, x in enumerate(left_rows):
            for j, y in enumerate(right_rows):
                if x2 is None and j < i:
                    nngp[i, j], ntk[i, j] = nngp[j, i], ntk[j, i]
                    continue
                nngp[i, j], ntk[i, j] = _pair(canonical, x, y)
    return {"nngp": nngp, "ntk": ntk}


class State(NamedTuple):
    """Variances of the two inputs, their covariance and their NTK after some layers."""

    q: Number
    q2: Number
    c: Number
    theta: Number

    def plus(self, other: State, factor: Number = 1) -> State:
        return State(*(a + factor * b for a, b in zip(self, other, strict=True)))


def _pair(canonical: dict[str, Any], x: list[Number], y: list[Number]) -> tuple[float, float]:
    layers = list(canonical["layers"])
    inner = [mp.fdot(x, x), mp.fdot(y, y), mp.fdot(x, y)]
    if layers[0]["op"] == "normalize":
        layers.pop(0)
        size = mp.sqrt(inner[0] * inner[1])
        inner = [mp.sign(inner[0]), mp.sign(inner[1]), inner[2] / size if size else mp.mpf(0)]
    start = State(*(value / len(x) for value in inner), mp.mpf(0))
    standard = canonical["parameterization"] == "standard"
    end, _ = _through(layers, start, start, len(x), standard, len(x))
    return float(end.c), float(end.theta)


def _through(
    layers: list[dict[str, Any]],
    state: State,
    source: State,
    fan_in: int,
    standard: bool,
    features: int,
) -> tuple[State, int]:
    """The state after `layers`; `source` is that of the inputs."""
    for layer in layers:
        match layer["op"]:
            case "activation":
                duals = duals_of(layer)
                c, slope = duals(state.q, state.q2, state.c)
                q, q2 = (duals(v, v, v)[0] for v in (state.q, state.q2))
                state = State(q, q2, c, slope * state.theta)
            case "dense":
                w, b = mp.mpf(layer["w_std"]) ** 2, mp.mpf(layer["b_std"]) ** 2
                trained = layer.get("trained", "all")
                weight = (fan_in / w if standard else 1) * (trained in ("all", "weights"))
                bias = (1 / b if standard and b else 1) * (trained in ("all", "biases"))
                theta = weight * w * state.c + bias * b + w * state.theta
                state = State(w * state.q + b, w * state.q2 + b, w * state.c + b, theta)
                fan_in = layer.get("width", fan_in)
            case "input_injection":
                u = mp.mpf(layer["w_std"]) ** 2
                counted = (features / u if standard else 1) * (layer["trained"] == "all")
                state = state.plus(source._replace(theta=counted * source.c), u)
            case "residual":
                rest = (source, fan_in, standard, features)
                branch, width = _through(layer["body"], state, *rest)
                skip, _ = _through(layer["shortcut"], state, *rest)
                state, fan_in = skip.plus(branch, mp.mpf(layer["scale"]) ** 2), width
            case other:
                raise ValueError(f"no reference for {other}")
    return state, fan_in
