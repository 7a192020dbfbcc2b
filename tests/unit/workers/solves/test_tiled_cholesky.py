"""The factorisation out of core: against dense algebra, resumed, damaged, broken down, refined."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from storage.blobs import BlobStore
from storage.errors import CorruptChunkError
from support.grams import ridge_solution, spd
from workers.solves.cg_state import CGSettings
from workers.solves.errors import SolveInterrupted
from workers.solves.operator import LocalOperator
from workers.solves.scratch import Scratch
from workers.solves.solution import Outcome, Solution
from workers.solves.source import ArrayTiles
from workers.solves.tiled_cholesky import (
    Factoring,
    block_rows,
    factor_bytes,
    factorise,
    needed_by,
    steps,
)
from workers.solves.tiled_factor import TiledFactor, solve_with_factor
from workers.solves.tiled_solver import TiledSettings, solve_tiled

BLOCK = 32


def quiet() -> None:
    """Never stops."""


def factoring(
    blobs: BlobStore, k: np.ndarray, *, shift: float = 0.0, tile_rows: int = 32, dtype: str
) -> Factoring:
    source = ArrayTiles(k, tile_rows)
    scratch = Scratch(blobs.url, f"solves/test/{dtype}")
    block = block_rows(source.layout, BLOCK)
    return Factoring(source, TiledFactor(scratch, len(k), block, dtype), shift)


def upper(job: Factoring) -> np.ndarray:
    """R as one array."""
    factor = job.factor
    r = np.zeros((factor.rows, factor.rows))
    for j in range(factor.blocks):
        for i in range(j, factor.blocks):
            r[factor.extent(j), factor.extent(i)] = factor.read((j, i))
    return r


def solve(
    blobs: BlobStore,
    k: np.ndarray,
    rhs: np.ndarray,
    ridge: float = 0.0,
    precision: Any = "auto",
    **options: Any,
) -> Solution:
    source = ArrayTiles(k, 32)
    return solve_tiled(
        None,
        LocalOperator(source),
        source,
        rhs,
        ridge,
        scratch=Scratch(blobs.url, "solves/test"),
        tiled=TiledSettings(precision, block_rows=BLOCK),
        **options,
    )


@pytest.mark.parametrize("tile_rows", [16, 32, 64])
@pytest.mark.parametrize(("dtype", "error"), [("float64", 1e-13), ("float32", 1e-5)])
def test_factor_equals_the_dense_one(
    blobs: BlobStore, dtype: str, error: float, tile_rows: int
) -> None:
    k = spd(150, condition=1e3, dtype="float64")
    job = factoring(blobs, k, shift=0.5, tile_rows=tile_rows, dtype=dtype)
    done = factorise(None, job, should_stop=lambda: False, check_stop=quiet)
    assert done.ok
    exact = np.linalg.cholesky(k + 0.5 * np.eye(150)).T
    np.testing.assert_allclose(upper(job), exact, atol=error * np.abs(exact).max())
    squares = np.diag(exact) ** 2
    assert done.smallest == pytest.approx(squares.min(), rel=1e-4)
    assert done.largest == pytest.approx(squares.max(), rel=1e-4)
    exact_log = np.linalg.slogdet(k + 0.5 * np.eye(150))[1]
    assert done.log_determinant == pytest.approx(exact_log, rel=error)
    x = solve_with_factor(job.factor, np.ones((150, 2)), quiet)
    expected = ridge_solution(k, np.ones((150, 2)), 0.5)
    np.testing.assert_allclose(x, expected, atol=300 * error * np.abs(expected).max())


def test_every_step_comes_after_what_it_reads() -> None:
    seen: set[tuple[int, int]] = set()
    blocks: set[tuple[int, int]] = set()
    for step in steps(11):
        assert set(needed_by(step)) <= seen
        seen.add((step.row, -1 if step.first == step.row else step.first // 4))
        blocks |= {(step.row, i) for i in range(step.first, step.last)}
    assert blocks == {(j, i) for j in range(11) for i in range(j, 11)}


def test_it_is_resumed_from_the_blocks_that_are_there(blobs: BlobStore) -> None:
    k = spd(200, dtype="float64")
    job = factoring(blobs, k, dtype="float64")
    calls = 0

    def stop() -> None:
        nonlocal calls
        calls += 1
        if calls > 25:
            raise SolveInterrupted

    with pytest.raises(SolveInterrupted):
        factorise(None, job, should_stop=lambda: False, check_stop=stop)
    kept = [(j, i) for j in range(7) for i in range(j, 7) if job.factor.has((j, i))]
    assert 0 < len(kept) < 28
    before = {block: job.factor.read(block) for block in kept}
    done = factorise(None, job, should_stop=lambda: False, check_stop=quiet)
    whole = factorise(
        None,
        factoring(blobs, k, dtype="float64"),
        should_stop=lambda: False,
        check_stop=quiet,
    )
    assert whole.bytes_written == 0  # nothing is made twice
    assert whole.log_determinant == pytest.approx(np.linalg.slogdet(k)[1], rel=1e-13)
    assert done.bytes_written < factor_bytes(200, BLOCK, 8)
    for block, values in before.items():
        np.testing.assert_array_equal(job.factor.read(block), values)
    exact = np.linalg.cholesky(k).T
    np.testing.assert_allclose(upper(job), exact, atol=1e-12)


def test_a_damaged_block_is_an_error(blobs: BlobStore) -> None:
    job = factoring(blobs, spd(100, dtype="float64"), dtype="float64")
    factorise(None, job, should_stop=lambda: False, check_stop=quiet)
    key = f"{job.factor.scratch.folder}/0-1"
    data = bytearray(blobs.get(key))
    data[50] ^= 1
    blobs.put(key, bytes(data))
    with pytest.raises(CorruptChunkError):
        solve_with_factor(job.factor, np.ones((100, 1)), quiet)


def test_float32_factor_gives_float64_answers(blobs: BlobStore) -> None:
    k, rhs = spd(150, condition=1e5), np.random.default_rng(0).standard_normal((150, 3))
    solution = solve(blobs, k, rhs, 0.2, settings=CGSettings(tolerance=1e-11))
    assert solution.outcome is Outcome.CONVERGED
    exact = ridge_solution(k, rhs, 0.2)
    np.testing.assert_allclose(solution.value, exact, atol=1e-8 * np.abs(exact).max())
    assert solution.stats.certified_max < 1e-11
    assert solution.stats.details["factor"]["precision"] == "float32"
    assert solution.stats.iterations <= 6


def test_where_float32_breaks_down_float64_takes_over(blobs: BlobStore) -> None:
    k = np.eye(96)
    k[0, 1] = k[1, 0] = 1 - 1e-9  # 1 in float32: singular there, not in float64
    only = solve(blobs, k, np.ones((96, 1)), precision="float32")
    assert only.outcome is Outcome.NOT_POSITIVE_DEFINITE
    solution = solve(blobs, k, np.ones((96, 1)))
    assert solution.outcome is Outcome.CONVERGED
    assert solution.stats.details["factor"]["precision"] == "float64"
    assert "breakdown_float32" in solution.stats.details["factor"]
    np.testing.assert_allclose(k @ solution.value, 1.0, rtol=1e-5)


def test_indefinite_and_non_finite_matrices_are_outcomes(blobs: BlobStore) -> None:
    k = spd(80, condition=30, dtype="float64") - 4.0 * np.eye(80)
    solution = solve(blobs, k, np.ones((80, 1)))
    assert solution.outcome is Outcome.NOT_POSITIVE_DEFINITE
    assert solution.value is None
    bad = spd(80)
    bad[3, 70] = bad[70, 3] = np.nan
    assert solve(blobs, bad, np.ones((80, 1))).outcome is Outcome.NON_FINITE


def test_it_ends_in_time_and_when_it_is_told_to(blobs: BlobStore) -> None:
    k = spd(150)
    late = solve(blobs, k, np.ones((150, 1)), settings=CGSettings(time_limit_seconds=1e-9))
    assert late.outcome is Outcome.TIME_LIMIT
    told = solve(blobs, k, np.ones((150, 1)), should_stop=lambda: True)
    assert told.outcome is Outcome.CANCELLED
