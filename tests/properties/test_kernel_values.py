"""What must hold of kernel matrices on any data."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from workers.kernels import compile_kernel
from workers.kernels.duals.base import Correlation, Dual
from workers.kernels.duals.erf import ErfDual
from workers.kernels.duals.relu_like import ReluLikeDual

FEATURES = 4
ROWS = 9
# One shape and few kernels: every example after the first runs compiled code.
KERNELS = {
    name: compile_kernel({"preset": "fc", "depth": 4, **fields})
    for name, fields in {
        "relu": {"b_std": 0.0},
        "leaky": {"activation": {"fn": "leaky_relu", "slope": 0.3}, "b_std": 0.2},
        "erf": {"activation": "erf", "w_std": 1.5, "b_std": 0.1},
    }.items()
}

entries = st.floats(-100, 100).map(lambda v: float(np.float32(v)))
few = settings(max_examples=25, deadline=None)


@st.composite
def rows(draw: st.DrawFn) -> NDArray[np.float64]:
    """Rows with exact repeats, opposites and zeros among them."""
    x = draw(arrays(np.float64, (ROWS, FEATURES), elements=entries))
    for row in range(1, ROWS):
        source = draw(st.integers(0, row - 1))
        match draw(st.sampled_from(["own", "own", "equal", "opposite", "near", "zero"])):
            case "equal":
                x[row] = x[source]
            case "opposite":
                x[row] = -x[source]
            case "near":
                x[row] = x[source] * (1 + 1e-6 * np.arange(FEATURES))
            case "zero":
                x[row] = 0
    return x


@few
@given(rows(), st.sampled_from(sorted(KERNELS)), st.sampled_from(["float32", "float64"]))
def test_symmetric_finite_and_positive_semidefinite(x: NDArray[Any], name: str, dtype: str) -> None:
    out = KERNELS[name](x.astype(dtype))
    for value in out.values():
        assert np.isfinite(value).all()
        np.testing.assert_array_equal(value, value.T)
        eigenvalues = np.linalg.eigvalsh(value.astype(np.float64))
        rounding = 50 * np.finfo(dtype).eps * max(eigenvalues[-1], 0)
        assert eigenvalues[0] >= -rounding


@few
@given(rows(), st.sampled_from(sorted(KERNELS)))
def test_cauchy_schwarz_and_monotone_outputs(x: NDArray[Any], name: str) -> None:
    out = KERNELS[name](x)
    for value in out.values():
        diagonal = np.sqrt(np.diag(value))
        assert (np.abs(value) <= np.outer(diagonal, diagonal) * (1 + 1e-14)).all()
    # The NTK adds the parts of the lower layers, none of which is negative on the diagonal.
    assert (np.diag(out["ntk"]) >= np.diag(out["nngp"])).all()


@few
@given(rows(), st.floats(-30, 30).map(lambda exponent: 2.0**exponent))
def test_bias_free_relu_is_homogeneous(x: NDArray[Any], scale: float) -> None:
    """K(a x, a y) = a^2 K(x, y)."""
    kernel = KERNELS["relu"]
    plain, scaled = kernel(x), kernel(x * scale)
    for name, value in plain.items():
        diagonal = np.sqrt(np.diag(value)) * scale
        bound = 1e-12 * np.outer(diagonal, diagonal)
        assert (np.abs(scaled[name] - scale**2 * value) <= bound).all()


@few
@given(rows(), st.permutations(range(ROWS)), st.sampled_from(sorted(KERNELS)))
def test_order_and_sides_do_not_matter(x: NDArray[Any], order: list[int], name: str) -> None:
    """Entries depend on their two rows only, whichever matrix they are part of."""
    kernel = KERNELS[name]
    whole, permuted, cross = kernel(x), kernel(x[order]), kernel(x, x[order])
    for output, value in whole.items():
        diagonal = np.sqrt(np.diag(value))
        bound = 1e-13 * np.outer(diagonal, diagonal)
        assert (
            np.abs(permuted[output] - value[np.ix_(order, order)]) <= bound[:, order][order]
        ).all()
        assert (np.abs(cross[output] - value[:, order]) <= bound[:, order]).all()


DUALS: list[Any] = [
    pytest.param(ReluLikeDual(1, 0), id="relu"),
    pytest.param(ReluLikeDual(1, 0.3), id="leaky"),
    pytest.param(ReluLikeDual(1.3, -0.4), id="relu-like"),
    pytest.param(ReluLikeDual(1, -1), id="abs"),
    pytest.param(ReluLikeDual(1, 1), id="linear"),
    pytest.param(ErfDual(1.2, 0.8), id="erf"),
]


@pytest.mark.parametrize("dual", DUALS)
@few
@given(st.floats(-0.98, 0.98), st.floats(0.1, 5), st.floats(0.1, 5))
def test_price(dual: Dual, rho: float, s1: float, s2: float) -> None:
    """Edot = dE/dc: the two halves of a dual belong together."""
    step = 1e-5
    grid = np.array([rho - step, rho, rho + step])
    with jax.enable_x64(True):
        pairs = Correlation(jnp.sqrt(jnp.asarray(1 - np.abs(grid)))[None], jnp.asarray(grid)[None])
        sides = (None, None) if dual.homogeneous else (jnp.array([[s1]]), jnp.array([[s2]]))
        out = dual.pair(pairs, *sides, degree="double")
        value = np.asarray(out.correlation.signed())[0]
        slope = 1.0 if out.derivative is None else float(out.derivative[0, 1])
    # Central differences: the third derivative of kinked duals grows towards |rho| = 1.
    assert abs((value[2] - value[0]) / (2 * step) - slope) < 1e-6
