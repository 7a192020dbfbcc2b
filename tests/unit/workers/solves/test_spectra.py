"""Spectra against dense float64 eigenvalues, and the bounds that the results state."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from support.grams import kernel_like, spd
from workers.solves.block_lanczos import top_eigenpairs
from workers.solves.errors import InvalidSolveError
from workers.solves.lanczos_quadrature import lanczos_quadrature
from workers.solves.operator import LocalOperator
from workers.solves.solution import Outcome
from workers.solves.source import ArrayTiles
from workers.solves.spectrum import dense_spectrum


def operator(k: np.ndarray, tile_rows: int = 128) -> LocalOperator:
    return LocalOperator(ArrayTiles(k, tile_rows))


def kernel(rows: int = 400, dtype: str = "float32") -> np.ndarray:
    return kernel_like(rows, 1, features=4, dtype=dtype)[0]


def truth(k: np.ndarray) -> np.ndarray:
    return np.linalg.eigvalsh(k.astype(np.float64))[::-1]


def test_dense_spectrum() -> None:
    k = kernel(300)
    spectrum = dense_spectrum(operator(k), vectors=True)
    exact = truth(k)
    np.testing.assert_allclose(spectrum.values, exact, rtol=1e-9)
    assert spectrum.vectors is not None
    np.testing.assert_allclose(
        (spectrum.vectors * spectrum.values) @ spectrum.vectors.T, k, atol=1e-9
    )
    assert spectrum.condition_number == pytest.approx(exact[0] / exact[-1], rel=1e-9)
    assert spectrum.effective_dimension(0.1) == pytest.approx((exact / (exact + 0.1)).sum())
    assert spectrum.log_determinant(0.1) == pytest.approx(np.log(exact + 0.1).sum())
    assert dense_spectrum(operator(k)).vectors is None


def test_dense_spectrum_of_an_indefinite_matrix_has_no_condition_number() -> None:
    spectrum = dense_spectrum(operator(np.diag([3.0, 1.0, -1.0])))
    np.testing.assert_allclose(spectrum.values, [3, 1, -1])
    assert spectrum.condition_number is None
    assert spectrum.log_determinant(0.5) is None
    assert spectrum.log_determinant(2.0) == pytest.approx(np.log([5.0, 3.0, 1.0]).sum())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("count", [1, 10, 50])
def test_largest_eigenvalues_with_honest_residuals(count: int, dtype: str) -> None:
    k = kernel(dtype=dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-9
    found = top_eigenpairs(operator(k), count, tolerance=tolerance)
    assert found.outcome is Outcome.CONVERGED
    exact = truth(k)[:count]
    errors = np.abs(found.values - exact)
    assert errors.max() <= tolerance * exact[0]
    assert found.vectors is not None
    assert found.residuals is not None
    difference = k.astype(float) @ found.vectors - found.vectors * found.values
    residuals = np.linalg.norm(difference, axis=0)
    np.testing.assert_allclose(found.residuals, residuals, atol=1e-11 * exact[0])
    assert (errors <= residuals + 1e-12 * exact[0]).all()
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(count), atol=1e-10)


def test_few_passes_for_the_top_of_a_kernel() -> None:
    assert top_eigenpairs(operator(kernel()), 10, tolerance=1e-4).stats.applications <= 9


def test_thick_restarts_reach_the_same_eigenvalues_in_less_memory() -> None:
    k = kernel(dtype="float64")
    small = top_eigenpairs(operator(k), 10, tolerance=1e-8, space_bytes=1)
    assert small.outcome is Outcome.CONVERGED
    np.testing.assert_allclose(small.values, truth(k)[:10], rtol=1e-10)


@pytest.mark.parametrize(
    ("k", "count"),
    [
        pytest.param(np.eye(40), 3, id="identity"),
        pytest.param(np.ones((50, 50)), 5, id="rank one"),
        pytest.param(np.diag(np.arange(1.0, 8.0)), 7, id="all of them"),
        pytest.param(np.zeros((20, 20)), 2, id="zero"),
        pytest.param(np.array([[2.0]]), 1, id="one row"),
    ],
)
def test_degenerate_matrices(k: np.ndarray, count: int) -> None:
    found = top_eigenpairs(operator(k, 16), count)
    assert found.outcome is Outcome.CONVERGED
    np.testing.assert_allclose(found.values, truth(k)[:count], atol=1e-9)
    assert found.vectors is not None
    np.testing.assert_allclose(found.vectors.T @ found.vectors, np.eye(count), atol=1e-9)


def test_tolerance_below_float32_products_is_a_floor() -> None:
    found = top_eigenpairs(operator(kernel()), 5, tolerance=1e-12)
    assert found.outcome is Outcome.FLOOR
    assert found.residuals is not None
    assert found.residuals.max() < 1e-5 * found.values[0]


def test_limits_cancelling_and_nonsense() -> None:
    k = kernel(200)
    assert top_eigenpairs(operator(k), 5, max_applications=2).outcome is Outcome.MAX_APPLICATIONS
    assert top_eigenpairs(operator(k), 5, should_stop=lambda: True).outcome is Outcome.CANCELLED
    stopped = lanczos_quadrature(operator(k), should_stop=lambda: True)
    assert stopped.outcome is Outcome.CANCELLED
    for count in (0, 201):
        with pytest.raises(InvalidSolveError):
            top_eigenpairs(operator(k), count)
    with pytest.raises(InvalidSolveError):
        lanczos_quadrature(operator(k), probes=0)
    k[3, 4] = k[4, 3] = np.nan
    assert top_eigenpairs(operator(k), 5).outcome is Outcome.NON_FINITE
    assert lanczos_quadrature(operator(k)).outcome is Outcome.NON_FINITE
    assert dense_spectrum(operator(k)).outcome is Outcome.NON_FINITE


@pytest.mark.parametrize("basis_bytes", [0, 1 << 30])
def test_traces_within_a_few_standard_errors(basis_bytes: int) -> None:
    k = kernel()
    exact = truth(k)
    found = lanczos_quadrature(operator(k), probes=24, steps=40, basis_bytes=basis_bytes)
    assert found.stats.applications == 40
    assert found.stats.details["reorthogonalised"] is (basis_bytes > 0)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1)
    for ridge in (1e-3, 1e-1, 10.0):
        determinant = found.log_determinant(ridge)
        assert determinant is not None
        expected = np.log(exact + ridge).sum()
        error = abs(determinant.value - expected)
        assert error < 4 * determinant.standard_error + 1e-3 * abs(expected)
        dimension = found.effective_dimension(ridge)
        expected = (exact / (exact + ridge)).sum()
        assert abs(dimension.value - expected) < 4 * dimension.standard_error + 1e-3 * expected


def test_known_eigenvalues_are_counted_exactly() -> None:
    k = kernel()
    exact = truth(k)
    top = top_eigenpairs(operator(k), 10)
    blind = lanczos_quadrature(operator(k), probes=12, steps=30)
    found = lanczos_quadrature(operator(k), probes=12, steps=30, deflate=top)
    for function in (np.sqrt, np.square, lambda nodes: np.log(np.maximum(nodes, 0) + 0.1)):
        estimate = found.trace(function)
        assert estimate.standard_error < blind.trace(function).standard_error
        assert abs(estimate.value - function(exact).sum()) < 4 * estimate.standard_error
    square = found.trace(np.square)
    assert square.standard_error < 0.01 * square.value


def test_a_full_krylov_space_is_exact_whatever_the_probe() -> None:
    k = spd(30, condition=20, dtype="float64")
    found = lanczos_quadrature(operator(k, 16), probes=400, steps=30)
    determinant = found.log_determinant(0.5)
    assert determinant is not None
    assert determinant.value == pytest.approx(
        np.log(truth(k) + 0.5).sum(), abs=4 * determinant.standard_error
    )
    identity = lanczos_quadrature(operator(np.eye(25), 16), probes=3, steps=10)
    assert identity.trace(np.sqrt).value == pytest.approx(25)
    assert identity.log_determinant(-1.5) is None


def test_density_counts_eigenvalues() -> None:
    k = kernel()
    exact = truth(k)
    edges = np.array([0.0, exact[200], exact[100], exact[0] * 1.01])
    shares = lanczos_quadrature(operator(k), probes=30, steps=60).density(edges)
    np.testing.assert_allclose(shares, [0.5, 0.25, 0.25], atol=0.05)
    assert shares.sum() == pytest.approx(1.0)


def test_oracle_eigenvalues() -> None:
    path = Path(__file__).parents[3] / "data" / "oracle" / "conditioning.npz"
    with np.load(path) as oracle:
        gram, eigenvalues, condition = oracle["T"], oracle["eig"], float(oracle["kappa_tenas"])
    spectrum = dense_spectrum(operator(gram, 2))
    np.testing.assert_allclose(spectrum.values, eigenvalues, rtol=1e-12)
    assert spectrum.condition_number == pytest.approx(condition, rel=1e-12)
    top = top_eigenpairs(operator(gram, 2), 3, tolerance=1e-12)
    np.testing.assert_allclose(top.values, eigenvalues[:3], rtol=1e-12)
