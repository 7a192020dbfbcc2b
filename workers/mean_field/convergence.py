"""How fast NNGP and NTK reach their depth limits: a table, and the rates it shows.

Measured on the exact infinite-width recursions of actual inputs, next to the rates that theory
predicts (depth_limit.py). With d_L the largest |T^L/normaliser - limit| over pairs x != x':

* ordered, chaotic: d_L ~ L^power exp(decay L);
* edge of chaos, residual: d_L L / q ~ |log_slope ln L + constant|.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from workers.kernels.duals.base import ActivationModel
from workers.mean_field.deep import (
    Architecture,
    DeepKernels,
    check_architecture,
    check_depths,
    check_rows,
    deep_kernels,
    deep_residual_kernels,
)
from workers.mean_field.depth_limit import DepthLimit, limit_of, residual_limit_of
from workers.mean_field.moments import check_deviations, moments
from workers.mean_field.phase import CHI_TOLERANCE
from workers.mean_field.roots import Search

Floats = NDArray[np.float64]

_NOISE = 1e-11
"""Distances below this fraction of the limit's scale are rounding and not fitted."""


@dataclass(frozen=True)
class ExponentialFit:
    """ln d_L = decay L + power ln L + constant, least squares over the `used` deepest rows."""

    decay: float
    power: float
    constant: float
    expected_decay: float | None
    used: int


@dataclass(frozen=True)
class LogarithmicFit:
    """L (T^L/(normaliser sqrt(qq')) - ratio) = log_slope ln L + constant, likewise; signed, for
    the pair with the largest distance at the deepest row."""

    log_slope: float
    constant: float
    expected_log_slope: float | None
    used: int


@dataclass(frozen=True)
class DepthConvergence:
    """The table; arrays are (depths,) unless stated.

    `depths` counts affine layers. `ntk_distinct`, `ntk_equal`: largest distances to the limit over
    pairs x != x' and x = x', of the NTK divided by limit.normaliser. `ntk_equal` is NaN in the
    chaotic phase, where T^L(x, x) has no limit; there `diagonal_growth` is d ln T^L(x,x)/dL
    between the last two depths, to compare with ln chi (None otherwise). `nngp_distinct`:
    likewise for K^L / growth^(L-1). `local_rates` (depths - 1,): between successive depths,
    d ln d_L / dL in the ordered and chaotic phases, d ln d_L / d ln L (about -1) at criticality.
    `expected`: `ntk_distinct` if it went at the rate of theory from the deepest row above rounding
    on: e^(decay L), or |log_slope ln L + constant|/L with the constant of the fit; NaN where
    theory has no rate.
    """

    architecture: Architecture
    limit: DepthLimit
    depths: NDArray[np.int64]
    ntk_distinct: Floats
    ntk_equal: Floats
    nngp_distinct: Floats
    local_rates: Floats
    expected: Floats
    fit: ExponentialFit | LogarithmicFit | None
    diagonal_growth: float | None
    notes: tuple[str, ...]

    def rows(self) -> list[dict[str, float]]:
        """The table as one mapping per depth."""
        return [
            {
                "depth": int(depth),
                "ntk_distinct": float(distinct),
                "ntk_equal": float(equal),
                "nngp_distinct": float(nngp),
                "expected": float(expected),
            }
            for depth, distinct, equal, nngp, expected in zip(
                self.depths,
                self.ntk_distinct,
                self.ntk_equal,
                self.nngp_distinct,
                self.expected,
                strict=True,
            )
        ]


def depth_convergence(
    activation: str | dict[str, Any] | ActivationModel,
    x: Floats,
    depths: NDArray[np.int64] | list[int],
    *,
    w_std: float,
    b_std: float = 0.0,
    architecture: Architecture = "dense",
    chi_tolerance: float = CHI_TOLERANCE,
    search: Search | None = None,
) -> DepthConvergence:
    """Distances of the kernels on rows `x` (m, d) to their limit, at rising `depths`.

    O(m^2) per layer up to the largest depth. Residual networks have homogeneous activations and
    no bias. Raises InvalidKernelError; InvalidAnalysisError for bad inputs, where no limit
    exists, and where kernels exceed float64 (deep chaotic networks).
    """
    check_deviations(w_std, b_std)
    check_architecture(architecture, b_std)
    phi = moments(activation)
    rows, layers = check_rows(x), check_depths(depths)
    square = np.sum(rows**2, axis=1) / rows.shape[1]
    start = float(np.mean(w_std**2 * square + b_std**2))
    if architecture == "residual":
        limit = residual_limit_of(phi, w_std, start)
        kernels = deep_residual_kernels(phi, rows, layers, w_std=w_std)
    else:
        limit = limit_of(phi, w_std, b_std, start, chi_tolerance, search or Search())
        kernels = deep_kernels(phi, rows, layers, w_std=w_std, b_std=b_std)
    return _table(architecture, limit, kernels)


