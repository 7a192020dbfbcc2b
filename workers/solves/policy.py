"""Which method and which placement `auto` means. Pure, so that estimates can ask it too.

method, the first that applies:
| condition | method | why |
|---|---|---|
| m <= 12000 and the float64 square fits a worker | cholesky | exact, and the fastest there |
| more than m/(6·25) right-hand sides, and the factor fits the store | tiled-cholesky | 25 passes \
cost 2·m²·k each, a factorisation m³/3 once |
| otherwise | cg, then tiled-cholesky | the exact answer in one triangle of storage, a few dozen \
passes; if it stagnates, or its passes have cost as much as a factorisation that would fit, that \
is made after all: at most twice the cost of the better choice |
| only when named | nystrom, falkon | inducing points as the model lose accuracy (2 points at \
M = m/5) |

`cholesky` by name means tiled-cholesky where the square has no room.

placement for cg, the first whose projection fits a worker: the stored triangle in worker memory, or
streamed from the store at each application.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from storage.errors import TooLargeError
from storage.format import ArrayLayout
from workers.solves.memory import (
    FLOAT64,
    cholesky_worker_bytes,
    inverse_worker_bytes,
    preconditioner_bytes,
    tiled_worker_bytes,
)
from workers.solves.operator import Placement
from workers.solves.skinny import NARROW_COLUMNS
from workers.solves.tiled_cholesky import block_rows, factor_bytes

Method = Literal["cg", "nystrom", "falkon", "cholesky", "tiled-cholesky"]
RequestedMethod = Literal["auto", "cg", "nystrom", "falkon", "cholesky", "tiled-cholesky"]
RequestedPlacement = Literal["auto", "memory", "stream"]
RequestedPreconditioner = Literal["auto", "none", "jacobi", "nystrom", "rpcholesky"]
FactorPrecision = Literal["auto", "float32", "float64"]

# Float64 potrf of the OpenBLAS in SciPy and NumPy wheels crashes the process with more than one
# thread from about 16000 rows on; 12000 was always safe.
MAX_DIRECT_ROWS = 12_000
# Passes that a preconditioned solve is taken to need when it is compared with a factorisation.
TYPICAL_PASSES = 25
# Of the free space of the store, what the factor of `auto` may take.
FACTOR_SHARE_OF_FREE = 0.5
LEAST_PRECONDITIONED_ROWS = 500  # below, all passes of a solve cost less than a preconditioner
PRECONDITIONER_MEMORY_BYTES = 1 << 30  # of the process that runs CG


@dataclass(frozen=True)
class Room:
    """What the machines have, in bytes. None: no limit is known."""

    worker_memory_bytes: int | None = None
    free_store_bytes: int | None = None


def choose_method(
    requested: RequestedMethod,
    *,
    rows: int,
    rhs: int,
    direct_bytes: int,
    tiled_bytes: int,
    factor_bytes: int,
    room: Room,
) -> Method:
    """The method that `requested` stands for.

    direct_bytes, tiled_bytes: peak of a worker under "cholesky" and "tiled-cholesky";
    factor_bytes: what the latter stores. Raises TooLargeError if a method asked for cannot run.
    """
    memory, free = room.worker_memory_bytes, room.free_store_bytes
    dense = rows <= MAX_DIRECT_ROWS and _within(direct_bytes, memory)
    if requested == "auto":
        if dense:
            return "cholesky"
        fits = factor_fits(tiled_bytes=tiled_bytes, factor_bytes=factor_bytes, room=room)
        many = rows < rhs * TYPICAL_PASSES * 6
        return "tiled-cholesky" if many and fits else "cg"
    if requested == "cholesky" and dense:
        return "cholesky"
    if requested in ("cholesky", "tiled-cholesky"):
        instead = "use method 'cg'"
        check_fits("Method 'tiled-cholesky'", tiled_bytes, memory, instead)
        if free is not None and factor_bytes > free:
            raise TooLargeError(
                f"The factor needs {factor_bytes} bytes of the store; {free} are free.",
                advice=f"Make room in the store, or {instead}.",
                needed_bytes=factor_bytes,
                free_bytes=free,
            )
        return "tiled-cholesky"
    return requested


def factor_fits(*, tiled_bytes: int, factor_bytes: int, room: Room) -> bool:
    """Whether "auto" may make a tiled factor; arguments as of `choose_method`."""
    free = room.free_store_bytes
    stored = free is None or factor_bytes <= FACTOR_SHARE_OF_FREE * free
    return stored and _within(tiled_bytes, room.worker_memory_bytes)


def passes_worth_a_factor(rows: int, rhs: int) -> int:
    """Passes over K, 2·m²·k operations each, that cost as much as factoring it, m³/3.

    Fewer than NARROW_COLUMNS wait for memory, and so take as long as that many.
    """
    columns = max(rhs, NARROW_COLUMNS)
    return max(TYPICAL_PASSES, -(-rows // (6 * columns)))


def _within(needed: int, limit: int | None) -> bool:
    return limit is None or needed <= limit


def method_for(
    layout: ArrayLayout,
    requested: RequestedMethod,
    *,
    rhs: int,
    precision: FactorPrecision,
    base_bytes: int,
    room: Room,
) -> Method:
    """`choose_method` for a stored symmetric array and `rhs` right-hand sides."""
    tile = {"tile_rows": layout.chunk_shape[0], "itemsize": layout.itemsize}
    direct = cholesky_worker_bytes(rows=layout.shape[0], rhs=rhs, base_bytes=base_bytes, **tile)
    factor = _factor_sizes(layout, rhs=rhs, precision=precision, base_bytes=base_bytes)
    return choose_method(
        requested, rows=layout.shape[0], rhs=rhs, direct_bytes=direct, **factor, room=room
    )


def check_left_out(
    layout: ArrayLayout,
    *,
    rhs: int,
    base_bytes: int,
    worker_memory_bytes: int | None,
    instead: str,
) -> None:
    """Raises TooLargeError, with `instead` in its advice, if a worker has no room for leave-one-out
    errors of a stored symmetric array: a float64 factor and the diagonal of its inverse."""
    needed = left_out_worker_bytes(layout, rhs=rhs, base_bytes=base_bytes)
    check_fits("Leave-one-out by a factorisation", needed, worker_memory_bytes, instead)


def left_out_worker_bytes(layout: ArrayLayout, *, rhs: int, base_bytes: int) -> int:
    """Peak of a worker that factors in float64, solves and inverts for leave-one-out errors."""
    factor = _factor_sizes(layout, rhs=rhs, precision="float64", base_bytes=base_bytes)
    inverse = inverse_worker_bytes(
        rows=layout.shape[0], block=block_rows(layout), base_bytes=base_bytes
    )
    return max(factor["tiled_bytes"], inverse)


def patience(
    layout: ArrayLayout,
    *,
    rhs: int,
    precision: FactorPrecision,
    base_bytes: int,
    room: Room,
) -> int | None:
    """Passes of CG after which "auto" factors the matrix instead; None: that has no room."""
    factor = _factor_sizes(layout, rhs=rhs, precision=precision, base_bytes=base_bytes)
    return passes_worth_a_factor(layout.shape[0], rhs) if factor_fits(**factor, room=room) else None


def _factor_sizes(
    layout: ArrayLayout, *, rhs: int, precision: FactorPrecision, base_bytes: int
) -> dict[str, int]:
    block, itemsize = block_rows(layout), 4 if precision == "float32" else FLOAT64
    return {
        "tiled_bytes": tiled_worker_bytes(
            rows=layout.shape[0],
            rhs=rhs,
            tile_rows=layout.chunk_shape[0],
            itemsize=layout.itemsize,
            block=block,
            factor_itemsize=itemsize,
            base_bytes=base_bytes,
        ),
        "factor_bytes": factor_bytes(layout.shape[0], block, itemsize),
    }


def choose_placement(
    requested: RequestedPlacement,
    *,
    projected_bytes: Mapping[Placement, int],
    worker_memory_bytes: int | None,
) -> Placement:
    """`projected_bytes`: peak of a worker under each placement.

    Raises TooLargeError when the requested (or even the streaming) placement cannot fit.
    """
    if requested != "auto":
        if requested == "stream":
            return _streamed(projected_bytes["stream"], worker_memory_bytes)
        what, instead = f"Placement '{requested}'", "use placement 'auto' or 'stream'"
        check_fits(what, projected_bytes[requested], worker_memory_bytes, instead)
        return requested
    if _within(projected_bytes["memory"], worker_memory_bytes):
        return "memory"
    return _streamed(projected_bytes["stream"], worker_memory_bytes)


def _streamed(projected: int, worker_memory_bytes: int | None) -> Placement:
    instead = "store the matrix in smaller tiles, or solve for fewer columns at a time"
    check_fits("One application of K", projected, worker_memory_bytes, instead)
    return "stream"


def preconditioner_rank(
    rows: int,
    wanted: int | None = None,
    memory_bytes: int = PRECONDITIONER_MEMORY_BYTES,
    *,
    least_rows: int = LEAST_PRECONDITIONED_ROWS,
) -> int:
    """Columns of K in the low-rank preconditioner of CG; 0: none is built.

    As many as wanted, or m/8 between 500 and 2000; at most m/3, and what `memory_bytes` hold.
    """
    if rows < least_rows:
        return 0
    by_size = wanted if wanted is not None else min(max(rows // 8, 500), 2000)
    by_memory = memory_bytes // preconditioner_bytes(rows=rows, rank=1)
    return min(by_size, rows // 3, by_memory)


def check_fits(
    what: str,
    projected_bytes: int,
    worker_memory_bytes: int | None,
    instead: str,
) -> None:
    """Raises TooLargeError, with both numbers, if a worker's limit would be exceeded."""
    if worker_memory_bytes is not None and projected_bytes > worker_memory_bytes:
        raise TooLargeError(
            f"{what} needs about {projected_bytes / 2**20:.0f} MiB in a worker; workers have "
            f"{worker_memory_bytes / 2**20:.0f} MiB.",
            advice=f"Give workers more memory, or {instead}.",
            projected_bytes=projected_bytes,
            worker_memory_bytes=worker_memory_bytes,
        )
