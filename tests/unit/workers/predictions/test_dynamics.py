"""Training dynamics against the oracle and models whose parameters are really moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from support.oracle import oracle
from workers.predictions.dynamics import (
    Training,
    exact_descent,
    exact_flow,
    integrated_flow,
    largest_eigenvalue,
    stepped_descent,
)
from workers.predictions.eigensystem import eigensystem
from workers.predictions.losses import CURVATURE, Loss, slope, total
from workers.predictions.stored_dynamics import DynamicsAsked, Outputs, stored_dynamics
from workers.predictions.stored_ridge import NewInputs
from workers.solves.errors import SolveFailedError
from workers.solves.source import ArrayTiles

D = oracle("dynamics")
Y = D["y"][:, None]
CLASSES = np.arange(3)
ONE_HOT = np.eye(3)[D["classes"]]
TOP = float(np.linalg.eigvalsh(D["Ttt"])[-1])


def never() -> None:
    return None


def run(
    targets: np.ndarray,
    classes: np.ndarray | None = None,
    start: Outputs | None = None,
    test_targets: np.ndarray | None = None,
    tile_rows: int = 2,
    **asked: Any,
) -> Any:
    given: dict[str, Any] = {
        "loss": "squared",
        "times": (),
        "steps": None,
        "rate": None,
        "ridge": 0.0,
        "relative": False,
    }
    return stored_dynamics(
        ArrayTiles(D["Ttt"], tile_rows),
        targets,
        classes,
        DynamicsAsked(**{**given, **asked}),
        start or Outputs(None, None),
        NewInputs(ArrayTiles(D["Tst"], tile_rows, symmetric=False), test_targets),
        never,
    )


@pytest.mark.parametrize("tile_rows", [2, 5])
@pytest.mark.parametrize("ridge", [0.0, 0.1])
def test_flow_on_the_squared_loss(ridge: float, tile_rows: int) -> None:
    times = (0.0, 0.01, 0.1, 1.0, 10.0, 1000.0, None)
    start = Outputs(D["f0_train"][:, None], D["f0_test"][:, None])
    zero = run(Y, times=times, ridge=ridge, tile_rows=tile_rows)
    moved = run(Y, times=times, ridge=ridge, start=start, tile_rows=tile_rows)
    for number, time in enumerate(times):
        key = f"flow|t={'inf' if time is None else time}|ridge={ridge}"
        close = {"rtol": 1e-9, "atol": 1e-11}
        np.testing.assert_allclose(zero.arrays["test"][:, number, 0], D[f"{key}|mean"], **close)
        test, train = moved.arrays["test"], moved.arrays["train"]
        np.testing.assert_allclose(test[:, number, 0], D[f"{key}|mean_f0"], **close)
        np.testing.assert_allclose(train[:, number, 0], D[f"{key}|mean_train_f0"], **close)
    losses = [row["train_loss"] for row in zero.summary["curve"]]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] == pytest.approx(0.5 * np.sum(Y**2))


def test_descent_on_the_squared_loss() -> None:
    steps = (1, 10, 1000)
    found = run(Y, steps=steps, rate=1 / TOP)
    for number, count in enumerate(steps):
        np.testing.assert_allclose(
            found.arrays["test"][:, number, 0],
            D[f"gd|eta=1/lmax|steps={count}|mean"],
            rtol=1e-9,
            atol=1e-11,
        )
    assert found.summary["learning_rate_limit"] == pytest.approx(2 / TOP)
    # Half the limit is the rate of the oracle.
    default = run(Y, steps=steps)
    np.testing.assert_allclose(default.arrays["test"], found.arrays["test"], rtol=1e-12)


def test_flow_on_the_likelihoods() -> None:
    found = run(ONE_HOT, CLASSES, loss="cross_entropy", times=(2.0,))
    np.testing.assert_allclose(found.arrays["train"][:, 0], D["ce3|t=2|train"], atol=1e-6)
    np.testing.assert_allclose(found.arrays["test"][:, 0], D["ce3|t=2|test"], atol=1e-6)
    assert found.summary["curve"][0]["train_accuracy"] == 1.0
    signs = (Y > 0).astype(float)
    labels = np.array([3, 7, 7])
    found = run(
        signs, np.array([3, 7]), None, labels, loss="binary_cross_entropy", times=(1.0, 2.0)
    )
    np.testing.assert_allclose(found.arrays["train"][:, 1, 0], D["bce|t=2|train"], atol=1e-6)
    np.testing.assert_allclose(found.arrays["test"][:, 1, 0], D["bce|t=2|test"], atol=1e-6)
    last = found.summary["curve"][-1]
    guessed = np.where(D["bce|t=2|test"] > 0, 7, 3)
    assert last["test_accuracy"] == np.mean(guessed == labels)
    assert last["time"] == 2.0


@pytest.mark.parametrize("loss", ["squared", "cross_entropy", "binary_cross_entropy"])
def test_descent_moves_the_outputs_of_a_linear_model_as_its_parameters(loss: Loss) -> None:
    rng = np.random.default_rng(0)
    x, new, theta0 = (rng.standard_normal(s) for s in ((6, 4), (3, 4), (4, 3)))
    targets = np.eye(3)[rng.integers(0, 3, 6)]
    rate, ridge, theta = 0.05, 0.2, theta0.copy()
    for _ in range(30):
        theta -= rate * (x.T @ slope(loss, x @ theta, targets) + ridge * (theta - theta0))
    training = Training(loss, targets, x @ theta0, ridge)
    (dual,) = stepped_descent(x @ x.T, training, [30], rate)
    np.testing.assert_allclose(new @ theta0 + new @ x.T @ dual, new @ theta, rtol=1e-10)
    if loss == "squared":
        (exact,) = exact_descent(eigensystem(x @ x.T), training, [30], rate)
        np.testing.assert_allclose(x.T @ exact, x.T @ dual, rtol=1e-9)


def test_integration_agrees_with_the_closed_form() -> None:
    training = Training("squared", Y, D["f0_train"][:, None], 0.1)
    times = [0.0, 0.3, 2.0]
    exact = exact_flow(eigensystem(D["Ttt"]), training, times)
    found = integrated_flow(D["Ttt"], training, times, TOP)
    for a, b in zip(exact, found, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-7)


@pytest.mark.parametrize("loss", ["squared", "cross_entropy", "binary_cross_entropy"])
def test_losses_slopes_and_curvatures_by_differences(loss: Loss) -> None:
    rng = np.random.default_rng(0)
    targets = np.eye(3)[rng.integers(0, 3, 4)]
    outputs, step = rng.standard_normal((4, 3)), rng.standard_normal((4, 3))
    h = 1e-6
    rise = (total(loss, outputs + h * step, targets) - total(loss, outputs - h * step, targets)) / 2
    assert np.sum(slope(loss, outputs, targets) * step) == pytest.approx(rise / h, rel=1e-7)
    bend = np.sum((slope(loss, outputs + h * step, targets) - slope(loss, outputs, targets)) * step)
    assert bend / h <= CURVATURE[loss] * np.sum(step**2) * (1 + 1e-5)


def test_what_cannot_be_trained_says_so() -> None:
    with pytest.raises(SolveFailedError, match="diverged"):
        run(Y, steps=(100_000,), rate=3 / TOP)
    unstable = run(Y, steps=(3,), rate=3 / TOP)
    assert "not below the limit" in unstable.summary["notes"][0]
    with pytest.raises(SolveFailedError) as caught:
        run(ONE_HOT, CLASSES, loss="cross_entropy", times=(1e9,))
    training = Training("cross_entropy", ONE_HOT, 0 * ONE_HOT, 0.0)
    assert 0 < caught.value.details["largest_time"] < 1e9
    assert largest_eigenvalue(D["Ttt"]) == pytest.approx(TOP, rel=1e-6)
    np.testing.assert_array_equal(integrated_flow(D["Ttt"], training, [0.0], TOP)[0], 0.0)
    singular = eigensystem(np.ones((2, 2)))
    with pytest.raises(SolveFailedError, match="not positive definite"):
        exact_flow(singular, Training("squared", np.ones((2, 1)), np.zeros((2, 1)), -1e-9), [None])
