"""Measured peak memory of worker processes stays within what was projected for each method."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client

from storage.blobs import BlobStore
from storage.format import ArrayLayout
from storage.matrices import load_manifest
from support.grams import sealed
from workers.memory import WORKER_BASE_BYTES
from workers.predictions.large_ridge import run_large_ridge
from workers.predictions.ridge_trial import LargeRidge
from workers.predictions.stored_ridge import RidgeAsked
from workers.solves.memory import (
    cholesky_worker_bytes,
    falkon_worker_bytes,
    nystrom_worker_bytes,
    placement_bytes,
    tiled_worker_bytes,
)
from workers.solves.policy import left_out_worker_bytes, preconditioner_rank
from workers.solves.source import StoredTiles
from workers.solves.task import SolveRequest, run_solve

pytestmark = pytest.mark.cluster

ROWS, RHS, TILE = 4096, 20, 1024
# Compiled programs for the larger shapes, and what the allocator keeps.
SLACK_BYTES = 16 << 20
SIZES: dict[str, int] = {"rhs": RHS, "tile_rows": TILE, "itemsize": 4}


def _peak_bytes() -> int:
    """High-water mark of this process's resident memory since the last reset."""
    status = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in status if line.startswith("VmHWM")).split()[1]) * 1024


def _reset_peak() -> int:
    """Start the high-water mark at what is resident now; that number."""
    Path("/proc/self/clear_refs").write_text("5")
    return _peak_bytes()


def _import_methods() -> None:
    importlib.import_module("workers.solves.task")


def matrix(blobs: BlobStore, rows: int) -> str:
    """A diagonally dominant matrix: quick to solve, full size to store."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((rows, rows), dtype=np.float32) * np.float32(0.01)
    k = np.triu(noise) + np.triu(noise, 1).T
    k[np.diag_indices(rows)] = 4.0
    return sealed(
        blobs, k, tile_rows=TILE if rows > 64 else 16, block_rows=512 if rows > 64 else 16
    )


@pytest.mark.parametrize(
    ("fields", "projected"),
    [
        *(
            pytest.param(
                {"method": "cg", "placement": where},
                projected,
                id=f"cg-{where}",
                marks=[] if where == "stream" else [pytest.mark.slow],
            )
            for where, projected in placement_bytes(
                ArrayLayout("ntk", (ROWS, ROWS), (TILE, TILE), "float32", symmetric=True),
                rhs=RHS,
                rank=preconditioner_rank(ROWS),
                workers=2,
            ).items()
        ),
        pytest.param(
            {"method": "cholesky"}, cholesky_worker_bytes(rows=ROWS, **SIZES), id="cholesky"
        ),
        pytest.param(
            {"method": "nystrom", "inducing_points": 1200},
            nystrom_worker_bytes(inducing=1200, **SIZES),
            id="nystrom",
        ),
        pytest.param(
            {"method": "falkon", "inducing_points": 1200},
            falkon_worker_bytes(inducing=1200, **SIZES),
            id="falkon",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"method": "tiled-cholesky", "placement": "stream", "factor_precision": "float64"},
            tiled_worker_bytes(rows=ROWS, block=2048, factor_itemsize=8, **SIZES),
            id="tiled-cholesky",
        ),
    ],
)
def test_peak_is_within_the_projection(
    own_client: Client, blobs: BlobStore, fields: dict[str, Any], projected: int
) -> None:
    targets = np.random.default_rng(1).standard_normal((ROWS, RHS))
    small = fields | {"inducing_points": 8} if "inducing_points" in fields else fields
    warm_up = SolveRequest(matrix(blobs, 64), "ntk", targets[:64], **small)
    own_client.run(_import_methods)
    run_solve(own_client, warm_up, store_url=blobs.url)  # both workers have tiles, and compile
    request = SolveRequest(matrix(blobs, ROWS), "ntk", targets, **fields)
    idle = own_client.run(_reset_peak)
    result = run_solve(own_client, request, store_url=blobs.url)
    peak = own_client.run(_peak_bytes)
    assert result.outcome.usable
    assert max(peak.values()) <= projected
    # The terms of the method hold by themselves, without the slack of the idle worker's share.
    grown = max(peak[worker] - idle[worker] for worker in peak)
    assert grown <= projected - WORKER_BASE_BYTES + SLACK_BYTES


@pytest.mark.slow
def test_leave_one_out_is_within_its_projection(own_client: Client, blobs: BlobStore) -> None:
    targets = np.random.default_rng(1).standard_normal((ROWS, RHS))

    def run(rows: int) -> int:
        source = StoredTiles(blobs.url, load_manifest(blobs, matrix(blobs, rows)), "ntk")
        asked = RidgeAsked((0.1,), False, None, 0)
        request = LargeRidge(source, targets[:rows], None, asked, None, None, f"mx-{rows:032x}")
        assert run_large_ridge(own_client, request, worker_memory_bytes=1 << 30) is not None
        return left_out_worker_bytes(source.layout, rhs=RHS, base_bytes=WORKER_BASE_BYTES)

    own_client.run(_import_methods)
    run(64)
    idle = own_client.run(_reset_peak)
    projected = run(ROWS)
    peak = own_client.run(_peak_bytes)
    assert max(peak.values()) <= projected
    grown = max(peak[worker] - idle[worker] for worker in peak)
    assert grown <= projected - WORKER_BASE_BYTES + SLACK_BYTES
