"""A preconditioner changes the number of passes, never the answer."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from support.grams import ridge_solution
from workers.solves.block_cg import CGSettings
from workers.solves.cg_solver import PreconditionerSettings, solve_ridges
from workers.solves.operator import LocalOperator, Placement
from workers.solves.solution import Outcome
from workers.solves.source import ArrayTiles


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(6, 80),
    tile=st.integers(3, 50),
    rank=st.integers(1, 40),
    power=st.floats(0.0, 3.0),
    ridge=st.floats(1e-4, 10.0),
    duplicates=st.booleans(),
    kind=st.sampled_from(["none", "jacobi", "nystrom", "rpcholesky"]),
    placement=st.sampled_from(["memory", "stream"]),
)
def test_never_changes_the_answer(
    rows: int,
    tile: int,
    rank: int,
    power: float,
    ridge: float,
    duplicates: bool,
    kind: str,
    placement: Placement,
) -> None:
    rng = np.random.default_rng(rows)
    q, _ = np.linalg.qr(rng.standard_normal((rows, rows)))
    k = (q * np.arange(1, rows + 1.0) ** -power) @ q.T
    if duplicates:
        half = rows // 2
        k[half : 2 * half], k[:, half : 2 * half] = k[:half], k[:, :half]
        k[half : 2 * half, half : 2 * half] = k[:half, :half]
    k = 0.5 * (k + k.T)
    b = rng.standard_normal((rows, 2))
    solution = solve_ridges(
        LocalOperator(ArrayTiles(k, tile), placement=placement),
        b,
        (ridge,),
        diagonal=np.diagonal(k),
        settings=CGSettings(tolerance=1e-10, max_applications=2000),
        preconditioner=PreconditionerSettings(kind, rank),  # type: ignore[arg-type]
    )[0]
    assert solution.outcome is Outcome.CONVERGED
    exact = ridge_solution(k, b, ridge)
    condition = (1 + ridge) / ridge
    assert np.abs(solution.value - exact).max() <= 1e-9 * condition * np.abs(exact).max()
