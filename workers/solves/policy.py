"""Which method and which placement `auto` means. Pure, so that estimates can ask it too.

method:
| condition | method | why |
|---|---|---|
| m <= 12000 and the float64 square fits a worker | cholesky | exact, and the fastest there |
| otherwise | cg | the exact answer in one triangle of storage, a few dozen passes |
| only when named | nystrom | inducing points as the model lose accuracy (2 points at M = m/5) |

placement of the tiles for cg: in worker memory when every worker's share fits next to its vectors,
else streamed from the store at each application.
"""

from __future__ import annotations

from typing import Literal

from storage.errors import TooLargeError
from workers.solves.operator import Placement

Method = Literal["cg", "nystrom", "cholesky"]
RequestedMethod = Literal["auto", "cg", "nystrom", "cholesky"]
RequestedPlacement = Literal["auto", "memory", "stream"]

# Float64 potrf of the OpenBLAS in SciPy and NumPy wheels crashes the process with more than one
# thread from about 16000 rows on; 12000 was always safe.
MAX_DIRECT_ROWS = 12_000


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
    memory_bytes: int,
    stream_bytes: int,
    worker_memory_bytes: int | None,
) -> Placement:
    """`memory_bytes`, `stream_bytes`: projected peak of a worker under each placement.

    Raises TooLargeError when the requested (or even the streaming) placement cannot fit.
    """
    if requested == "memory":
        check_fits("Placement 'memory'", memory_bytes, worker_memory_bytes)
        return "memory"
    if requested == "auto" and (worker_memory_bytes is None or memory_bytes <= worker_memory_bytes):
        return "memory"
    check_fits("One application of K", stream_bytes, worker_memory_bytes)
    return "stream"


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
