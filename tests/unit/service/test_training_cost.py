"""Passes that an estimate promises at most, against those that training then takes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.jobs.tasks.training_cost import Ridge, flow_passes, trace_of, training_passes
from storage import previews
from storage.blobs import BlobStore
from storage.matrices import load_manifest
from support.grams import kernel_like, sealed
from workers.predictions.kernel_series import MOST_PASSES
from workers.predictions.large_dynamics import LargeDynamics, run_large_dynamics
from workers.predictions.stored_dynamics import DynamicsAsked, Outputs
from workers.solves.source import StoredTiles

ROWS = 130
K, _, LABELS, _ = kernel_like(ROWS, 1, dtype="float64")


def stored(blobs: BlobStore, *, tile_rows: int = 64, with_previews: bool = True) -> StoredTiles:
    manifest = load_manifest(blobs, sealed(blobs, K, tile_rows=tile_rows, block_rows=16))
    if with_previews:
        previews.write_array(blobs, manifest, "ntk", K)
    return StoredTiles(blobs.url, manifest, "ntk")


def taken(source: StoredTiles, asked: DynamicsAsked) -> int:
    """Products that following `asked` makes, without those for λ₁ and for outputs."""
    passes: list[int] = []

    def told(news: dict[str, Any]) -> None:
        if news["phase"] == "training":
            passes.append(news["done"])

    request = LargeDynamics(
        source, np.eye(3)[LABELS], None, asked, Outputs(None, None), None, None, "mx-" + "0" * 32
    )
    assert run_large_dynamics(None, request, worker_memory_bytes=None, on_progress=told)
    return len(passes)


@pytest.mark.parametrize("tile_rows", [16, 64])
def test_the_trace_is_that_of_the_matrix(blobs: BlobStore, tile_rows: int) -> None:
    source = stored(blobs, tile_rows=tile_rows)
    assert trace_of(blobs, source) == pytest.approx(np.trace(K))


@pytest.mark.parametrize(
    "asked",
    [
        DynamicsAsked("squared", (0.1, 1.0, 20.0), None, None, 0.0, False),
        DynamicsAsked("squared", (20.0, None), None, None, 1e-2, True),
        DynamicsAsked("squared", (0.0,), None, None, 0.0, False),
        DynamicsAsked("squared", (), (1, 500), None, 1e-3, True),
        DynamicsAsked("squared", (), (1, 500), 1e-3, 0.0, False),
        DynamicsAsked("squared", (), (3,), None, 0.0, False),
        DynamicsAsked("squared", (), (40,), 1.0, 0.0, False),  # grows: step by step
    ],
)
def test_passes_are_at_most_those_promised(blobs: BlobStore, asked: DynamicsAsked) -> None:
    source = stored(blobs)
    promised = training_passes(blobs, source, asked)
    made = taken(source, asked)
    assert made <= promised.most
    # λ₁ is 0.59 of this trace.
    assert promised.most <= 1.8 * made + 1
    assert promised.basis in ("trace", "request")


def test_steps_on_other_losses_are_as_many_as_were_asked_for(blobs: BlobStore) -> None:
    asked = DynamicsAsked("cross_entropy", (), (2, 40), 0.02, 0.0, True)
    source = stored(blobs)
    assert training_passes(blobs, source, asked) == (40, "request")
    assert taken(source, asked) == 40


@pytest.mark.parametrize("time", [0.05, 1.0, 10.0])
def test_an_integration_takes_about_what_was_promised(blobs: BlobStore, time: float) -> None:
    asked = DynamicsAsked("cross_entropy", (time,), None, None, 0.0, True)
    source = stored(blobs)
    promised, made = training_passes(blobs, source, asked), taken(source, asked)
    assert made <= promised.most <= 2 * made + 300
    assert promised.basis == "model"


def test_without_a_trace_the_limit_is_all_that_is_known(blobs: BlobStore) -> None:
    source = stored(blobs, with_previews=False)
    asked = DynamicsAsked("squared", (1.0,), None, None, 0.0, False)
    assert training_passes(blobs, source, asked) == (MOST_PASSES, "limit")
    assert flow_passes(blobs, source, 1.0, Ridge(0.0, False)) == (MOST_PASSES, "limit")


def test_a_time_out_of_reach_is_the_limit(blobs: BlobStore) -> None:
    source = stored(blobs)
    assert flow_passes(blobs, source, 1e9, Ridge(0.0, False)) == (MOST_PASSES, "limit")
