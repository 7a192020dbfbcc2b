"""Which method and which placement `auto` means. Pure, so that estimates can ask it too.

method:
| condition | method | why |
|---|---|---|
| m <= 12000 and the float64 square fits a worker | cholesky | exact, and the fastest there |
| otherwise | cg | the exact answer in one triangle of storage, a few dozen passes |
| only when named | nystrom | inducing points as the model lose accuracy (2 points at M = m/5) |

placement for cg, the first whose projection fits a worker: the full matrix in worker memory (twice
the bytes, but products with a transpose that was copied out beforehand take a quarter of the time),
the stored triangle in worker memory, the triangle streamed from the store at each application.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from storage.errors import TooLargeError
from workers.solves.memory import preconditioner_bytes
from workers.solves.operator import Placement

Method = Literal["cg", "nystrom", "cholesky"]
RequestedMethod = Literal["auto", "cg", "nystrom", "cholesky"]
RequestedPlacement = Literal["auto", "full", "memory", "stream"]

# Float64 potrf of the OpenBLAS in SciPy and NumPy wheels crashes the process with more than one
# thread from about 16000 rows on; 12000 was always safe.
MAX_DIRECT_ROWS = 12_000
LEAST_PRECONDITIONED_ROWS = 500  # below, all passes of a solve cost less than a preconditioner
PRECONDITIONER_MEMORY_BYTES = 1 << 30  # of the process that runs CG


def choose_method(
    requested: RequestedMethod,
    *,
    rows: int,
    direct_bytes: int,
    worker_memory_bytes: int | None,
) -> Method:
    """The method that `requested` stands for. Raises TooLargeError if "cholesky" cannot run."""
    fits = worker_memory_bytes is None or direct_bytes <= worker_memory_bytes
    if requested == "auto":
        return "cholesky" if rows <= MAX_DIRECT_ROWS and fits else "cg"
    if requested != "cholesky":
        return requested
    if rows > MAX_DIRECT_ROWS:
        raise TooLargeError(
            f"Method 'cholesky' takes at most {MAX_DIRECT_ROWS} rows; the matrix has {rows}.",
            advice="Use method 'cg'.",
            limit_rows=MAX_DIRECT_ROWS,
            rows=rows,
        )
    check_fits("Method 'cholesky'", direct_bytes, worker_memory_bytes)
    return "cholesky"


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
        what = "One application of K" if requested == "stream" else f"Placement '{requested}'"
        check_fits(what, projected_bytes[requested], worker_memory_bytes)
        return requested
    for placement in ("full", "memory"):
        if worker_memory_bytes is None or projected_bytes[placement] <= worker_memory_bytes:
            return placement
    check_fits("One application of K", projected_bytes["stream"], worker_memory_bytes)
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


def check_fits(what: str, projected_bytes: int, worker_memory_bytes: int | None) -> None:
    """Raises TooLargeError, with both numbers, if a worker's limit would be exceeded."""
    if worker_memory_bytes is not None and projected_bytes > worker_memory_bytes:
        raise TooLargeError(
            f"{what} needs about {projected_bytes / 2**20:.0f} MiB in a worker; workers have "
            f"{worker_memory_bytes / 2**20:.0f} MiB.",
            advice="Use more memory per worker, or a method or placement that needs less.",
            projected_bytes=projected_bytes,
            worker_memory_bytes=worker_memory_bytes,
        )
