"""Distributed solves with real worker processes: deaths, silence, cancelling, leftovers, bytes."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from distributed import Client, Worker

from storage.blobs import BlobStore
from storage.errors import CorruptChunkError
from storage.matrices import load_manifest
from support.grams import kernel_like, ridge_solution, sealed, spd
from workers.errors import ClusterUnavailableError
from workers.predictions.large_ridge import run_large_ridge
from workers.predictions.ridge_trial import LargeRidge
from workers.predictions.stored_ridge import RidgeAsked
from workers.solves.block_operator import BlockOperator, OperatorSettings
from workers.solves.errors import SolveInterrupted
from workers.solves.holder import Hold, Multiply, ShareCall, held_solves, release, serve_shares
from workers.solves.shares import Share
from workers.solves.solution import Outcome
from workers.solves.source import StoredTiles
from workers.solves.task import SolveRequest, run_solve

pytestmark = pytest.mark.cluster


def held(client: Client) -> int:
    """How many solves the workers hold tiles for, together."""
    return sum(client.run(_held).values())


def _held(dask_worker: Worker) -> int:
    return len(held_solves(dask_worker))


def _executing(dask_worker: Worker) -> int:
    return len(dask_worker.state.executing)


def eventually(condition: Callable[[], bool], seconds: float = 60) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.1)
    return condition()


def stored(blobs: BlobStore, matrix: str) -> StoredTiles:
    return StoredTiles(blobs.url, load_manifest(blobs, matrix), "ntk")


def pids(client: Client) -> dict[str, int]:
    return client.run(os.getpid)


@pytest.mark.parametrize("placement", ["memory", pytest.param("stream", marks=pytest.mark.slow)])
def test_worker_killed_mid_solve_changes_not_one_bit(
    own_client: Client, blobs: BlobStore, placement: str
) -> None:
    k, y = spd(256, condition=60), np.random.default_rng(0).standard_normal((256, 3))
    request = SolveRequest(
        sealed(blobs, k, tile_rows=128),
        "ntk",
        y,
        ridge=0.1,
        method="cg",
        placement=placement,  # type: ignore[arg-type]
    )
    undisturbed = run_solve(own_client, request, store_url=blobs.url)
    assert undisturbed.outcome is Outcome.CONVERGED

    victims = list(pids(own_client).values())
    killed: list[int] = []

    def kill_on_the_way(progress: dict[str, Any]) -> None:
        if progress.get("iteration") == 5 and not killed:
            killed.append(victims[0])
            os.kill(victims[0], signal.SIGKILL)

    disturbed = run_solve(own_client, request, store_url=blobs.url, on_progress=kill_on_the_way)
    assert killed
    assert disturbed.summary["stats"]["lost_workers"] == 1
    np.testing.assert_array_equal(disturbed.arrays["dual"], undisturbed.arrays["dual"])
    exact = ridge_solution(k, y, 0.1)
    np.testing.assert_allclose(disturbed.arrays["dual"], exact, atol=1e-5 * np.abs(exact).max())


def test_worker_killed_inside_an_application(own_client: Client, blobs: BlobStore) -> None:
    k = spd(512)
    v = np.random.default_rng(0).standard_normal((512, 3))
    source = stored(blobs, sealed(blobs, k, tile_rows=64))
    with BlockOperator(own_client, source, placement="stream") as operator:
        expected = operator.apply(v)
        victim = next(iter(pids(own_client).values()))
        os.kill(victim, signal.SIGSTOP)  # it takes the message and never answers it
        threading.Timer(1.0, os.kill, (victim, signal.SIGKILL)).start()
        np.testing.assert_array_equal(operator.apply(v), expected)
        assert operator.traffic.lost_workers == 1
        chosen = np.array([3, 64, 65, 511])
        np.testing.assert_array_equal(operator.columns(chosen), k[:, chosen])
        # The restarted worker gets its share back.
        assert eventually(lambda: len(pids(own_client)) == 2)
        np.testing.assert_array_equal(operator.apply(v), expected)
        assert len(set(operator.owners.values())) == 2


def test_silent_worker_is_given_up(own_client: Client, blobs: BlobStore) -> None:
    k = spd(128)
    v = np.ones((128, 2))
    source = stored(blobs, sealed(blobs, k))
    with BlockOperator(own_client, source, placement="memory") as operator:
        expected = operator.apply(v)  # slow: the workers import and compile
    settings = OperatorSettings(silence_seconds=5.0)
    with BlockOperator(own_client, source, placement="memory", settings=settings) as operator:
        np.testing.assert_array_equal(operator.apply(v), expected)
        address, victim = next(iter(pids(own_client).items()))
        os.kill(victim, signal.SIGSTOP)
        try:
            np.testing.assert_array_equal(operator.apply(v), expected)
            assert address not in operator.owners.values()
        finally:
            os.kill(victim, signal.SIGCONT)


def test_no_worker_left_is_an_error_in_time(own_client: Client, blobs: BlobStore) -> None:
    source = stored(blobs, sealed(blobs, spd(64)))
    settings = OperatorSettings(wait_for_workers_seconds=1.0)
    operator = BlockOperator(own_client, source, placement="memory", settings=settings)
    own_client.retire_workers()
    with pytest.raises(ClusterUnavailableError):
        operator.apply(np.ones((64, 1)))
    operator.close()


@pytest.mark.parametrize(
    "method", ["cg", "cholesky", "tiled-cholesky", "nystrom", "falkon", "auto"]
)
def test_every_method_on_workers(shared_client: Client, blobs: BlobStore, method: str) -> None:
    k, cross, labels, test_labels = kernel_like(200, 50)
    request = SolveRequest(
        sealed(blobs, k),
        "ntk",
        labels,
        ridge=1e-3,
        ridge_relative=True,
        method=method,  # type: ignore[arg-type]
        cross_matrix_id=sealed(blobs, cross, symmetric=False),
        test_targets=test_labels,
        inducing_points=200 if method in ("nystrom", "falkon") else None,
        tolerance=1e-7,
    )
    seen: list[dict[str, Any]] = []
    there = run_solve(
        shared_client,
        request,
        store_url=blobs.url,
        on_progress=seen.append,
        worker_memory_bytes=2 << 30,
    )
    one_hot = np.where(labels[:, None] == np.arange(3), 0.9, -0.1)
    exact = cross.astype(float) @ ridge_solution(k, one_hot, 1e-3 * np.trace(k) / 200)
    np.testing.assert_allclose(there.arrays["predictions"], exact, atol=1e-5)
    assert there.summary["accuracy"] == np.mean(exact.argmax(1) == test_labels)
    extra = {"tiled-cholesky": {"factor"}, "falkon": {"gather"}}.get(method, set())
    assert {p["phase"] for p in seen} == {"prepare", "solve", "predict"} | extra
    assert held(shared_client) == 0


def test_number_of_processes_does_not_change_the_nystrom_answer_much(
    shared_client: Client, blobs: BlobStore
) -> None:
    k, _, labels, _ = kernel_like(300, 1)
    request = SolveRequest(
        sealed(blobs, k), "ntk", labels, ridge=1e-2, method="nystrom", inducing_points=60, seed=7
    )
    there = run_solve(shared_client, request, store_url=blobs.url)
    again = run_solve(shared_client, request, store_url=blobs.url)
    here = run_solve(None, request, store_url=blobs.url)
    np.testing.assert_array_equal(there.arrays["dual"], again.arrays["dual"])
    np.testing.assert_allclose(there.arrays["dual"], here.arrays["dual"], atol=1e-7)


def test_tiles_are_released_after_an_error(shared_client: Client, blobs: BlobStore) -> None:
    matrix = sealed(blobs, spd(200))
    key = f"matrices/{matrix}/ntk/c/3/3"
    good = blobs.get(key)
    request = SolveRequest(matrix, "ntk", np.ones(200), method="cg", placement="memory")
    held_inside: list[int] = []

    class AbortError(Exception):
        pass

    def abort(progress: dict[str, Any]) -> None:
        if progress["phase"] == "solve":
            held_inside.append(held(shared_client))
            raise AbortError

    with pytest.raises(AbortError):
        run_solve(shared_client, request, store_url=blobs.url, on_progress=abort)
    assert held_inside == [2]  # both workers held their share
    assert held(shared_client) == 0

    blobs.put(key, good[:-1] + bytes([good[-1] ^ 1]))
    with pytest.raises(CorruptChunkError):
        run_solve(shared_client, request, store_url=blobs.url)
    assert held(shared_client) == 0


def test_workers_free_what_a_dead_coordinator_left(shared_client: Client, blobs: BlobStore) -> None:
    source = stored(blobs, sealed(blobs, spd(128)))
    settings = OperatorSettings(idle_release_seconds=1.5)
    operator = BlockOperator(shared_client, source, placement="memory", settings=settings)
    operator.apply(np.ones((128, 1)))
    assert held(shared_client) == 2
    assert eventually(lambda: held(shared_client) == 0)
    # Whoever asks again after all gets an answer.
    exact = spd(128).astype(np.float64).sum(axis=1, keepdims=True)
    again = operator.apply(np.ones((128, 1)))
    np.testing.assert_allclose(again, exact, rtol=0, atol=1e-5 * np.abs(exact).max())
    operator.close()


def test_cancel_within_an_application(shared_client: Client, blobs: BlobStore) -> None:
    source = stored(blobs, sealed(blobs, spd(1024), tile_rows=32))  # 528 tiles, read each time
    stop = threading.Event()
    operator = BlockOperator(shared_client, source, placement="stream", should_stop=stop.is_set)
    threading.Timer(0.3, stop.set).start()

    def apply_for_ever() -> None:
        while True:
            operator.apply(np.ones((1024, 16)))

    with pytest.raises(SolveInterrupted):
        apply_for_ever()
    operator.close()
    # The tasks end too: the workers' threads are free again.
    assert eventually(lambda: not any(shared_client.run(_executing).values()))
    assert held(shared_client) == 0


def test_a_task_that_starts_after_its_solve_was_released_holds_nothing(
    shared_client: Client, blobs: BlobStore
) -> None:
    source = stored(blobs, sealed(blobs, spd(64), tile_rows=32))
    shared_client.run(release, "late-solve")
    late = shared_client.submit(
        serve_shares,
        source,
        "late-solve",
        [ShareCall(Share(0, 0, 3))],
        np.ones((64, 16)),
        action=Multiply(precise=False),
        hold=Hold(0),
        idle_seconds=60.0,
        pure=False,
    )
    with pytest.raises(SolveInterrupted):
        late.result(timeout=60)
    assert held(shared_client) == 0


def test_large_vectors_travel_beside_the_task_graph(
    shared_client: Client, blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.solves.block_operator.SCATTER_ABOVE_BYTES", 1000)
    k = spd(128, dtype="float64")
    v = np.random.default_rng(0).standard_normal((128, 4))
    with BlockOperator(
        shared_client, stored(blobs, sealed(blobs, k)), placement="memory"
    ) as operator:
        np.testing.assert_allclose(operator.apply(v), k @ v, rtol=1e-10)
        assert operator.traffic.bytes_moved >= 2 * v.nbytes


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["factor", "inverse"])
def test_worker_killed_while_leaving_one_out(
    own_client: Client, blobs: BlobStore, phase: str
) -> None:
    k, y = spd(600, condition=60), np.random.default_rng(0).standard_normal((600, 2))
    source = stored(blobs, sealed(blobs, k, tile_rows=64))
    request = LargeRidge(
        source,
        y,
        None,
        RidgeAsked((0.5, 1.0), False, None, 0),
        None,
        None,
        "mx-" + "0" * 32,
        block_rows=64,
    )
    killed: list[int] = []

    def kill_on_the_way(progress: dict[str, Any]) -> None:
        if (progress["phase"], progress.get("ridges_done")) == (phase, 1) and not killed:
            killed.append(next(iter(pids(own_client).values())))
            os.kill(killed[0], signal.SIGKILL)

    found = run_large_ridge(
        own_client, request, worker_memory_bytes=None, on_progress=kill_on_the_way
    )
    assert killed
    assert found is not None
    here = run_large_ridge(None, request, worker_memory_bytes=None)
    assert here is not None
    # Neither the death nor where it runs.
    for name, values in here.arrays.items():
        np.testing.assert_allclose(found.arrays[name], values, rtol=0, atol=1e-10)
    inverse = np.linalg.inv(k.astype(float) + found.summary["ridge"] * np.eye(600))
    exact = y - inverse @ y / np.diag(inverse)[:, None]
    np.testing.assert_allclose(found.arrays["held_out"], exact, rtol=0, atol=1e-9)
    assert held(own_client) == 0
    assert list(blobs.list("solves")) == []
