"""Label-aware kernels against the reference, and the interpolated curve against all weights."""

from __future__ import annotations

import numpy as np
import pytest

from support.grams import kernel_like
from support.oracle import oracle
from workers.analyses import label_kernel as module
from workers.analyses.errors import InvalidAnalysisError
from workers.analyses.label_kernel import label_kernel

ORACLE = oracle("label_hr")
T, CROSS, Y, S = ORACLE["Ttt"], ORACLE["Tst"], ORACLE["y"], float(ORACLE["s"])


@pytest.mark.parametrize("mixing", [0.0, 0.3, 1.0])
def test_the_reference(mixing: float) -> None:
    train = label_kernel(T, Y, mixing=mixing, bandwidth=S)
    test = label_kernel(T, Y, mixing=mixing, bandwidth=S, cross=CROSS)
    np.testing.assert_allclose(train.matrix, ORACLE[f"KHR_train|lam={mixing}"], rtol=1e-12)
    np.testing.assert_allclose(test.matrix, ORACLE[f"KHR_test|lam={mixing}"], rtol=1e-12)
    assert np.array_equal(train.matrix, train.matrix.T)
    assert not train.interpolated


def test_equal_classes_vote_one_and_a_wide_curve_is_the_mean_vote() -> None:
    labels = np.array([0, 0, 1, 2, 1, 0])
    one_hot = np.eye(3)[labels]
    found = label_kernel(T, one_hot, mixing=1.0, bandwidth=1e6).matrix
    # 3 + 1 of the 15 pairs agree.
    np.testing.assert_allclose(found, 4 / 15, rtol=1e-9)


def test_a_narrow_curve_is_the_vote_of_the_nearest_pair() -> None:
    found = label_kernel(T, Y, mixing=1.0, bandwidth=1e-9, cross=T + 1e-12).matrix
    apart = ~np.eye(6, dtype=bool)
    np.testing.assert_allclose(found[apart], np.outer(Y, Y)[apart])
    assert np.isfinite(found).all()  # far from every pair no weight underflows to 0/0


def test_the_interpolated_curve_is_the_exact_one(monkeypatch: pytest.MonkeyPatch) -> None:
    gram, cross, labels, _ = kernel_like(80, 30, dtype="float64")
    signs = np.where(labels > 0, 1.0, -1.0)
    for other in (None, cross):
        exact = label_kernel(gram, signs, mixing=0.5, bandwidth=0.05, cross=other)
        monkeypatch.setattr(module, "EXACT_PRODUCTS", 0)
        fast = label_kernel(gram, signs, mixing=0.5, bandwidth=0.05, cross=other)
        monkeypatch.undo()
        assert (exact.interpolated, fast.interpolated) == (False, True)
        np.testing.assert_allclose(fast.matrix, exact.matrix, atol=1e-4)
        assert fast.largest_error < 1e-4
        assert fast.bandwidth == exact.bandwidth


def test_what_cannot_be_is_refused() -> None:
    for options in ({"mixing": 1.5}, {"mixing": 0.5, "bandwidth": 0.0}):
        with pytest.raises(InvalidAnalysisError):
            label_kernel(T, Y, **options)
    with pytest.raises(InvalidAnalysisError, match="one kernel value"):
        label_kernel(np.eye(5) + 1, np.ones(5), mixing=0.5)
    with pytest.raises(InvalidAnalysisError, match="pairs"):
        label_kernel(np.ones((1, 1)), np.ones(1), mixing=0.5, bandwidth=1.0)
    with pytest.raises(InvalidAnalysisError, match="cross-Gram"):
        label_kernel(T, Y, mixing=0.5, bandwidth=1.0, cross=CROSS[:, :5])
