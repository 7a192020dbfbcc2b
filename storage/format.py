"""What a stored matrix is, as plain data: format version 1 (FORMAT.md beside this file).

A matrix is a named set of arrays (a Gram matrix has `nngp` and/or `ntk`; a solve result has
`dual`, `predictions`, ...). Its manifest is written when the matrix is created and never changes.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from storage.errors import UnsupportedFormatError

FORMAT_VERSION = 1

DType = Literal["float32", "float64"]


@dataclass(frozen=True)
class ArrayLayout:
    """Shape and chunk grid of one stored array.

    `symmetric`: only chunks (i, j) with i <= j are stored; the others are their transposes.
    Symmetric arrays are square with square chunks.
    """

    name: str
    shape: tuple[int, ...]  # elements, e.g. (5000, 5000)
    chunk_shape: tuple[int, ...]  # elements, e.g. (2048, 2048)
    dtype: DType
    symmetric: bool = False

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.chunk_shape):
            raise ValueError(f"shape {self.shape}, chunks {self.chunk_shape}: ranks differ")
        if any(n < 1 for n in (*self.shape, *self.chunk_shape)):
            raise ValueError(f"empty array {self.shape} in chunks of {self.chunk_shape}")
        square = len(self.shape) == 2 and self.shape[0] == self.shape[1]
        if self.symmetric and not (square and self.chunk_shape[0] == self.chunk_shape[1]):
            raise ValueError("a symmetric array must be square with square chunks")

    @property
    def grid(self) -> tuple[int, ...]:
        """Number of chunks along each dimension."""
        return tuple(math.ceil(n / c) for n, c in zip(self.shape, self.chunk_shape, strict=True))

    @property
    def itemsize(self) -> int:
        return 4 if self.dtype == "float32" else 8

    @property
    def stored_chunks(self) -> int:
        """Number of chunks on disk."""
        if self.symmetric:
            n = self.grid[0]
            return n * (n + 1) // 2
        return math.prod(self.grid)

    @property
    def stored_bytes(self) -> int:
        """Bytes on disk: whole chunks (edge chunks are padded) plus a 4-byte checksum each."""
        return self.stored_chunks * (math.prod(self.chunk_shape) * self.itemsize + 4)

    def chunk_extent(self, coordinates: tuple[int, ...]) -> tuple[slice, ...]:
        """The part of the array that a chunk covers, clipped to the array's shape."""
        return tuple(
            slice(i * c, min((i + 1) * c, n))
            for i, c, n in zip(coordinates, self.chunk_shape, self.shape, strict=True)
        )


@dataclass(frozen=True)
class MatrixManifest:
    """Everything about a matrix except its numbers.

    `provenance` says what was computed from what (task, kernel spec, data set ids) and with which
    library versions; its canonical request part determines `id`.
    """

    id: str
    kind: str  # "gram", "solution", ...
    arrays: tuple[ArrayLayout, ...]
    block_rows: int  # edge of the compute blocks over which digests are taken (digest.py)
    provenance: dict[str, Any] = field(default_factory=dict)
    format_version: int = FORMAT_VERSION

    def array(self, name: str) -> ArrayLayout:
        for layout in self.arrays:
            if layout.name == name:
                return layout
        raise KeyError(name)

    @property
    def stored_bytes(self) -> int:
        return sum(layout.stored_bytes for layout in self.arrays)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> MatrixManifest:
        """Inverse of `to_json`. Raises UnsupportedFormatError for other format versions."""
        version = document.get("format_version")
        if version != FORMAT_VERSION:
            raise UnsupportedFormatError(
                f"This matrix has format version {version!r}; this library reads {FORMAT_VERSION}.",
                advice="Install the Gramian version that wrote it, or a newer one.",
            )
        arrays = tuple(
            ArrayLayout(
                name=a["name"],
                shape=tuple(a["shape"]),
                chunk_shape=tuple(a["chunk_shape"]),
                dtype=a["dtype"],
                symmetric=a["symmetric"],
            )
            for a in document["arrays"]
        )
        return cls(
            id=document["id"],
            kind=document["kind"],
            arrays=arrays,
            block_rows=document["block_rows"],
            provenance=document["provenance"],
        )
