"""Ridges from one eigendecomposition, against models that are really trained again."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge

from support.grams import kernel_like, ridge_solution
from support.oracle import oracle
from workers.predictions.eigensystem import eigensystem
from workers.predictions.ridge import fit_ridge, held_out_residuals, random_folds
from workers.predictions.stored_ridge import NewInputs, RidgeAsked, stored_ridge
from workers.solves.errors import SolveFailedError
from workers.solves.source import ArrayTiles
from workers.solves.targets import encode_targets

TRAIN, TEST = 40, 15
K, CROSS, LABELS, TEST_LABELS = kernel_like(TRAIN, TEST, dtype="float64")
Y = np.random.default_rng(0).standard_normal((TRAIN, 2))


def never() -> None:
    return None


def retrained(k: np.ndarray, y: np.ndarray, ridge: float, held: np.ndarray) -> np.ndarray:
    """Predictions for `held` of scikit-learn's model trained without them."""
    rest = np.setdiff1d(np.arange(len(k)), held)
    model = KernelRidge(alpha=ridge, kernel="precomputed").fit(k[np.ix_(rest, rest)], y[rest])
    return model.predict(k[np.ix_(held, rest)])


@pytest.mark.parametrize("ridge", [1e-6, 1e-2, 10.0])
@pytest.mark.parametrize("folds", [None, 2, 7, TRAIN])
def test_held_out_errors_are_those_of_models_trained_again(ridge: float, folds: int | None) -> None:
    cut = None if folds is None else random_folds(TRAIN, folds, 3)
    residuals = held_out_residuals(eigensystem(K), Y, ridge, cut)
    for held in cut or np.arange(TRAIN)[:, None]:
        expected = Y[held] - retrained(K, Y, ridge, held)
        np.testing.assert_allclose(residuals[held], expected, rtol=1e-8, atol=1e-10)


def test_folds_are_a_partition_that_the_seed_decides() -> None:
    folds = random_folds(23, 5, 1)
    assert sorted(np.concatenate(folds)) == list(range(23))
    assert {len(fold) for fold in folds} == {4, 5}
    again, other = random_folds(23, 5, 1), random_folds(23, 5, 2)
    assert all((a == b).all() for a, b in zip(folds, again, strict=True))
    assert any((a != b).any() for a, b in zip(folds, other, strict=False) if len(a) == len(b))


def test_the_kept_ridge_has_the_smallest_error_and_the_right_dual() -> None:
    ridges = [10.0**n for n in range(-6, 3)]
    fit = fit_ridge(eigensystem(K), Y, ridges)
    assert [c.ridge for c in fit.curve] == ridges
    best = min(fit.curve, key=lambda c: c.mean_squared_error or np.inf)
    assert fit.ridge == best.ridge
    np.testing.assert_allclose(fit.dual, ridge_solution(K, Y, fit.ridge), rtol=1e-8)
    assert max(fit.residuals) < 1e-12
    held = np.array([5])
    np.testing.assert_allclose(
        fit.held_out[held], retrained(K, Y, fit.ridge, held), rtol=1e-8, atol=1e-10
    )


def test_an_endless_ridge_predicts_nothing() -> None:
    fit = fit_ridge(eigensystem(K), Y, [1e12])
    np.testing.assert_allclose(fit.dual, Y / 1e12, rtol=1e-9)
    np.testing.assert_allclose(fit.curve[0].mean_squared_error, np.mean(Y**2), rtol=1e-9)


@pytest.mark.parametrize("tile_rows", [7, 16, 64])
def test_classes_through_tiles_against_scikit_learn(tile_rows: int) -> None:
    y, classes = encode_targets(LABELS, TRAIN, "centred_one_hot")
    ridges = (1e-3, 1e-1, 1.0)
    asked = RidgeAsked(ridges, relative=True, folds=None, seed=0, criterion="error_rate")
    test = NewInputs(ArrayTiles(CROSS, tile_rows, symmetric=False), TEST_LABELS)
    found = stored_ridge(ArrayTiles(K, tile_rows), y, classes, asked, test, never)
    unit = np.trace(K) / TRAIN
    rates = []
    for ridge in ridges:
        guesses = [retrained(K, y, ridge * unit, np.array([i]))[0].argmax() for i in range(TRAIN)]
        rates.append(float(np.mean(np.array(guesses) != LABELS)))
    assert [c["error_rate"] for c in found.summary["curve"]] == rates
    best = max(r for r, rate in zip(ridges, rates, strict=True) if rate == min(rates))
    assert found.summary["ridge"] == pytest.approx(best * unit)
    model = KernelRidge(alpha=best * unit, kernel="precomputed").fit(K, y)
    expected = model.predict(CROSS)
    np.testing.assert_allclose(found.arrays["predictions"], expected, rtol=1e-7, atol=1e-10)
    np.testing.assert_array_equal(found.arrays["labels"], expected.argmax(axis=1))
    assert found.summary["test"]["accuracy"] == np.mean(expected.argmax(axis=1) == TEST_LABELS)
    assert np.sum(found.summary["test"]["confusion"]) == TEST
    assert found.summary["held_out"]["accuracy"] == pytest.approx(1 - min(rates))
    np.testing.assert_array_equal(
        found.arrays["held_out_labels"], found.arrays["held_out"].argmax(axis=1)
    )


@pytest.mark.parametrize(("name", "ridge"), [("", 0.0), ("_ridge_tr/n*0.01", 0.01)])
def test_ten_classes_against_the_oracle(name: str, ridge: float) -> None:
    expected = oracle("dynamics")
    asked = RidgeAsked((ridge,), relative=True, folds=None, seed=0)
    test = NewInputs(ArrayTiles(expected["Tst"], 2, symmetric=False), None)
    source, y = ArrayTiles(expected["Ttt"], 2), expected["Y_encoded"]
    found = stored_ridge(source, y, None, asked, test, never)
    np.testing.assert_allclose(
        found.arrays["predictions"], expected[f"krr_multiclass{name}"], rtol=1e-9, atol=1e-12
    )


def test_a_ridge_below_the_rounding_is_called_so() -> None:
    twice = np.repeat(np.repeat(K[:10, :10], 2, axis=0), 2, axis=1).astype(np.float32)
    fit = fit_ridge(eigensystem(twice), Y[:20], [1e-8, 1.0])
    assert fit.ridge == 1.0
    assert not any("below the rounding" in note for note in fit.notes)
    small = fit_ridge(eigensystem(twice), Y[:20], [1e-7])
    assert any("below the rounding" in note for note in small.notes)


def test_an_indefinite_kernel_is_refused_with_the_ridge_that_it_needs() -> None:
    k = np.array([[1.0, 2.0], [2.0, 1.0]])  # eigenvalues -1 and 3
    y = np.ones((2, 1))
    with pytest.raises(SolveFailedError, match="not positive definite") as caught:
        fit_ridge(eigensystem(k), y, [0.0, 0.5])
    needed = caught.value.details["suggested_ridge"]
    fit = fit_ridge(eigensystem(k), y, [0.5, needed])
    assert (fit.ridge, fit.curve[0].mean_squared_error) == (needed, None)
    assert any("for 1 of the ridges" in note for note in fit.notes)
