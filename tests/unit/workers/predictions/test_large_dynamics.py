"""Training by products alone: the duals and outputs of the dense way, for every loss and moment."""

from __future__ import annotations

import multiprocessing
import os
import signal
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from storage.blobs import BlobStore
from support.grams import kernel_like, spd, stored_tiles
from workers.predictions import kernel_series
from workers.predictions.chebyshev import apply_functions, coefficients
from workers.predictions.large_dynamics import LargeDynamics, run_large_dynamics
from workers.predictions.stored_dynamics import DynamicsAsked, Outputs, stored_dynamics
from workers.predictions.stored_ridge import NewInputs
from workers.predictions.time_factors import descent_factors, flow_factors
from workers.solves.errors import SolveFailedError

ROWS, TEST = 130, 21


@pytest.fixture
def request_(blobs: BlobStore) -> LargeDynamics:
    k, cross, labels, test_labels = kernel_like(ROWS, TEST, dtype="float64")
    rng = np.random.default_rng(2)
    start = Outputs(rng.standard_normal((ROWS, 3)), rng.standard_normal((TEST, 3)))
    return LargeDynamics(
        source=stored_tiles(blobs, k),
        targets=np.eye(3)[labels],
        classes=np.arange(3),
        asked=DynamicsAsked("squared", (0.0, 0.3, 40.0, 2000.0, None), None, None, 1e-3, True),
        start=start,
        cross=stored_tiles(blobs, cross, symmetric=False),
        test_targets=test_labels,
        name="mx-" + "0" * 32,
    )


def run(request: LargeDynamics, **options: Any) -> Any:
    return run_large_dynamics(None, request, worker_memory_bytes=None, **options)


def check(found: Any, request: LargeDynamics, tolerance: float) -> None:
    assert request.cross is not None
    dense = stored_dynamics(
        request.source,
        request.targets,
        request.classes,
        request.asked,
        request.start,
        NewInputs(request.cross, request.test_targets),
        lambda: None,
    )
    assert set(found.summary) == set(dense.summary)
    assert found.summary["ridge"] == pytest.approx(dense.summary["ridge"])
    assert found.summary["largest_eigenvalue"] == pytest.approx(
        dense.summary["largest_eigenvalue"], rel=1e-4
    )
    for ours, exact in zip(found.summary["curve"], dense.summary["curve"], strict=True):
        assert set(ours) == set(exact)
        for field, value in exact.items():
            near = value if value is None else pytest.approx(value, rel=1e-3, abs=1e-4)
            assert ours[field] == near, field
    for name, exact in dense.arrays.items():
        scale = np.abs(exact).max()
        np.testing.assert_allclose(found.arrays[name], exact, rtol=0, atol=tolerance * scale)


def test_flow_on_the_squared_loss_to_the_end(blobs: BlobStore, request_: LargeDynamics) -> None:
    found = run(request_)
    check(found, request_, 1e-5)  # that is what the solve for the end is asked for
    finite = replace(request_, asked=replace(request_.asked, times=(0.0, 0.3, 40.0, 2000.0)))
    check(run(finite), finite, 1e-8)
    assert list(blobs.list("solves")) == []


def test_descent_on_the_squared_loss(request_: LargeDynamics) -> None:
    # A rate of its own: the default follows λ₁, which the dense way knows to more digits.
    asked = DynamicsAsked("squared", (), (0, 1, 7, 3000), 0.02, 0.0, False)
    stable = replace(request_, asked=asked)
    check(run(stable), stable, 1e-8)
    growing = replace(request_, asked=replace(asked, steps=(1, 5), rate=1.0))
    found = run(growing)
    check(found, growing, 1e-10)
    assert "is not below the limit" in found.summary["notes"][0]


@pytest.mark.parametrize("moments", [{"times": (0.5, 3.0)}, {"steps": (2, 40), "rate": 0.02}])
def test_other_losses(request_: LargeDynamics, moments: dict[str, Any]) -> None:
    given: dict[str, Any] = {"times": (), "steps": None, "rate": None, **moments}
    asked = replace(request_, asked=replace(request_.asked, loss="cross_entropy", **given))
    check(run(asked), asked, 1e-6)


def test_told_to_stop(request_: LargeDynamics) -> None:
    passes: list[int] = []
    stopped = run(
        request_,
        on_progress=lambda news: passes.append(news["done"]),
        should_stop=lambda: len(passes) >= 5,
    )
    assert stopped is None
    assert len(passes) == 5


WAYS = {
    "flow": DynamicsAsked("squared", (0.0, 0.3, 40.0), None, None, 1e-3, True),
    "descent": DynamicsAsked("squared", (), (1, 7, 600), 0.02, 0.0, False),
    "growing descent": DynamicsAsked("squared", (), (5, 40), 0.6, 0.0, False),
    "flow on cross-entropy": DynamicsAsked("cross_entropy", (0.0, 0.5, 3.0), None, None, 0, True),
    "descent on cross-entropy": DynamicsAsked("cross_entropy", (), (2, 40), 0.02, 0, True),
}


