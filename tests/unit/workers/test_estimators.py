"""The scikit-learn estimators: scikit-learn's own checks, and against its KernelRidge."""

from __future__ import annotations

import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.kernel_ridge import KernelRidge
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.svm import SVC
from sklearn.utils.estimator_checks import parametrize_with_checks

from workers.estimators import NeuralKernel, NTKClassifier, NTKRegressor
from workers.kernels import compile_kernel
from workers.kernels.errors import InvalidInputsError, InvalidKernelError
from workers.solves.errors import SolveFailedError

RNG = np.random.default_rng(0)
X, X_NEW = RNG.normal(size=(60, 4)), RNG.normal(size=(20, 4))
Y = np.column_stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2]])
LABELS = np.array(["no", "yes"])[(X[:, 0] * X[:, 1] > 0).astype(int)]
KERNEL = compile_kernel({"preset": "fc", "depth": 2})


@pytest.mark.slow
@parametrize_with_checks([NTKRegressor(depth=1), NTKClassifier(depth=1), NeuralKernel(depth=1)])
def test_scikit_learn_checks(estimator: Any, check: Callable[[Any], None]):
    check(estimator)


@pytest.mark.parametrize("relative", [False, True])
def test_regression_is_kernel_ridge(relative: bool):
    gram = KERNEL(X)["ntk"]
    alpha = 0.1 * (np.trace(gram) / len(gram) if relative else 1.0)
    peer = KernelRidge(alpha=alpha, kernel="precomputed").fit(gram, Y)
    ours = NTKRegressor(depth=2, ridge=0.1, ridge_relative=relative).fit(X, Y)
    np.testing.assert_allclose(ours.dual_coef_, peer.dual_coef_, rtol=1e-9)
    np.testing.assert_allclose(ours.predict(X_NEW), peer.predict(KERNEL(X_NEW, X)["ntk"]))
    assert ours.ridge_ == pytest.approx(alpha)
    assert ours.fit(X, Y[:, 0]).predict(X_NEW).shape == (20,)


def test_of_several_ridges_the_best_left_out_is_taken():
    ridges = [1e-3, 1e-1, 1e1]
    gram = KERNEL(X)["ntk"]
    errors = []
    for ridge in ridges:
        left_out = [
            KernelRidge(alpha=ridge, kernel="precomputed")
            .fit(gram[np.ix_(keep, keep)], Y[keep])
            .predict(gram[[i]][:, keep])[0]
            for i in range(len(X))
            for keep in [np.arange(len(X)) != i]
        ]
        errors.append(np.mean((np.array(left_out) - Y) ** 2))
    fitted = NTKRegressor(depth=2, ridge=ridges, ridge_relative=False).fit(X, Y)
    assert fitted.ridge_ == ridges[int(np.argmin(errors))]


def test_classification():
    fitted = NTKClassifier(depth=2, ridge=1e-2).fit(X, LABELS)
    assert fitted.score(X, LABELS) > 0.95
    assert list(fitted.classes_) == ["no", "yes"]
    decided = np.where(fitted.decision_function(X_NEW) > 0, "yes", "no")
    np.testing.assert_array_equal(decided, fitted.predict(X_NEW))
    three = np.arange(len(X)) % 3
    assert NTKClassifier(depth=1).fit(X, three).decision_function(X_NEW).shape == (20, 3)
    assert not hasattr(fitted, "predict_proba")
    with pytest.raises(ValueError, match="one class"):
        NTKClassifier().fit(X, np.zeros(len(X)))


def test_grid_search_over_ridge_and_depth():
    search = GridSearchCV(
        NTKRegressor(ridge_relative=False), {"ridge": [1e-2, 1.0], "depth": [1, 2]}, cv=3
    ).fit(X, Y[:, 0])
    assert search.best_params_["depth"] in (1, 2)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    peers = [
        make_pipeline(NeuralKernel(depth=depth), KernelRidge(alpha=1e-2, kernel="precomputed")).fit(
            X[20:], Y[20:, 0]
        )
        for depth in (1, 2)
    ]
    ours = [
        NTKRegressor(ridge=1e-2, ridge_relative=False, depth=depth).fit(X[20:], Y[20:, 0])
        for depth in (1, 2)
    ]
    for peer, own in zip(peers, ours, strict=True):
        np.testing.assert_allclose(peer.predict(X[:20]), own.predict(X[:20]))


def test_clones_and_pickles_predict_the_same():
    fitted = NTKClassifier(depth=2, ridge=1e-2).fit(X, LABELS)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.decision_function(X_NEW), fitted.decision_function(X_NEW))
    assert clone(fitted).get_params() == fitted.get_params()
    assert not hasattr(clone(fitted), "dual_coef_")


def test_three_ways_into_a_support_vector_machine():
    kernel = NeuralKernel(depth=2, normalize="unit")
    called = SVC(kernel=kernel).fit(X, LABELS)
    gram = kernel(X)
    np.testing.assert_array_equal(gram, gram.T)
    computed = SVC(kernel="precomputed").fit(gram, LABELS)
    pipeline = make_pipeline(kernel, SVC(kernel="precomputed")).fit(X, LABELS)
    expected = called.decision_function(X_NEW)
    np.testing.assert_allclose(computed.decision_function(kernel(X_NEW, X)), expected, atol=1e-9)
    np.testing.assert_allclose(pipeline.decision_function(X_NEW), expected, atol=1e-9)
    search = GridSearchCV(SVC(kernel=NeuralKernel()), {"kernel__depth": [1, 3]}, cv=2)
    assert search.fit(X, LABELS).best_params_["kernel__depth"] in (1, 3)


def test_convolutional_networks_take_rows_with_a_shape():
    images = RNG.random((6, 4, 4, 1))
    spec = {
        "layers": [
            {"op": "conv", "filter": [3, 3]},
            {"op": "activation", "fn": "relu"},
            {"op": "flatten"},
            {"op": "dense"},
        ]
    }
    rows = images.reshape(6, -1)
    found = NeuralKernel(spec, sample_shape=(4, 4, 1))(rows)
    np.testing.assert_allclose(found, compile_kernel(spec)(images)["ntk"])
    with pytest.raises(InvalidInputsError, match="no samples of shape"):
        NeuralKernel(spec, sample_shape=(5, 4, 1))(rows)


def test_errors_say_what_to_do():
    twins = np.repeat(X[:5], 2, axis=0)
    with pytest.raises(SolveFailedError, match="not positive definite"):
        NTKRegressor(ridge=-1.0).fit(twins, np.arange(10.0))
    with pytest.raises(InvalidKernelError):
        NTKRegressor("cntk", w_std=[1.0] * 40, sample_shape=(2, 2, 1)).fit(X, Y)
    with pytest.raises(InvalidKernelError):
        NTKRegressor("no-such-preset").fit(X, Y)


def test_without_scikit_learn_the_error_names_the_extra():
    code = (
        "import sys\nsys.modules['sklearn'] = None\n"
        "sys.modules['sklearn.base'] = None\nimport workers.estimators"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "gramian[svm]" in done.stderr
