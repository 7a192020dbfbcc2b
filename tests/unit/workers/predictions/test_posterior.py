"""Posteriors and ensembles against the oracle, scikit-learn, and networks that are linear."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF

from support.oracle import oracle
from workers.predictions.eigensystem import eigensystem
from workers.predictions.posterior import gaussian_posterior, trained_ensemble
from workers.predictions.stored_posterior import Kernels, PosteriorAsked, stored_posterior
from workers.predictions.time_factors import descent_factors, flow_factors
from workers.solves.errors import SolveFailedError
from workers.solves.source import ArrayTiles

D = oracle("dynamics")
Y = D["y"][:, None]
TIMES = [0.0, 0.01, 0.1, 1.0, 10.0, 1000.0, None]


def never() -> None:
    return None


def asked(**changes: object) -> PosteriorAsked:
    given: dict[str, object] = {
        "prior": Kernels(ArrayTiles(D["Ktt"], 2), ArrayTiles(D["Kst"], 2, symmetric=False)),
        "trained": Kernels(ArrayTiles(D["Ttt"], 3), ArrayTiles(D["Tst"], 3, symmetric=False)),
        "test": ArrayTiles(D["Kss"], 2),
        "wanted": "covariance",
        "ridge": 0.0,
        "relative": False,
        "time": None,
    }
    return PosteriorAsked(**{**given, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("ridge", [0.0, 0.1])
@pytest.mark.parametrize("time", TIMES)
def test_the_trained_ensemble_at_every_time(ridge: float, time: float | None) -> None:
    key = f"flow|t={'inf' if time is None else time}|ridge={ridge}"
    found = stored_posterior(asked(ridge=ridge, time=time), Y, None, None, never)
    np.testing.assert_allclose(found.arrays["mean"][:, 0], D[f"{key}|mean"], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.arrays["covariance"], D[f"{key}|cov"], rtol=1e-9, atol=1e-11)
    one = stored_posterior(asked(ridge=ridge, time=time, wanted="variance"), Y, None, None, never)
    np.testing.assert_allclose(
        one.arrays["variance"], np.diag(found.arrays["covariance"]), rtol=1e-9, atol=1e-12
    )
    # Only the last layer trained: the kernel of training is that of the prior.
    last = stored_posterior(
        asked(ridge=ridge, time=time, trained=asked().prior), Y, None, None, never
    )
    np.testing.assert_allclose(
        last.arrays["mean"][:, 0], D[f"{key}|nngp_mean"], rtol=1e-8, atol=1e-11
    )
    np.testing.assert_allclose(
        last.arrays["covariance"], D[f"{key}|nngp_cov"], rtol=1e-8, atol=1e-10
    )


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_the_gaussian_posterior(noise: float) -> None:
    found = stored_posterior(asked(trained=None, ridge=noise), Y, None, None, never)
    np.testing.assert_allclose(found.arrays["mean"][:, 0], D[f"gp|noise={noise}|mean"], rtol=1e-9)
    np.testing.assert_allclose(
        found.arrays["covariance"], D[f"gp|noise={noise}|cov"], rtol=1e-8, atol=1e-11
    )
    assert found.summary["residual"] < 1e-12
    one = stored_posterior(
        asked(trained=None, ridge=noise, wanted="variance"), Y, None, None, never
    )
    np.testing.assert_allclose(
        one.arrays["variance"], np.diag(found.arrays["covariance"]), rtol=1e-9, atol=1e-12
    )
    alone = stored_posterior(
        asked(trained=None, ridge=noise, wanted="mean", test=None), Y, None, None, never
    )
    assert set(alone.arrays) == {"mean"}
    np.testing.assert_allclose(alone.arrays["mean"], found.arrays["mean"], rtol=1e-12)


def test_the_posterior_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    x, new = rng.standard_normal((30, 3)), rng.standard_normal((8, 3))
    y = rng.standard_normal((30, 2))
    kernel = RBF(1.3)
    model = GaussianProcessRegressor(kernel, alpha=0.05, optimizer=None).fit(x, y)
    mean, cov = model.predict(new, return_cov=True)
    found = gaussian_posterior(kernel(x), kernel(new, x), y, 0.05, kernel(new), "covariance")
    np.testing.assert_allclose(found.mean, mean, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.spread, cov[:, :, 0], rtol=1e-8, atol=1e-11)


def test_an_ensemble_of_linear_models_that_are_really_trained() -> None:
    """f = x·θ, θ₀ ~ N(0, I) trained by many small steps: moments of 40000 trained models."""
    rng = np.random.default_rng(1)
    x, new = rng.standard_normal((3, 4)), rng.standard_normal((2, 4))
    y, ridge, time, steps = rng.standard_normal(3), 0.3, 0.7, 2000
    start = rng.standard_normal((40_000, 4))
    # The map from θ₀ to θ is affine: train the basis, then apply it to every start.
    basis = np.vstack([np.zeros(4), np.eye(4)])
    theta = basis.copy()
    for _ in range(steps):
        slope = (theta @ x.T - y) @ x + ridge * (theta - basis)
        theta = theta - time / steps * slope
    outputs = (theta[0] + start @ (theta[1:] - theta[0])) @ new.T
    kernel, cross, prior = x @ x.T, new @ x.T, new @ new.T
    found = trained_ensemble(
        eigensystem(kernel), cross, y[:, None], time, ridge, kernel, cross, prior, "covariance"
    )
    assert found.spread is not None
    np.testing.assert_allclose(found.mean[:, 0], theta[0] @ new.T, rtol=2e-3, atol=1e-3)
    np.testing.assert_allclose(found.spread, np.cov(outputs.T), atol=0.03 * prior.max())


def test_variances_below_zero_are_said_and_singular_kernels_refused() -> None:
    kernel = np.ones((2, 2))
    with pytest.raises(SolveFailedError) as caught:
        gaussian_posterior(kernel, np.ones((1, 2)), np.ones((2, 1)), 0.0, None, "mean")
    noise = caught.value.details["suggested_ridge"]
    assert gaussian_posterior(kernel, np.ones((1, 2)), np.ones((2, 1)), noise, None, "mean").mean
    found = gaussian_posterior(
        np.eye(1), np.full((1, 1), 1.001), np.ones((1, 1)), 0.0, np.ones(1), "variance"
    )
    assert found.spread is not None
    assert found.spread[0] == 0.0
    assert "set to 0" in found.notes[0]


@pytest.mark.parametrize("value", [0.0, 1e-14, 1e-3, 0.4, 0.6, 1.7])
@pytest.mark.parametrize("steps", [0, 1, 7, 200])
def test_descent_factors_are_sums_of_steps(value: float, steps: int) -> None:
    rate = 0.9
    total = sum(rate * (1 - rate * value) ** s for s in range(steps))
    found = descent_factors(np.array([value]), steps, rate)
    np.testing.assert_allclose(found, total, rtol=1e-12, atol=1e-15)


def test_flow_is_the_limit_of_small_steps_and_has_its_ends() -> None:
    values = np.array([0.0, 1e-12, 0.5, 3.0])
    steps = 10**8
    np.testing.assert_allclose(
        flow_factors(values, 2.0), descent_factors(values, steps, 2.0 / steps), rtol=1e-7
    )
    np.testing.assert_array_equal(flow_factors(values, 0.0), 0.0)
    np.testing.assert_allclose(flow_factors(values[1:], None), 1 / values[1:])
