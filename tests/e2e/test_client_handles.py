"""The client as people use it: arrays in, handles out."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest
import zarr
from sklearn.base import clone
from sklearn.kernel_ridge import KernelRidge

from service.client import ApiError, Client, GramHandle, NoResultError
from workers.estimators import NTKClassifier, NTKRegressor
from workers.kernels import compile_kernel

KERNEL = {"preset": "fc", "depth": 2}
RNG = np.random.default_rng(0)
X, X_NEW = RNG.normal(size=(90, 6)), RNG.normal(size=(15, 6))
Y, Y_NEW = np.sin(X[:, 0]), np.sin(X_NEW[:, 0])


@pytest.fixture(scope="module")
def client(shared_url: str) -> Iterator[Client]:
    with Client(shared_url) as client:
        yield client


@pytest.fixture(scope="module")
def gram(client: Client) -> GramHandle:
    return client.gram(pd.DataFrame(X), kernel=KERNEL, y=pd.Series(Y))


def test_a_gram_matrix_from_a_data_frame(gram: GramHandle):
    expected = compile_kernel(KERNEL)(X)["ntk"]
    np.testing.assert_allclose(gram.numpy(), expected, rtol=1e-12)
    assert gram.state == "succeeded"
    assert gram.matrix.arrays["ntk"]["shape"] == [90, 90]
    assert isinstance(gram.array, zarr.Array)
    np.testing.assert_array_equal(gram.array[40:44, :3], gram.numpy()[40:44, :3])
    shown = gram._repr_html_()
    assert "90 × 90 float64" in shown
    assert str(gram.matrix.digest) in shown
    assert gram.id in repr(gram)


def test_regression_and_predictions_are_those_of_scikit_learn(gram: GramHandle):
    solve = gram.solve(ridge=0.05, ridge_relative=False, method="cholesky")
    kernel = compile_kernel(KERNEL)
    peer = KernelRidge(alpha=0.05, kernel="precomputed").fit(kernel(X)["ntk"], Y)
    np.testing.assert_allclose(solve.coefficients[:, 0], peer.dual_coef_, rtol=1e-8)
    assert solve.result["method"] == "cholesky"
    expected = peer.predict(kernel(X_NEW, X)["ntk"])
    predicted = solve.predict(X_NEW, y=Y_NEW)
    np.testing.assert_allclose(predicted.numpy()[:, 0], expected, rtol=1e-8)
    cross = gram.cross(X_NEW, y=Y_NEW)
    assert cross.numpy().shape == (15, 90)
    through = solve.predict(None, cross=cross)
    np.testing.assert_allclose(through.numpy(), predicted.numpy(), rtol=1e-10)


def test_handles_name_matrices_everywhere(client: Client, gram: GramHandle):
    assert client.spectrum(gram).result["rows"] == 90
    assert client.ridge(gram, [1e-3, 1e-1], cross=gram.cross(X_NEW)).numpy("predictions").shape == (
        15,
        1,
    )
    distance = client.analysis("kernel_distance", matrix=gram, other=gram.matrix)
    assert distance.result["value"] == pytest.approx(0, abs=1e-6)
    with pytest.raises(NoResultError, match="dual"):
        gram.solve(ridge=1.0).numpy("nothing")


def test_a_cancelled_job_says_so(client: Client):
    slow = client.gram(RNG.normal(size=(4000, 64)), kernel={"preset": "fc", "depth": 60})
    slow.cancel()
    with pytest.raises(ApiError, match="cancelled") as raised:
        slow.wait()
    assert raised.value.kind == "job-failed"
    assert slow.state == "cancelled"
    assert "cancelled" in slow._repr_html_()


def test_estimators_answer_the_same_from_a_service(client: Client):
    here = NTKRegressor(depth=2, ridge=0.05).fit(X, Y)
    there = clone(NTKRegressor(depth=2, ridge=0.05, client=client)).fit(X, Y)
    np.testing.assert_allclose(there.predict(X_NEW), here.predict(X_NEW), rtol=1e-8)
    assert there.solve_.state == "succeeded"
    labels = np.where(Y > 0, "up", "down")
    remote = NTKClassifier(depth=2, client=client).fit(X, labels)
    local = NTKClassifier(depth=2).fit(X, labels)
    np.testing.assert_allclose(
        remote.decision_function(X_NEW), local.decision_function(X_NEW), rtol=1e-6
    )
    with pytest.raises(ValueError, match="one ridge"):
        NTKRegressor(ridge=[1e-3, 1e-2], client=client).fit(X, Y)