@pytest.mark.parametrize(
    ("way", "checkpoint_seconds"), [*((way, 30.0) for way in WAYS), ("flow", 0.0)]
)
def test_it_goes_on_where_it_was_stopped(
    blobs: BlobStore, request_: LargeDynamics, way: str, checkpoint_seconds: float
) -> None:
    request = replace(request_, asked=WAYS[way], checkpoint_seconds=checkpoint_seconds)
    whole: list[int] = []
    fresh = run(replace(request, name="mx-" + "1" * 32), on_progress=_counting(whole))
    passes: list[int] = []
    done: list[int] = []
    while len(passes) < len(whole) - 30:  # stopped again and again
        before = len(passes)
        stopped = run(request, on_progress=_counting(done), should_stop=lambda: len(done) >= 15)
        assert stopped is None
        passes += done
        done.clear()
        assert len(passes) > before
    again = run(request, on_progress=_counting(passes))
    assert len(passes) <= 2 * len(whole)
    if WAYS[way].loss == "squared":
        assert len(passes) == len(whole)  # no product was made twice
    for name, values in fresh.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], values)
    assert again.summary == fresh.summary
    assert list(blobs.list("solves")) == []


def _counting(seen: list[int]) -> Any:
    return lambda news: seen.append(news["done"]) if news["phase"] == "training" else None


def _die(request: LargeDynamics, at: int) -> None:
    """Run it in this process, which dies without warning after some products."""

    def told(news: dict[str, Any]) -> None:
        if news["done"] == at:
            os.kill(os.getpid(), signal.SIGKILL)

    run(request, on_progress=told)


def test_a_process_that_is_killed_loses_what_it_had_not_written(request_: LargeDynamics) -> None:
    asked = replace(request_.asked, times=(0.3, 40.0))
    request = replace(request_, asked=asked, checkpoint_seconds=0.0)
    process = multiprocessing.get_context("spawn").Process(target=_die, args=(request, 40))
    process.start()
    process.join(timeout=120)
    assert process.exitcode == -signal.SIGKILL
    passes: list[int] = []
    again = run(request, on_progress=_counting(passes))
    assert passes[0] == 41
    fresh = run(replace(request, name="mx-" + "1" * 32))
    for name, values in fresh.arrays.items():
        np.testing.assert_array_equal(again.arrays[name], values)


def test_a_state_that_is_damaged_or_of_another_training_is_not_used(
    blobs: BlobStore, request_: LargeDynamics
) -> None:
    asked = replace(request_, asked=replace(request_.asked, times=(40.0,)))
    fresh = run(replace(asked, name="mx-" + "1" * 32))
    passes: list[int] = []

    def stop_and_go_on(request: LargeDynamics, damage: bool) -> Any:
        passes.clear()
        run(asked, on_progress=_counting(passes), should_stop=lambda: len(passes) >= 20)
        (state,) = (key for key in blobs.list("solves") if "/state-" in key)
        if damage:
            blobs.put(state, blobs.get(state)[:-100])
        passes.clear()
        return run(request, on_progress=_counting(passes))

    found = stop_and_go_on(asked, damage=True)
    assert passes[0] == 1
    assert "could not be read" in found.summary["notes"][0]
    np.testing.assert_array_equal(found.arrays["train"], fresh.arrays["train"])
    other = replace(asked, targets=asked.targets[::-1].copy())
    found = stop_and_go_on(other, damage=False)
    assert passes[0] == 1
    assert found.summary["notes"] == []
    check(found, other, 1e-8)


def test_times_that_would_take_too_many_passes(
    monkeypatch: pytest.MonkeyPatch, request_: LargeDynamics
) -> None:
    monkeypatch.setattr(kernel_series, "MOST_PASSES", 60)
    asked = replace(request_.asked, times=(1e6,), ridge=0.0)
    with pytest.raises(SolveFailedError, match="more than 60 passes") as refused:
        run(replace(request_, asked=asked))
    longest = refused.value.details["largest"]
    found = run(replace(request_, asked=replace(asked, times=(longest,))))
    check(found, replace(request_, asked=replace(asked, times=(longest,))), 1e-8)


def test_a_matrix_with_negative_eigenvalues_is_no_gram(
    blobs: BlobStore, request_: LargeDynamics
) -> None:
    k = spd(ROWS, condition=100.0, dtype="float64") - 3.0 * np.eye(ROWS)
    asked = replace(request_.asked, times=(5.0,), ridge=0.0)
    with pytest.raises(SolveFailedError, match="not positive semi-definite"):
        run(replace(request_, source=stored_tiles(blobs, k), asked=asked))


@pytest.mark.parametrize("time", [0.0, 1.0, 1e3, 1e5])
def test_series_are_as_exact_as_they_say(time: float) -> None:
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((60, 60)))
    values = np.geomspace(1e-9, 2.0, 60)
    matrix, vectors = (basis * values) @ basis.T, rng.standard_normal((60, 2))
    factors = [
        lambda w: flow_factors(w, time),
        lambda w: descent_factors(w, int(time), 0.5),
    ]
    series = [coefficients(f, 0.0, 2.001, 1e-12, 10_000) for f in factors]
    assert all(one is not None for one in series)
    found = apply_functions(lambda b: matrix @ b, vectors, series, 0.0, 2.001)  # type: ignore[arg-type]
    for one, factor in zip(found, factors, strict=True):
        exact = basis @ (factor(values)[:, None] * (basis.T @ vectors))
        np.testing.assert_allclose(one, exact, rtol=0, atol=3e-10 * max(np.abs(exact).max(), 1e-30))
    assert coefficients(factors[0], 0.0, 2.001, 1e-12, 1) is None or time == 0.0


def test_a_time_at_which_an_eigenvalue_below_zero_overflows_is_refused(
    request_: LargeDynamics,
) -> None:
    asked = replace(request_.asked, times=(1e300,), ridge=0.0)
    with pytest.raises(SolveFailedError, match="more than 20000 passes"):
        run(replace(request_, asked=asked))
