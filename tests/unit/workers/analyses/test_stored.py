"""Analyses of stored Grams: oracle values through tiles, and results in two parts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from support.oracle import oracle
from workers.analyses.errors import InvalidAnalysisError
from workers.analyses.stored import as_computed, stored_analysis, stored_spectrum
from workers.solves.dense import load_dense
from workers.solves.errors import SolveInterrupted
from workers.solves.source import ArrayTiles


def never() -> None:
    return None


@pytest.mark.parametrize("tile_rows", [2, 3, 8])
def test_a_whole_matrix_is_put_together_from_its_upper_tiles(tile_rows: int) -> None:
    k = np.random.default_rng(0).standard_normal((7, 7))
    k += k.T
    np.testing.assert_array_equal(load_dense(ArrayTiles(k, tile_rows)), k)
    cross = np.random.default_rng(1).standard_normal((5, 7)).astype(np.float32)
    loaded = load_dense(ArrayTiles(cross, tile_rows, symmetric=False), dtype="float64")
    assert loaded.dtype == np.float64
    np.testing.assert_array_equal(loaded, cross)

    def stop() -> None:
        raise SolveInterrupted

    with pytest.raises(SolveInterrupted):
        load_dense(ArrayTiles(k, tile_rows), stop)


@pytest.mark.parametrize("centred", [False, True])
def test_spectrum_against_the_oracle(centred: bool) -> None:
    expected = oracle("conditioning")
    source = ArrayTiles(expected["T"], 2)
    found = stored_spectrum(source, 0.5, True, 3, centred, never)
    np.testing.assert_allclose(found.arrays["eigenvalues"], expected["eig"], rtol=1e-12)
    conditioning = found.summary["conditioning"]
    assert conditioning["inverse_condition"] == pytest.approx(expected["kappa_survey"], rel=1e-11)
    assert conditioning["condition_number"] == pytest.approx(expected["kappa_tenas"], rel=1e-11)
    rates = found.summary["learning_rates"]
    assert rates["half_sum"] == pytest.approx(expected["eta_max"], rel=1e-12)
    ridge = 0.5 * np.trace(expected["T"]) / 5
    dimension = np.trace(expected["T"] @ np.linalg.inv(expected["T"] + ridge * np.eye(5)))
    assert found.summary["effective_rank"]["dimension"] == pytest.approx(dimension, rel=1e-11)
    pca = expected["pca_centred" if centred else "pca_noncentred"]
    np.testing.assert_allclose(found.summary["kernel_pca"]["eigenvalues"], pca, rtol=1e-10)
    scores = found.arrays["scores"]
    np.testing.assert_allclose(np.diag(scores.T @ scores), 5 * pca, rtol=1e-10)


def test_an_absolute_ridge_is_used_as_it_is() -> None:
    source = ArrayTiles(np.diag([3.0, 1.0]), 2)
    found = stored_spectrum(source, 1.0, False, 0, False, never)
    assert found.summary["effective_rank"]["dimension"] == pytest.approx(0.75 + 0.5)
    assert set(found.arrays) == {"eigenvalues"}


def test_a_named_function_gets_grams_targets_and_parameters() -> None:
    expected = oracle("conditioning")
    y = np.array([1.0, -1.0, 1.0, -1.0])
    found = stored_analysis(
        "workers.analyses.generalization:generalization_bound",
        [ArrayTiles(expected["H_inf"], 2)],
        [y[:, None]],
        {"ridge": 0.0},
        [],
        never,
    )
    assert found.summary["quadratic"] == pytest.approx(expected["bound_quad"], rel=1e-10)
    t = expected["T"]
    pair = [ArrayTiles(t, 2), ArrayTiles(t + 0.1 * np.eye(5), 3)]
    distance = stored_analysis("workers.analyses.distance:kernel_distance", pair, [], {}, [], never)
    assert distance.summary == {
        "value": pytest.approx(float(expected["kernel_distance"]), rel=1e-9)
    }
    pca = stored_analysis(
        "workers.analyses.kernel_pca:kernel_pca",
        [ArrayTiles(t, 4)],
        [],
        {"components": 2, "centred": False},
        ["scores", "vectors"],
        never,
    )
    assert {name: a.shape for name, a in pca.arrays.items()} == {
        "scores": (5, 2),
        "vectors": (5, 2),
    }
    np.testing.assert_allclose(
        pca.summary["eigenvalues"], expected["pca_noncentred"][:2], rtol=1e-10
    )


@dataclass(frozen=True)
class Inner:
    half: float


@dataclass(frozen=True)
class Nested:
    several: tuple[Inner, ...]
    table: list[dict[str, np.ndarray]]


def test_results_are_plain_at_any_depth() -> None:
    found = as_computed(Nested((Inner(0.5), Inner(1.5)), [{"a": np.arange(2)}]), [])
    assert found.summary == {"several": [{"half": 0.5}, {"half": 1.5}], "table": [{"a": [0, 1]}]}


@dataclass(frozen=True)
class Mixed:
    waves: np.ndarray
    few: np.ndarray
    inner: Inner


def test_results_in_two_parts() -> None:
    found = as_computed(Mixed(np.array([1 + 2j]), np.arange(3.0), Inner(0.5)), ["waves"])
    np.testing.assert_array_equal(found.arrays["waves"], [[1.0, 2.0]])
    assert found.summary == {"few": [0.0, 1.0, 2.0], "inner": {"half": 0.5}}
    with pytest.raises(InvalidAnalysisError, match="20000 numbers"):
        as_computed(Mixed(np.zeros(1), np.zeros(20_000), Inner(1.0)), ["waves"])
