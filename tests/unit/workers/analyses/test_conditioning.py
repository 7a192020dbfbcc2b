"""Conditioning, learning rates and ranks: functions of a Gram matrix's eigenvalues."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from support.oracle import oracle
from workers.analyses.conditioning import conditioning
from workers.analyses.effective_rank import effective_rank
from workers.analyses.eigenvalues import gram_eigenvalues
from workers.analyses.errors import InvalidAnalysisError
from workers.analyses.kernel_pca import kernel_pca
from workers.analyses.learning_rate import learning_rates

ORACLE = oracle("conditioning")
T = ORACLE["T"]


def with_eigenvalues(values: list[float], seed: int = 0) -> np.ndarray:
    """A symmetric matrix with these eigenvalues and random eigenvectors."""
    q, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(len(values), len(values))))
    matrix = (q * np.array(values)) @ q.T
    return 0.5 * (matrix + matrix.T)


def test_eigenvalues_of_the_reference() -> None:
    spectrum = gram_eigenvalues(T)
    np.testing.assert_allclose(spectrum.values, ORACLE["eig"], rtol=1e-12)
    assert spectrum.significant == 5
    assert spectrum.notes == ()


def test_both_conventions_of_conditioning() -> None:
    result = conditioning(T)
    assert result.largest == pytest.approx(float(ORACLE["lam_max"]), rel=1e-12)
    assert result.smallest == pytest.approx(float(ORACLE["lam_min"]), rel=1e-12)
    assert result.inverse_condition == pytest.approx(float(ORACLE["kappa_survey"]), rel=1e-12)
    assert result.condition_number == pytest.approx(float(ORACLE["kappa_tenas"]), rel=1e-12)
    assert result.trainable


def test_learning_rates_per_loss() -> None:
    result = learning_rates(T)
    assert result.half_sum == pytest.approx(float(ORACLE["eta_max"]), rel=1e-12)
    assert result.fastest == pytest.approx(float(ORACLE["eta_opt"]), rel=1e-12)
    assert result.sum == pytest.approx(result.half_sum / 2)
    assert result.half_mean == pytest.approx(5 * result.half_sum)
    assert result.mean == pytest.approx(5 * result.half_sum / 2)
    assert result.slowest_mode == pytest.approx(2 * float(ORACLE["kappa_survey"]), rel=1e-12)


@pytest.mark.parametrize(("share", "stable"), [(0.99, True), (1.01, False)])
def test_descent_is_stable_up_to_the_limit(share: float, stable: bool) -> None:
    eta, y = share * learning_rates(T).half_sum, np.arange(5.0)
    f = np.zeros(5)
    for _ in range(4000):
        f = f - eta * T @ (f - y)
    assert (np.linalg.norm(f - y) < 1) == stable


def test_fastest_rate_contracts_as_stated() -> None:
    result = learning_rates(T)
    worst = np.max(np.abs(1 - result.fastest * ORACLE["eig"]))
    assert worst == pytest.approx(result.fastest_factor, rel=1e-12)


def test_noise_eigenvalues_are_said_to_be_noise() -> None:
    singular = with_eigenvalues([1.0, 0.5, 0.25, 0.0])
    result = conditioning(singular)
    assert result.condition_number is None
    assert not result.trainable
    assert result.inverse_condition < 1e-15
    assert "1 of 4 eigenvalues" in result.notes[0]
    assert learning_rates(singular).slowest_mode == 0


def test_float32_entries_raise_the_noise_floor() -> None:
    matrix = with_eigenvalues([1.0, 0.5, 1e-9])
    assert conditioning(matrix).condition_number == pytest.approx(1e9, rel=1e-5)
    assert conditioning(matrix.astype(np.float32)).condition_number is None


def test_effective_ranks() -> None:
    flat = effective_rank(np.eye(7), ridge=1.0)
    assert flat.numerical == 7
    for value in (flat.entropy, flat.participation, flat.stable):
        assert value == pytest.approx(7)
    assert flat.dimension == pytest.approx(3.5)

    single = effective_rank(np.full((4, 4), 2.0))
    assert single.numerical == 1
    for value in (single.entropy, single.participation, single.stable, single.dimension):
        assert value == pytest.approx(1)

    values = np.array([4.0, 2.0, 1.0, 1.0])
    result = effective_rank(with_eigenvalues(list(values)), ridge=0.5)
    shares = values / 8
    assert result.entropy == pytest.approx(math.exp(-np.sum(shares * np.log(shares))))
    assert result.participation == pytest.approx(64 / 22)
    assert result.stable == pytest.approx(2)
    assert result.dimension == pytest.approx(np.sum(values / (values + 0.5)))


def test_kernel_pca_of_the_reference() -> None:
    plain, centred = kernel_pca(T, 3), kernel_pca(T, 3, centred=True)
    np.testing.assert_allclose(plain.eigenvalues, ORACLE["pca_noncentred"], rtol=1e-12)
    np.testing.assert_allclose(centred.eigenvalues, ORACLE["pca_centred"], rtol=1e-12)


@pytest.mark.parametrize("centred", [False, True])
def test_scores_of_all_components_are_features_of_the_kernel(centred: bool) -> None:
    result = kernel_pca(T, 5, centred=centred)
    p = np.eye(5) - 0.2 if centred else np.eye(5)
    np.testing.assert_allclose(result.scores @ result.scores.T, p @ T @ p, atol=1e-13)
    np.testing.assert_allclose(result.vectors.T @ result.vectors, np.eye(5), atol=1e-13)
    assert np.sum(result.explained) == pytest.approx(1)
    assert len(result.notes) == centred  # centring leaves one component without variance
    assert np.all(np.max(result.vectors, axis=0) == np.max(np.abs(result.vectors), axis=0))


def test_first_component_of_a_nearly_constant_kernel_is_constant() -> None:
    result = kernel_pca(T + 1e6, 1)
    np.testing.assert_allclose(result.vectors[:, 0], 1 / math.sqrt(5), rtol=1e-5)


def test_constant_kernel_has_no_centred_components() -> None:
    with pytest.raises(InvalidAnalysisError, match="constant"):
        kernel_pca(np.full((4, 4), 3.0), 1, centred=True)


@pytest.mark.parametrize("components", [0, 6])
def test_bad_number_of_components(components: int) -> None:
    with pytest.raises(InvalidAnalysisError, match="components"):
        kernel_pca(T, components)


def test_one_sample() -> None:
    one = np.array([[2.0]])
    assert conditioning(one).condition_number == 1
    assert learning_rates(one).fastest_factor == 0
    assert effective_rank(one).entropy == pytest.approx(1)


BAD: dict[str, Any] = {
    "integers": np.eye(3, dtype=np.int64),
    "complex": np.eye(3, dtype=complex),
    "not square": np.ones((3, 2)),
    "a vector": np.ones(3),
    "empty": np.zeros((0, 0)),
    "not finite": np.array([[1.0, np.nan], [np.nan, 1.0]]),
    "not symmetric": np.array([[1.0, 0.5], [0.4, 1.0]]),
    "zero": np.zeros((2, 2)),
    "negative diagonal": np.array([[1.0, 0.0], [0.0, -1.0]]),
    "indefinite": np.array([[1.0, 2.0], [2.0, 1.0]]),
}


@pytest.mark.parametrize("analysis", [conditioning, learning_rates, effective_rank])
@pytest.mark.parametrize("matrix", BAD.values(), ids=BAD.keys())
def test_what_is_not_a_gram(analysis: Callable[[Any], Any], matrix: np.ndarray) -> None:
    with pytest.raises(InvalidAnalysisError) as caught:
        analysis(matrix)
    assert caught.value.kind == "invalid-analysis"
    assert caught.value.advice


def test_rounding_of_symmetry_is_accepted() -> None:
    skewed = T.copy()
    skewed[0, 1] *= 1 + 1e-15
    assert conditioning(skewed).largest == pytest.approx(float(ORACLE["lam_max"]), rel=1e-12)


def test_negative_ridge() -> None:
    with pytest.raises(InvalidAnalysisError, match="ridge"):
        effective_rank(T, ridge=-1.0)
