"""Tasks that leave one worker behind when a matrix has more rows than `max_dense_rows`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from service.client import Client
from support.server import ServiceProcess
from workers.kernels import compile_kernel

pytestmark = pytest.mark.cluster

KERNEL = {"preset": "fc", "depth": 2, "w_std": 1.5, "b_std": 0.4}
TRAIN, TEST, CLASSES = 150, 40, 3


@dataclass(frozen=True)
class Bench:
    """A service that takes 100 rows for many, with Grams of 150; and the exact kernels."""

    client: Client
    gram: str
    cross: str
    test_gram: str
    labels: np.ndarray
    test_labels: np.ndarray
    kernel: dict[str, np.ndarray]  # of training and test samples together, in this order


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, CLASSES, TRAIN + TEST)
    x = 2.0 * np.eye(CLASSES, 6)[labels] + rng.standard_normal((TRAIN + TEST, 6))
    folder = tmp_path_factory.mktemp("any-size")
    settings = {"compute_block_rows": 64, "max_dense_rows": 100}
    with ServiceProcess(folder, n_workers=1, **settings) as service:
        service.start()
        with service.client() as client:
            train = client.upload(x[:TRAIN], labels[:TRAIN]).id
            test = client.upload(x[TRAIN:], labels[TRAIN:]).id
            both = {"outputs": ["nngp", "ntk"]}
            gram, cross, test_gram = (
                client.gram(*sets, kernel=KERNEL, **both).matrix.id
                for sets in ((train,), (test, train), (test,))
            )
            out = compile_kernel(KERNEL)(x)
            kernel = {name: np.asarray(out[name]) for name in ("nngp", "ntk")}
            yield Bench(client, gram, cross, test_gram, labels[:TRAIN], labels[TRAIN:], kernel)


def test_the_best_of_several_ridges_by_folds(bench: Bench) -> None:
    job = bench.client.classify(
        bench.gram,
        [1e-4, 1e-2, 1.0],
        cross=bench.cross,
        array="nngp",
        selection="k_fold",
        folds=3,
    )
    answer = bench.client.answer(job)
    k = bench.kernel["nngp"][:TRAIN, :TRAIN]
    y = np.eye(CLASSES)[bench.labels] - 1 / CLASSES
    dual = np.linalg.solve(k + answer.summary["ridge"] * np.eye(TRAIN), y)
    np.testing.assert_allclose(answer.arrays["dual"], dual, rtol=0, atol=1e-4 * abs(dual).max())
    errors = [c["error_rate"] for c in answer.summary["curve"]]
    chosen = [c["ridge"] for c in answer.summary["curve"]].index(answer.summary["ridge"])
    assert errors[chosen] == min(errors)
    assert answer.summary["held_out"]["accuracy"] == pytest.approx(1 - errors[chosen])
    found = np.mean(answer.arrays["labels"] == bench.test_labels)
    assert answer.summary["test"]["accuracy"] == found > 0.6


def test_the_best_of_several_ridges_leaving_one_out(bench: Bench) -> None:
    ridges = [1e-3, 1e-2, 1.0]
    job = bench.client.classify(bench.gram, ridges, cross=bench.cross, array="nngp")
    answer = bench.client.answer(job)
    k = bench.kernel["nngp"]
    train, cross = k[:TRAIN, :TRAIN], k[TRAIN:, :TRAIN]
    y = np.eye(CLASSES)[bench.labels] - 1 / CLASSES
    for relative, found in zip(ridges, answer.summary["curve"], strict=True):
        ridge = relative * np.trace(train) / TRAIN
        inverse = np.linalg.inv(train + ridge * np.eye(TRAIN))
        residuals = inverse @ y / np.diag(inverse)[:, None]
        assert found["ridge"] == pytest.approx(ridge, rel=1e-5)
        assert found["mean_squared_error"] == pytest.approx((residuals**2).mean(), rel=1e-4)
        if found["ridge"] == answer.summary["ridge"]:
            np.testing.assert_allclose(answer.arrays["held_out"], y - residuals, atol=1e-4)
            predicted = cross @ inverse @ y
            np.testing.assert_allclose(answer.arrays["predictions"], predicted, atol=1e-4)
    assert answer.summary["selection"] == "leave_one_out"


def test_a_posterior_with_its_variance(bench: Bench) -> None:
    asked = {"test_matrix": bench.test_gram, "ridge": 0.1, "ridge_relative": False}
    answer = bench.client.answer(bench.client.posterior(bench.gram, bench.cross, **asked))
    k = bench.kernel["nngp"]
    cross, prior = k[TRAIN:, :TRAIN], np.diagonal(k)[TRAIN:]
    inverse = np.linalg.inv(k[:TRAIN, :TRAIN] + 0.1 * np.eye(TRAIN))
    y = np.where(np.eye(CLASSES)[bench.labels] > 0, 0.9, -0.1)
    np.testing.assert_allclose(answer.arrays["mean"], cross @ inverse @ y, rtol=0, atol=1e-5)
    variance = prior - np.einsum("ij,jk,ik->i", cross, inverse, cross)
    np.testing.assert_allclose(answer.arrays["variance"], variance, rtol=0, atol=1e-5 * prior.max())


def test_a_likelihood_exactly_and_within_its_error_bar(bench: Bench) -> None:
    asked = {"ridge": 0.1, "ridge_relative": False, "encoding": "real"}
    client = bench.client
    exact = client.answer(
        client.log_marginal_likelihood(bench.gram, method="cholesky", **asked)
    ).summary
    k = bench.kernel["nngp"][:TRAIN, :TRAIN] + 0.1 * np.eye(TRAIN)
    density = multivariate_normal(np.zeros(TRAIN), k).logpdf(bench.labels.astype(float))
    assert exact["log_marginal_likelihood"] == pytest.approx(density, rel=1e-5)
    assert (exact["method"], exact["standard_error"]) == ("cholesky", 0.0)
    estimated = client.answer(client.log_marginal_likelihood(bench.gram, **asked)).summary
    assert estimated["method"] == "lanczos"
    missed = abs(estimated["log_marginal_likelihood"] - density)
    assert missed < 4 * estimated["standard_error"]


def test_the_largest_eigenvalues_and_what_the_others_add_up_to(bench: Bench) -> None:
    answer = bench.client.answer(
        bench.client.spectrum(bench.gram, array="nngp", largest=8, components=2, ridge=1e-3)
    )
    values = np.linalg.eigvalsh(bench.kernel["nngp"][:TRAIN, :TRAIN])[::-1]
    assert answer.summary["method"] == "lanczos"
    np.testing.assert_allclose(answer.arrays["eigenvalues"], values[:8], rtol=1e-4)
    assert answer.arrays["scores"].shape == (TRAIN, 2)
    dimension = answer.summary["effective_dimension"]
    exact = np.sum(values / (values + answer.summary["ridge"]))
    assert abs(dimension["value"] - exact) < 5 * dimension["standard_error"]


@pytest.mark.parametrize("time", [0.2, None])
def test_networks_from_many_starts_with_their_covariance(bench: Bench, time: float | None) -> None:
    """Survey (155)-(156)."""
    answer = bench.client.answer(
        bench.client.posterior(
            bench.gram,
            bench.cross,
            test_matrix=bench.test_gram,
            model="ensemble",
            time=time,
            output="covariance",
            ridge=0.1,
            ridge_relative=False,
        )
    )
    theta, prior = bench.kernel["ntk"], bench.kernel["nngp"]
    values, vectors = np.linalg.eigh(theta[:TRAIN, :TRAIN] + 0.1 * np.eye(TRAIN))
    factors = 1 / values if time is None else -np.expm1(-values * time) / values
    a = theta[TRAIN:, :TRAIN] @ (vectors * factors) @ vectors.T
    y = np.where(np.eye(CLASSES)[bench.labels] > 0, 0.9, -0.1)
    np.testing.assert_allclose(answer.arrays["mean"], a @ y, rtol=0, atol=1e-5)
    k, cross = prior[:TRAIN, :TRAIN], prior[TRAIN:, :TRAIN]
    exact = prior[TRAIN:, TRAIN:] - a @ cross.T - cross @ a.T + a @ k @ a.T
    found = answer.arrays["covariance"]
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5 * abs(prior).max())


def test_training_followed_in_time(bench: Bench) -> None:
    times = [0.0, 0.05, 1.0]
    job = bench.client.dynamics(bench.gram, times=times, cross=bench.cross, encoding="real")
    answer = bench.client.answer(job)
    k = bench.kernel["ntk"]
    values, vectors = np.linalg.eigh(k[:TRAIN, :TRAIN])
    y = bench.labels[:, None].astype(float)
    for number, time in enumerate(times):
        factors = -np.expm1(-values * time) / values
        dual = vectors @ (factors[:, None] * (vectors.T @ y))
        exact = k[:, :TRAIN] @ dual
        np.testing.assert_allclose(answer.arrays["train"][:, number], exact[:TRAIN], atol=1e-6)
        np.testing.assert_allclose(answer.arrays["test"][:, number], exact[TRAIN:], atol=1e-6)
    assert answer.summary["largest_eigenvalue"] == pytest.approx(values[-1], rel=1e-4)
