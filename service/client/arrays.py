"""Arrays on their way to and from the service. NumPy is imported by the calls that need it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from numpy.typing import NDArray

# One piece of `fetch`: large enough that requests do not count, small enough for any client.
_PIECE_BYTES = 32 << 20


@contextmanager
def as_file(value: NDArray[Any] | str | Path) -> Iterator[BinaryIO]:
    """An open binary file with the `.npy` bytes of an array, or of the file that is named."""
    if isinstance(value, str | Path):
        with Path(value).open("rb") as file:
            yield file
        return
    import numpy as np

    with tempfile.TemporaryFile(suffix=".npy") as file:
        np.save(file, value, allow_pickle=False)
        file.seek(0)
        yield file


def slice_text(part: slice | None) -> str | None:
    if part is None:
        return None
    if part.step not in (None, 1):
        raise ValueError("slices have no step")
    start = "" if part.start is None else str(part.start)
    stop = "" if part.stop is None else str(part.stop)
    return f"{start}:{stop}"


def read_array(
    info: Mapping[str, Any], read: Callable[[slice, slice | None], NDArray[Any]]
) -> NDArray[Any]:
    """A whole array from its pieces; `info` is what the service says about it."""
    import numpy as np

    dtype = np.dtype(info["dtype"])
    values = np.empty(tuple(info["shape"]), dtype)
    for rows, cols in pieces(tuple(info["shape"]), tuple(info["chunk_shape"]), dtype.itemsize):
        values[rows if cols is None else (rows, cols)] = read(rows, cols)
    return values


def pieces(
    shape: tuple[int, ...], chunk_shape: tuple[int, ...], itemsize: int
) -> Iterator[tuple[slice, slice | None]]:
    """Rectangles of whole chunks that cover the array, of about `_PIECE_BYTES` each.

    Whole chunks, because the service decodes a chunk to serve any part of it.
    """
    rest = itemsize
    for n in shape[2:]:
        rest *= n
    chunk_rows = chunk_shape[0]
    if len(shape) == 1:
        step = max(1, _PIECE_BYTES // (rest * chunk_rows)) * chunk_rows
        for start in range(0, shape[0], step):
            yield slice(start, min(start + step, shape[0])), None
        return
    rows_step = chunk_rows
    cols_chunk = chunk_shape[1]
    cols_step = max(1, _PIECE_BYTES // (rest * rows_step * cols_chunk)) * cols_chunk
    if cols_step >= shape[1]:
        rows_step *= max(1, _PIECE_BYTES // (rest * rows_step * shape[1]))
    for i in range(0, shape[0], rows_step):
        for j in range(0, shape[1], cols_step):
            yield (
                slice(i, min(i + rows_step, shape[0])),
                slice(j, min(j + cols_step, shape[1])),
            )
