"""One call in one worker: what it returns is what is stored; stopping and failing leave nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from distributed import Client

from storage import matrices
from storage.blobs import BlobStore
from storage.format import MatrixManifest
from support.matrices import panel_manifest
from workers.analyses.errors import InvalidAnalysisError
from workers.one_worker import Call, Computed, perform, run_in_one_worker
from workers.solves.errors import SolveInterrupted


def squares(numbers: np.ndarray, check_stop: Callable[[], None]) -> Computed:
    check_stop()
    return Computed({"largest": float(numbers.max())}, {"squares": numbers**2, "other": numbers})


def broken(check_stop: Callable[[], None]) -> Computed:
    raise InvalidAnalysisError("It is broken.", advice="Mend it.", number=3)


def manifest(blobs: BlobStore, rows: int) -> MatrixManifest:
    made = panel_manifest({"squares": (rows, 3), "other": (rows, 3)})
    matrices.create(blobs, made)
    return made


def call(blobs: BlobStore, function: Any, *arguments: Any, **options: Any) -> Call:
    return Call(function, arguments, blobs.url, options.get("manifest"))


@pytest.mark.parametrize("remote", [False, True])
def test_arrays_are_stored_and_the_summary_comes_back(
    blobs: BlobStore, shared_client: Client, remote: bool
) -> None:
    numbers = np.random.default_rng(0).standard_normal((40, 3))
    made = manifest(blobs, 40)
    written = run_in_one_worker(
        shared_client if remote else None,
        call(blobs, squares, numbers, manifest=made),
        should_stop=lambda: False,
    )
    assert written is not None
    assert written.summary["largest"] == numbers.max()
    assert written.summary["seconds"] >= 0
    matrices.seal(blobs, made, written.digests, {})
    np.testing.assert_array_equal(
        matrices.read_slice(blobs, made, "squares", slice(None)), numbers**2
    )


def test_without_a_matrix_there_is_only_a_summary(blobs: BlobStore) -> None:
    written = perform(call(blobs, squares, np.ones((2, 3))))
    assert written.digests == {}
    assert matrices.list_matrices(blobs) == []


def test_stopping_is_no_result(blobs: BlobStore, shared_client: Client) -> None:
    asked = call(blobs, squares, np.ones((2, 3)))
    assert run_in_one_worker(None, asked, should_stop=lambda: True) is None
    assert run_in_one_worker(shared_client, asked, should_stop=lambda: True) is None

    def stop() -> None:
        raise SolveInterrupted

    with pytest.raises(SolveInterrupted):
        perform(asked, stop)


def test_errors_arrive_whole(blobs: BlobStore, shared_client: Client) -> None:
    with pytest.raises(InvalidAnalysisError) as caught:
        run_in_one_worker(shared_client, call(blobs, broken), should_stop=lambda: False)
    assert (caught.value.message, caught.value.advice) == ("It is broken.", "Mend it.")
    assert caught.value.details == {"number": 3}


def test_a_wrong_shape_is_not_stored(blobs: BlobStore) -> None:
    made = manifest(blobs, 41)
    with pytest.raises(ValueError, match="shape"):
        perform(call(blobs, squares, np.ones((40, 3)), manifest=made))
