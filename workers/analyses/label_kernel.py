"""Label-aware kernels: (1 - mixing) K + mixing Z, where Z estimates y y' from K alone.

Chen, He, Su, "Label-aware neural tangent kernel" (NeurIPS 2020), first variant; Golikov et al.
2022, section 8.2. Z(x, x') regresses the products of the targets of training pairs on their kernel
values with Gaussian weights (Nadaraya and Watson): Z depends on K(x, x') only, so it is one curve
of one variable. Pairs i = j are left out, which always agree. The papers leave the weight function
open; this one is a choice. On training pairs the pair itself votes: Z leaks labels there.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from workers.analyses.checks import Floats, check_gram, check_positive, check_targets
from workers.analyses.errors import InvalidAnalysisError
from workers.one_worker import CheckStop, Computed
from workers.solves.dense import load_dense
from workers.solves.source import TileSource

EXACT_PRODUCTS = 20_000_000
"""Up to this many pairs of a wanted value and a training pair every weight is computed; beyond,
training pairs are binned and the curve is interpolated."""

BINS = 4096
NODES = 8192
PROBES = 32
_BLOCK = 1 << 20  # weights computed at once


@dataclass(frozen=True)
class LabelCurve:
    """Z as a function of the kernel value: training pairs with the kernel values `at` (p,), the
    votes `votes` (p,), and how often each of them stands, `counts` (p,)."""

    at: Floats
    votes: Floats
    counts: Floats
    bandwidth: float

    def exact(self, values: Floats) -> Floats:
        """Z at `values` (n,): all weights. The nearest pair has weight 1, so none underflow."""
        found = np.empty(len(values))
        step = max(1, _BLOCK // len(self.at))
        for start in range(0, len(values), step):
            part = values[start : start + step, None]
            squares = ((part - self.at) / self.bandwidth) ** 2
            squares -= squares.min(axis=1, keepdims=True)
            weights = np.exp(-0.5 * squares) * self.counts
            found[start : start + step] = (weights * self.votes).sum(axis=1) / weights.sum(axis=1)
        return found


@dataclass(frozen=True)
class LabelKernel:
    """`matrix` (n, m): the mixed kernel. `bandwidth` in units of K. `interpolated`: whether the
    curve was binned; then `largest_error` is that of Z at some of the wanted values."""

    matrix: Floats
    bandwidth: float
    interpolated: bool
    largest_error: float
    notes: tuple[str, ...]


def default_bandwidth(gram: NDArray[Any]) -> float:
    """Silverman's rule (1986, eq. 3.31) for the kernel values of distinct pairs.

    Raises InvalidAnalysisError if they are all equal.
    """
    values = gram[np.triu_indices(len(gram), 1)].astype(np.float64)
    quarter, three = np.percentile(values, [25, 75]) if len(values) else (0.0, 0.0)
    spreads = (float(values.std()) if len(values) else 0.0, (three - quarter) / 1.34)
    positive = [spread for spread in spreads if spread > 0]
    if not positive:
        raise InvalidAnalysisError(
            "All pairs have one kernel value, so no bandwidth follows from them.",
            advice="Name a bandwidth.",
        )
    return float(0.9 * min(positive) * len(values) ** -0.2)


def label_kernel(
    gram: NDArray[Any],
    targets: NDArray[Any],
    *,
    mixing: float,
    bandwidth: float | None = None,
    cross: NDArray[Any] | None = None,
) -> LabelKernel:
    """Mixed kernel of the training samples (m, m), or with `cross` (n, m) of new samples (n, m).

    `targets` (m,) or (m, k): pairs vote with y_i . y_j, so one-hot rows vote 1 for equal classes
    and -1/1 labels vote for their sign. Raises InvalidAnalysisError for fewer than two samples, a
    mixing outside [0, 1] and a bandwidth that is not positive.
    """
    checked = check_gram(gram)
    y = check_targets(targets, checked.size)
    if checked.size < 2:
        raise InvalidAnalysisError("One sample makes no pairs.", advice="Use more samples.")
    if not 0 <= mixing <= 1:
        raise InvalidAnalysisError(
            f"mixing is {mixing!r}; it must lie between 0 and 1.", advice="0 is the kernel itself."
        )
    width = default_bandwidth(checked.values) if bandwidth is None else bandwidth
    upper = np.triu_indices(checked.size, 1)
    at = checked.values[upper]
    votes = (y @ y.T)[upper]
    curve = LabelCurve(at, votes, np.ones(len(at)), check_positive(width, "bandwidth"))
    if cross is None:
        triangle = np.triu_indices(checked.size)
        wanted = checked.values[triangle]
    else:
        base = np.asarray(cross, dtype=np.float64)
        if base.ndim != 2 or base.shape[1] != checked.size or not np.isfinite(base).all():
            raise InvalidAnalysisError(
                f"The cross-Gram of shape {base.shape} does not fit, or is not finite.",
                advice=f"It needs {checked.size} finite columns.",
            )
        wanted = base.ravel()
    interpolated = len(wanted) * len(at) > EXACT_PRODUCTS
    z, error = _interpolate(curve, wanted) if interpolated else (curve.exact(wanted), 0.0)
    mixed = (1 - mixing) * wanted + mixing * z
    if cross is None:
        matrix = np.zeros_like(checked.values)
        matrix[triangle] = mixed
        matrix = matrix + np.triu(matrix, 1).T
    else:
        matrix = mixed.reshape(base.shape)
    notes = ["Z of a training pair contains its own labels."] if cross is None else []
    return LabelKernel(matrix, curve.bandwidth, interpolated, error, tuple(notes))


def _interpolate(curve: LabelCurve, wanted: Floats) -> tuple[Floats, float]:
    """Z at `wanted` (n,) from binned pairs, linear between nodes; and its largest error at
    PROBES of them, spread over their order."""
    low, high = float(curve.at.min()), float(curve.at.max())
    width = (high - low) / BINS or 1.0
    index = np.minimum(((curve.at - low) / width).astype(np.int64), BINS - 1)
    counts = np.bincount(index, minlength=BINS).astype(np.float64)
    used = counts > 0
    means = [
        np.bincount(index, weights=values, minlength=BINS)[used] / counts[used]
        for values in (curve.at, curve.votes)
    ]
    binned = LabelCurve(means[0], means[1], counts[used], curve.bandwidth)
    # Wanted values beyond all pairs (variances, often) get nodes of their own.
    bounds = sorted({low, high, float(wanted.min()), float(wanted.max())})
    nodes = np.unique(
        np.concatenate([np.linspace(a, b, NODES) for a, b in pairwise(bounds)] or [np.array([low])])
    )
    z = np.interp(wanted, nodes, binned.exact(nodes))
    order = np.argsort(wanted, kind="stable")
    probes = order[np.linspace(0, len(order) - 1, PROBES).astype(np.int64)]
    return z, float(np.abs(z[probes] - curve.exact(wanted[probes])).max())


def stored_label_kernel(
    source: TileSource,
    targets: NDArray[Any],
    mixing: float,
    bandwidth: float | None,
    cross: TileSource | None,
    check_stop: CheckStop,
) -> Computed:
    """`label_kernel` of stored matrices; its one array has the name of that of `source`. The
    summary has the smallest eigenvalue of a square result, which may be negative."""
    gram = load_dense(source, check_stop)
    other = None if cross is None else load_dense(cross, check_stop)
    check_stop()
    found = label_kernel(gram, targets, mixing=mixing, bandwidth=bandwidth, cross=other)
    check_stop()
    values = found.matrix.astype((cross or source).layout.dtype)
    notes = list(found.notes)
    smallest = None
    if cross is None:
        smallest = float(linalg.eigvalsh(values.astype(np.float64), subset_by_index=[0, 0])[0])
        if smallest < 0:
            notes.append(
                f"The matrix has the eigenvalue {smallest:.3g}: solve with an absolute ridge above"
                f" {-smallest:.3g}."
            )
    summary = {
        "rows": len(values),
        "mixing": mixing,
        "bandwidth": found.bandwidth,
        "interpolated": found.interpolated,
        "largest_error": found.largest_error,
        "smallest_eigenvalue": smallest,
        "warnings": notes,
    }
    return Computed(summary, {source.layout.name: values})
