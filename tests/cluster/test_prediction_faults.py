"""Workers killed while they factor a matrix or predict: the same bits, and nothing done twice."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
from distributed import Client

from storage import datasets, matrices
from storage.blobs import BlobStore
from storage.matrices import load_manifest
from support.gram_runs import RELU3
from support.grams import ridge_solution, sealed, spd
from support.matrices import panel_manifest, write_all
from workers.driver import DriverSettings
from workers.gram import gram_manifest
from workers.kernels.spec import parse_kernel
from workers.predictions.products import ProductTask
from workers.predictions.run import kept_tiles, run_predictions
from workers.solves.block_operator import BlockOperator
from workers.solves.scratch import Scratch
from workers.solves.solution import Outcome, Solution
from workers.solves.source import StoredTiles
from workers.solves.tiled_solver import TiledSettings, solve_tiled
from workers.tiles import TileResult

pytestmark = pytest.mark.cluster


def kill_one(client: Client) -> None:
    os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)


def test_a_worker_killed_while_it_factors(own_client: Client, blobs: BlobStore) -> None:
    k = spd(640, condition=1e3)
    y = np.random.default_rng(0).standard_normal((640, 2))
    source = StoredTiles(
        blobs.url, load_manifest(blobs, sealed(blobs, k, tile_rows=64, block_rows=64)), "ntk"
    )
    killed: list[int] = []

    def solve(folder: str, kill_after: int | None) -> Solution:
        def on_factor(done: int, total: int) -> None:
            if kill_after is not None and kill_after <= done < total and not killed:
                killed.append(done)
                kill_one(own_client)

        with BlockOperator(own_client, source, placement="stream") as operator:
            return solve_tiled(
                own_client,
                operator,
                source,
                y,
                0.1,
                scratch=Scratch(blobs.url, f"solves/test/{folder}"),
                tiled=TiledSettings(block_rows=64),  # 55 blocks, 30 tasks
                on_factor=on_factor,
            )

    undisturbed, disturbed = solve("undisturbed", None), solve("disturbed", 3)
    assert killed
    assert disturbed.outcome is undisturbed.outcome is Outcome.CONVERGED
    assert disturbed.value is not None
    assert undisturbed.value is not None
    np.testing.assert_array_equal(disturbed.value, undisturbed.value)
    exact = ridge_solution(k, y, 0.1)
    np.testing.assert_allclose(disturbed.value, exact, rtol=0, atol=1e-5 * np.abs(exact).max())


def test_a_worker_killed_while_it_predicts(own_client: Client, blobs: BlobStore) -> None:
    new, train, block = 256, 320, 32
    rng = np.random.default_rng(0)
    x1 = datasets.ingest(blobs, rng.standard_normal((new, 5)))
    x2 = datasets.ingest(blobs, rng.standard_normal((train, 5)))
    solution = panel_manifest({"dual": (train, 2)})
    dual = rng.standard_normal((train, 2))
    matrices.seal(blobs, solution, write_all(blobs, solution, {"dual": dual}), {})
    spec = parse_kernel(RELU3)

    def task(parts: str) -> ProductTask:
        return ProductTask(
            store_url=blobs.url,
            manifest=gram_manifest(
                spec, x1, x2, dtype="float64", outputs=("ntk",), block_rows=block, tile_rows=block
            ),
            kernel=spec.canonical(),
            x1=x1,
            x2=x2,
            panel_cache_bytes=1 << 20,
            run=parts,
            solution=solution,
            dual="dual",
            parts=parts,
        )

    computed: list[TileResult] = []
    kept_at_the_kill: list[int] = []

    def predict(parts: str, *, kill: bool) -> np.ndarray:
        def on_tiles(results: list[TileResult], done: int, total: int) -> None:
            computed.extend(result for result in results if result.computed)
            if kill and results and done < total and not kept_at_the_kill:
                kept_at_the_kill.append(int(kept_tiles(blobs, task(parts)).sum()))
                kill_one(own_client)

        values = run_predictions(
            own_client,
            task(parts),
            on_tiles=on_tiles,
            should_stop=lambda: False,
            seconds_per_tile=1.0,  # so that batches are small, and many are left at the kill
            settings=DriverSettings(batch_seconds=2.0, window_per_worker=2),
        )
        assert values is not None
        return values

    undisturbed = predict("undisturbed", kill=False)
    computed.clear()
    disturbed = predict("disturbed", kill=True)
    assert kept_at_the_kill
    np.testing.assert_array_equal(disturbed, undisturbed)
    tiles = [result.tile for result in computed]
    assert len(tiles) == len(set(tiles)) <= 80
