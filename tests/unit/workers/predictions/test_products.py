"""Predictions tile by tile: the numbers of K A, whatever the tiles, the order and the damage."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from storage import datasets, matrices
from storage.blobs import BlobStore, open_blobs
from support.gram_runs import RELU3
from support.matrices import panel_manifest, write_all
from workers.gram import gram_manifest
from workers.kernels import compile_kernel
from workers.kernels.spec import parse_kernel
from workers.predictions.products import ProductTask, compute_products, pairwise_sum
from workers.predictions.run import begun_tile_rows, kept_tiles, sum_products

NEW, TRAIN, COLUMNS, BLOCK = 70, 200, 3, 32


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    return open_blobs(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="module")
def task(blobs: BlobStore) -> ProductTask:
    rng = np.random.default_rng(0)
    x1 = datasets.ingest(blobs, rng.standard_normal((NEW, 5)))
    x2 = datasets.ingest(blobs, rng.standard_normal((TRAIN, 5)))
    solution = panel_manifest({"dual": (TRAIN, COLUMNS)})
    dual = rng.standard_normal((TRAIN, COLUMNS))
    matrices.seal(blobs, solution, write_all(blobs, solution, {"dual": dual}), {})
    spec = parse_kernel(RELU3)
    return ProductTask(
        store_url=blobs.url,
        manifest=gram_manifest(
            spec, x1, x2, dtype="float64", outputs=("ntk",), block_rows=BLOCK, tile_rows=BLOCK
        ),
        kernel=spec.canonical(),
        x1=x1,
        x2=x2,
        panel_cache_bytes=1 << 20,
        run="r",
        solution=solution,
        dual="dual",
        parts="parts",
    )


def cut(task: ProductTask, tile_rows: int) -> ProductTask:
    layouts = (replace(task.manifest.arrays[0], chunk_shape=(tile_rows, tile_rows)),)
    return replace(task, manifest=replace(task.manifest, arrays=layouts))


def expected(blobs: BlobStore, task: ProductTask) -> np.ndarray:
    a = datasets.read_rows(blobs, task.x1, 0, NEW)
    b = datasets.read_rows(blobs, task.x2 or task.x1, 0, TRAIN)
    kernel = np.asarray(compile_kernel(RELU3)(a, b)["ntk"])
    return kernel @ matrices.read_slice(blobs, task.solution, "dual", slice(None))


def test_predictions_are_the_product_and_the_same_bits_for_every_tile_size(
    blobs: BlobStore, task: ProductTask
) -> None:
    found = {}
    for tile_rows in (BLOCK, 2 * BLOCK, 8 * BLOCK):
        run = cut(task, tile_rows)
        tiles = tuple(run.plan.tiles())
        # Order does not matter either.
        result = compute_products(run, tiles[::-1])
        assert not result.failed
        assert all(done.computed and done.records == () for done in result.done)
        assert kept_tiles(blobs, run).all()
        values, _ = sum_products(blobs, run)
        assert values is not None
        found[tile_rows] = values
    np.testing.assert_allclose(found[BLOCK], expected(blobs, task), rtol=1e-10, atol=1e-12)
    assert all(np.array_equal(values, found[BLOCK]) for values in found.values())
    assert begun_tile_rows(blobs, task.parts) == 8 * BLOCK


def test_a_product_that_was_kept_is_not_computed_again_and_a_damaged_one_is(
    blobs: BlobStore, task: ProductTask
) -> None:
    run = replace(task, parts="damage")
    tiles = tuple(run.plan.tiles())
    assert begun_tile_rows(blobs, run.parts) is None
    compute_products(run, tiles[:3])
    assert int(kept_tiles(blobs, run).sum()) == 3
    compute_products(run, tiles)
    whole, _ = sum_products(blobs, run)
    path = Path(str(blobs.path(run.key((1, 2)))))
    damaged = bytearray(path.read_bytes())
    damaged[-200] ^= 0x40
    path.write_bytes(damaged)
    values, readable = sum_products(blobs, run)
    assert values is None
    assert np.argwhere(~readable).tolist() == [[1, 2]]
    again = compute_products(run, ((1, 2), (0, 0)))
    assert [done.computed for done in again.done] == [True, False]
    repaired, _ = sum_products(blobs, run)
    assert np.array_equal(repaired, whole)


def test_coefficients_that_overflow_are_a_failure_that_trying_again_cannot_help(
    blobs: BlobStore, task: ProductTask
) -> None:
    solution = replace(panel_manifest({"dual": (TRAIN, 1)}), id="mx-" + "e" * 32)
    huge = np.full((TRAIN, 1), 1e308)
    matrices.seal(blobs, solution, write_all(blobs, solution, {"dual": huge}), {})
    with np.errstate(over="ignore", invalid="ignore"):
        result = compute_products(replace(task, solution=solution, parts="huge"), ((0, 0),))
    assert [(bad.kind, bad.fatal) for bad in result.failed] == [("non-finite-kernel", True)]


@pytest.mark.parametrize("count", range(1, 10))
@pytest.mark.parametrize("width", [2, 4, 8])
def test_the_sum_of_sums_of_aligned_groups_is_the_sum(count: int, width: int) -> None:
    terms = list(np.random.default_rng(count).standard_normal((count, 4, 2)) ** 5)
    groups = [pairwise_sum(terms[i : i + width]) for i in range(0, count, width)]
    assert np.array_equal(pairwise_sum(groups), pairwise_sum(terms))
    np.testing.assert_allclose(pairwise_sum(terms), np.sum(terms, axis=0), rtol=1e-12)
