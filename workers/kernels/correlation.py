"""Correlations of two panels (inputs.py), compiled once per process and shape for all kernels."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from workers.kernels.inputs import Panel, Product, close_limit, correlate, prepare_panel, repair

SAMPLED_ROWS = 64
"""Rows of each side in `sampled_correlation`."""

_prepare = jax.jit(prepare_panel, static_argnames=("single",))
_correlate = jax.jit(correlate, static_argnames=("symmetric", "product"))
_repair = jax.jit(repair, static_argnames=("symmetric", "product"))


def prepare(rows: NDArray[Any], like: NDArray[Any]) -> Panel:
    """Panel of `rows` (n, d) for results in the dtype of `like`. Call with 64-bit types enabled."""
    panel: Panel = _prepare(rows, like, single=like.dtype == np.float32)
    return panel


def input_correlation(
    left: Panel, right: Panel, *, symmetric: bool, product: Product = "centered"
) -> jax.Array:
    """Folded correlations (see inputs.py) of the rows of two panels, close pairs included.

    In the dtype of the panels ("centered"), or in float64. Most blocks have no close pairs, so
    whether to repair is decided here, between two programs: the second is compiled only where it
    is needed. Call with 64-bit types enabled.
    """
    folded: jax.Array
    folded, nearest = _correlate(left, right, symmetric=symmetric, product=product)
    if float(nearest) >= close_limit(product, single=left.unit.dtype == np.float32):
        return folded
    repaired: jax.Array = _repair(folded, left, right, symmetric=symmetric, product=product)
    return repaired


def sampled_correlation(left: Panel, right: Panel) -> NDArray[Any]:
    """Folded correlations of some rows of both sides, to a few roundings."""
    rows, columns = (
        np.asarray(panel.unit)[:: max(1, len(panel.unit) // SAMPLED_ROWS)]
        for panel in (left, right)
    )
    rho = rows @ columns.T
    return np.asarray(np.where(rho >= 0, 1 - rho, -1 - rho))
