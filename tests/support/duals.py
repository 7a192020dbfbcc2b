"""Evaluation of dual kernels in tests: compiled once per dual, float64."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from workers.kernels.duals.base import Correlation, Dual
from workers.kernels.duals.tabulated import TabulatedDual

Floats = NDArray[np.float64]


class Values(NamedTuple):
    """Of pairs: rho_E, 1 - |rho_E|, and Edot s s'/sqrt(E(q,q) E(q',q'))."""

    rho: Floats
    w: Floats
    derivative: Floats


@functools.lru_cache(maxsize=64)
def _compiled(dual: Dual) -> Any:
    def run(root: jax.Array, rho: jax.Array, s1: jax.Array, s2: jax.Array) -> tuple[jax.Array, ...]:
        sides = (None, None) if dual.homogeneous else (s1[:, None], s2[None, :])
        out = dual.pair(Correlation(root, rho), *sides, degree="double")
        derivative = jnp.ones_like(root) if out.derivative is None else out.derivative
        return out.correlation.signed(), out.correlation.w, derivative

    return jax.jit(run)


SHAPE = (8, 12)
"""Pairs of tabulated duals are padded to it: each, slow to compile, is compiled once."""


def pair_values(dual: Dual, s1: Floats, s2: Floats, rho: Floats, w: Floats | None = None) -> Values:
    """Pair map at deviations s1 (n1,), s2 (n2,) and correlations rho (n1, n2)."""
    w = 1 - np.abs(rho) if w is None else w
    rows, columns = rho.shape
    padded = isinstance(dual, TabulatedDual)
    down, across = (
        (0, max(0, size - n) * padded) for size, n in zip(SHAPE, rho.shape, strict=True)
    )
    roots, signed = (np.pad(x, (down, across), mode="edge") for x in (np.sqrt(w), rho))
    sides = np.pad(s1, down, mode="edge"), np.pad(s2, across, mode="edge")
    with jax.enable_x64(True):
        out = _compiled(dual)(*(jnp.asarray(x) for x in (roots, signed, *sides)))
        return Values(*(np.asarray(x)[:rows, :columns] for x in out))


def deviations(dual: Dual, s: Floats) -> Floats:
    """sqrt(E(q,q)) at deviations s (n,)."""
    with jax.enable_x64(True):
        return np.asarray(jax.jit(dual.deviation)(jnp.asarray(s)))


def variance_derivatives(dual: Dual, s: Floats) -> Floats:
    """E[phi'(s z)^2] s^2/E[phi(s z)^2] at deviations s (n,)."""
    with jax.enable_x64(True):
        return np.asarray(jax.jit(dual.variance_derivative)(jnp.asarray(s)))
