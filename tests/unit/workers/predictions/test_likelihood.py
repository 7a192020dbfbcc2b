"""Log marginal likelihoods against SciPy's multivariate normal density."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from support.grams import kernel_like
from workers.predictions.likelihood import log_marginals, stored_likelihood
from workers.solves.errors import SolveFailedError
from workers.solves.source import ArrayTiles

K, _, _, _ = kernel_like(30, 1, dtype="float64")
Y = np.random.default_rng(0).standard_normal((30, 3))


def never() -> None:
    return None


@pytest.mark.parametrize("tile_rows", [7, 64])
@pytest.mark.parametrize("ridge", [1e-6, 0.1, 10.0])
def test_an_exact_likelihood_is_the_density_of_a_normal(ridge: float, tile_rows: int) -> None:
    found = stored_likelihood(ArrayTiles(K, tile_rows), Y, ridge, True, never).summary
    noise = ridge * np.trace(K) / 30
    expected = multivariate_normal(np.zeros(30), K + noise * np.eye(30)).logpdf(Y.T)
    np.testing.assert_allclose(found["per_output"], expected, rtol=1e-9)
    assert found["log_marginal_likelihood"] == pytest.approx(expected.sum(), rel=1e-9)
    terms = found["fit"] + found["complexity"] + found["constant"]
    assert terms == pytest.approx(expected.sum(), rel=1e-9)
    assert found["residual"] < 1e-10


def test_the_error_of_a_determinant_is_that_of_all_outputs_together() -> None:
    found = log_marginals(Y, Y, 4.0, 0.5)
    assert found["standard_error"] == pytest.approx(3 * 0.25)
    shifted = log_marginals(Y, Y, 4.5)
    change = found["log_marginal_likelihood"] - shifted["log_marginal_likelihood"]
    assert change == pytest.approx(3 * 0.25)


def test_a_singular_kernel_has_no_likelihood() -> None:
    with pytest.raises(SolveFailedError, match="not positive definite"):
        stored_likelihood(ArrayTiles(np.ones((2, 2)), 2), np.ones((2, 1)), 0.0, False, never)