def _table(architecture: Architecture, limit: DepthLimit, kernels: DeepKernels) -> DepthConvergence:
    m = len(kernels.first_variance)
    distinct = ~np.eye(m, dtype=bool)
    per_pair = architecture == "residual" or (
        limit.phase is not None and limit.phase.every_variance
    )
    first = kernels.first_variance
    scale = np.sqrt(np.outer(first, first)) / limit.variance if per_pair else np.ones((m, m))
    critical = limit.normaliser != "1"
    divisor = kernels.depths[:, None, None] if critical else np.ones((1, 1, 1))
    ntk = kernels.ntk / divisor
    error = ntk - limit.ntk_distinct * scale
    ntk_distinct = np.max(np.abs(error[:, distinct]), axis=1)
    diagonal = np.diagonal(ntk, axis1=1, axis2=2)
    if limit.ntk_equal is None:
        ntk_equal = np.full(len(kernels.depths), np.nan)
    else:
        ntk_equal = np.max(np.abs(diagonal - limit.ntk_equal * np.diagonal(scale)), axis=1)
    nngp = kernels.nngp - limit.nngp_distinct * scale
    nngp_distinct = np.max(np.abs(nngp[:, distinct]), axis=1)
    size = max(abs(limit.ntk_distinct), limit.variance, float(np.max(first)) * 1e-3)
    usable = ntk_distinct > _NOISE * size
    notes = list(limit.notes)
    if not np.all(usable):
        notes.append("Distances at the level of rounding are in the table but not in the fit.")
    fit: ExponentialFit | LogarithmicFit | None
    if critical and limit.variance > 0:
        pair = np.unravel_index(np.argmax(np.abs(error[-1]) * distinct), (m, m))
        unit = limit.ntk_equal if limit.ntk_equal else 1.0
        signed = kernels.depths * error[:, pair[0], pair[1]] / (unit * scale[pair])
        fit = _logarithmic_fit(kernels.depths, signed, limit.log_slope)
    elif critical:
        fit = None
        notes.append("No rate is predicted for a variance that decays to 0 at criticality.")
    else:
        fit = _exponential_fit(kernels.depths[usable], ntk_distinct[usable], limit.decay)
    if fit is None and limit.variance > 0:
        notes.append("Too few depths with distances above rounding to fit a rate.")
    return DepthConvergence(
        architecture=architecture,
        limit=limit,
        depths=kernels.depths,
        ntk_distinct=ntk_distinct,
        ntk_equal=ntk_equal,
        nngp_distinct=nngp_distinct,
        local_rates=_local_rates(kernels.depths, ntk_distinct, logarithmic=critical),
        expected=_expected(kernels.depths, ntk_distinct, usable, fit),
        fit=fit,
        diagonal_growth=_growth(kernels) if limit.ntk_equal is None else None,
        notes=tuple(notes),
    )


def _local_rates(depths: NDArray[np.int64], d: Floats, *, logarithmic: bool) -> Floats:
    steps = np.diff(np.log(depths)) if logarithmic else np.diff(depths)
    with np.errstate(divide="ignore", invalid="ignore"):
        rates = np.diff(np.log(d)) / steps
    return np.asarray(np.where(np.isfinite(rates), rates, np.nan))


def _expected(
    depths: NDArray[np.int64],
    d: Floats,
    usable: NDArray[np.bool_],
    fit: ExponentialFit | LogarithmicFit | None,
) -> Floats:
    layers = depths.astype(float)
    shape = np.full(len(depths), np.nan)
    if isinstance(fit, ExponentialFit) and fit.expected_decay is not None:
        # From the last row on: e^(decay L) itself overflows at depths that are of interest.
        shape = fit.expected_decay * (layers - layers[np.flatnonzero(usable)[-1]])
        shape = np.exp(np.minimum(shape, 700.0))
    elif isinstance(fit, LogarithmicFit) and fit.expected_log_slope is not None:
        shape = np.abs(fit.expected_log_slope * np.log(layers) + fit.constant) / layers
    if not np.any(usable):
        return shape
    last = np.flatnonzero(usable)[-1]
    return np.asarray(d[last] * shape / shape[last])


def _exponential_fit(
    depths: NDArray[np.int64], d: Floats, expected: float | None
) -> ExponentialFit | None:
    used = max(len(depths) // 2, 4)
    if len(depths) < used:
        return None
    deep, values = depths[-used:].astype(float), np.log(d[-used:])
    columns = np.stack([deep, np.log(deep), np.ones(used)], axis=1)
    (decay, power, constant), *_ = np.linalg.lstsq(columns, values, rcond=None)
    return ExponentialFit(float(decay), float(power), float(constant), expected, used)


def _logarithmic_fit(
    depths: NDArray[np.int64], signed: Floats, expected: float | None
) -> LogarithmicFit | None:
    used = max(len(depths) // 2, 3)
    if len(depths) < used:
        return None
    slope, constant = np.polyfit(np.log(depths[-used:]), signed[-used:], 1)
    return LogarithmicFit(float(slope), float(constant), expected, used)


def _growth(kernels: DeepKernels) -> float | None:
    if len(kernels.depths) < 2:
        return None
    last = np.log(np.diagonal(kernels.ntk[-2:], axis1=1, axis2=2).max(axis=1))
    return float((last[1] - last[0]) / (kernels.depths[-1] - kernels.depths[-2]))
