"""Bad requests end with a clear error before any tile is read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from storage.blobs import BlobStore
from storage.errors import InvalidKeyError, NotFoundError, NotReadyError
from support.grams import sealed, spd
from workers.solves.errors import InvalidSolveError
from workers.solves.prepare import prepare
from workers.solves.request import SolveRequest


@pytest.fixture
def matrix(blobs: BlobStore) -> str:
    """A sealed 40 x 40 Gram matrix whose tiles are gone: reading one would raise."""
    made = sealed(blobs, spd(40), provenance=provenance(x1="ds-a"))
    blobs.delete_prefix(f"matrices/{made}/ntk/c")
    return made


def provenance(*, kernel: str = "relu", x1: str, x2: str | None = None) -> dict[str, Any]:
    return {"request": {"kernel": {"preset": kernel}, "x1": x1, "x2": x2}}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ridge": -1e-9}, "ridge"),
        ({"ridge": float("nan")}, "ridge"),
        ({"ridge": float("inf")}, "ridge"),
        ({"tolerance": 0.0}, "tolerance"),
        ({"tolerance": float("nan")}, "tolerance"),
        ({"tolerance": 1.5}, "tolerance"),
        ({"targets": np.ones(39)}, "39 targets for 40 rows"),
        ({"targets": np.ones((41, 2))}, "41 targets for 40 rows"),
        ({"targets": np.float64(3.0)}, "0 targets"),
        ({"targets": np.full(40, np.nan)}, "NaN"),
        ({"targets": np.full((40, 2), np.inf)}, "NaN or infinity"),
        ({"targets": np.array(["a"] * 40)}, "cannot be regressed"),
        ({"targets": np.ones((40, 1025))}, "1025 target columns"),
        ({"inducing_points": 41}, "41 inducing points"),
        ({"inducing_points": 0}, "at least one inducing"),
        ({"max_applications": 0}, "max_applications"),
        ({"time_limit_seconds": 0.0}, "time limit"),
        ({"time_limit_seconds": float("nan")}, "time limit"),
        ({"array": "nngp"}, "no array 'nngp'"),
        ({"test_targets": np.ones(5)}, "no cross-Gram"),
        ({"checkpoint_id": "../x"}, "slashes"),
    ],
)
def test_contradictions(
    blobs: BlobStore, matrix: str, fields: dict[str, Any], message: str
) -> None:
    request = SolveRequest(**{"matrix_id": matrix, "array": "ntk", "targets": np.ones(40)} | fields)
    with pytest.raises(InvalidSolveError, match=message) as caught:
        prepare(blobs, request)
    assert caught.value.kind == "invalid-solve"


def test_unknown_unsealed_and_misspelled_matrices(blobs: BlobStore) -> None:
    unsealed = sealed(blobs, spd(40), seal=False)
    with pytest.raises(NotReadyError):
        prepare(blobs, SolveRequest(unsealed, "ntk", np.ones(40)))
    with pytest.raises(NotFoundError):
        prepare(blobs, SolveRequest("mx-" + "0" * 32, "ntk", np.ones(40)))
    with pytest.raises(InvalidKeyError):
        prepare(blobs, SolveRequest("../../etc", "ntk", np.ones(40)))


@pytest.mark.parametrize("shape", [(40, 30), (40, 40)])
def test_only_symmetric_matrices_are_solved_with(blobs: BlobStore, shape: tuple[int, int]) -> None:
    cross = sealed(blobs, np.ones(shape, np.float32), symmetric=False)
    with pytest.raises(InvalidSolveError, match="symmetric"):
        prepare(blobs, SolveRequest(cross, "ntk", np.ones(40)))


@pytest.mark.parametrize(
    ("shape", "made_from", "message"),
    [
        ((7, 39), provenance(x1="ds-t", x2="ds-a"), "39 columns"),
        ((7, 40), provenance(x1="ds-t", x2="ds-b"), "another training set"),
        ((7, 40), provenance(x1="ds-t", x2="ds-a", kernel="erf"), "another kernel"),
    ],
)
def test_cross_gram_must_belong_to_the_matrix(
    blobs: BlobStore,
    matrix: str,
    shape: tuple[int, int],
    made_from: dict[str, Any],
    message: str,
) -> None:
    cross = sealed(blobs, np.ones(shape, np.float32), symmetric=False, provenance=made_from)
    request = SolveRequest(matrix, "ntk", np.ones(40), cross_matrix_id=cross)
    with pytest.raises(InvalidSolveError, match=message):
        prepare(blobs, request)


@pytest.mark.parametrize(
    ("targets", "test_targets", "message"),
    [
        (np.ones(40), np.ones(6), "6 test targets for 7 rows"),
        (np.zeros(40, int), np.ones(7), "both be labels"),
        (np.ones(40), np.zeros(7, int), "both be labels"),
        (np.ones((40, 2)), np.ones((7, 3)), "2 columns, test targets 3"),
        (np.ones(40), np.full(7, np.nan), "NaN"),
    ],
)
def test_test_targets_must_fit(
    blobs: BlobStore, matrix: str, targets: np.ndarray, test_targets: np.ndarray, message: str
) -> None:
    cross = sealed(
        blobs,
        np.ones((7, 40), np.float32),
        symmetric=False,
        provenance=provenance(x1="ds-t", x2="ds-a"),
    )
    request = SolveRequest(matrix, "ntk", targets, cross_matrix_id=cross, test_targets=test_targets)
    with pytest.raises(InvalidSolveError, match=message):
        prepare(blobs, request)


def test_a_good_request_is_resolved_without_reading_a_tile(blobs: BlobStore, matrix: str) -> None:
    prepared = prepare(blobs, SolveRequest(matrix, "ntk", np.arange(40) % 3))
    assert prepared.rhs.shape == (40, 3)
    assert prepared.inducing_points == 40  # 20·√40 would be more than there are rows
