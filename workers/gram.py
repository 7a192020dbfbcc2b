"""From a resolved Gram request to the manifest of the matrix it makes.

The matrix id is the digest of what determines the numbers: kernel, data sets, dtype, outputs and
the edge of the compute blocks. The tile size is not part of it: it does not change a bit.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import platform
from dataclasses import dataclass
from typing import Any

from storage.datasets import DatasetInfo
from storage.errors import GramianError
from storage.format import FORMAT_VERSION, ArrayLayout, DType, MatrixManifest
from storage.keys import matrix_id
from workers.kernels import cost
from workers.kernels.outputs import OUTPUTS, check_outputs
from workers.kernels.spec import KernelSpec
from workers.plan import (
    choose_block_rows,
    choose_costly_block_rows,
    choose_tile_rows,
    is_tile_edge,
)


class InvalidGramError(GramianError):
    """The parts of a Gram request do not fit together."""

    kind = "invalid-gram"


def gram_dtype(x1: DatasetInfo, x2: DatasetInfo | None, requested: DType | None) -> DType:
    """The dtype asked for, else that of the data (float64 if either data set is)."""
    if requested is not None:
        return requested
    dtypes = {x1.dtype, x2.dtype if x2 is not None else x1.dtype}
    return "float64" if "float64" in dtypes else "float32"


def check_gram(x1: DatasetInfo, x2: DatasetInfo | None, outputs: tuple[str, ...]) -> None:
    """Raises InvalidGramError when data sets and outputs do not fit together."""
    if x2 is not None and x1.shape[1:] != x2.shape[1:]:
        raise InvalidGramError(
            f"Samples of x1 have shape {x1.shape[1:]}, samples of x2 {x2.shape[1:]}.",
            advice="Both data sets of a cross-Gram need samples of one shape.",
        )
    unknown = sorted(set(outputs) - set(OUTPUTS))
    if not outputs or unknown or len(set(outputs)) != len(outputs):
        raise InvalidGramError(
            f"outputs must name {' and/or '.join(OUTPUTS)} once each, not {list(outputs)}.",
            advice='For example: "outputs": ["ntk"].',
        )


@dataclass(frozen=True)
class TileLimits:
    """What bounds the size of tiles when a request does not name one."""

    compute_block_rows: int = 512
    max_chunk_bytes: int = 16 << 20
    max_tile_seconds: float = 10.0


def plan_gram(
    spec: KernelSpec,
    x1: DatasetInfo,
    x2: DatasetInfo | None,
    *,
    dtype: DType,
    outputs: tuple[str, ...],
    tile_rows: int | None,
    limits: TileLimits,
    workers: int,
    seconds_per_pair: float,
) -> MatrixManifest:
    """Manifest of a Gram matrix with a tile size chosen for this cluster, or the one asked for.

    Raises InvalidInputsError if the samples do not fit a convolutional network, and what
    `gram_manifest` raises.

    `seconds_per_pair` is what one kernel evaluation takes on one worker (measured or modelled).
    """
    columns = (x2 or x1).samples
    rows = max(x1.samples, columns)
    if spec.spatial:
        flops = cost.kernel_cost(spec, x1.shape[1:], dtype).flops_per_pair
        block_rows = choose_costly_block_rows(rows, limits.compute_block_rows, flops)
    else:
        block_rows = choose_block_rows(rows, limits.compute_block_rows)
    if tile_rows is None:
        tile_rows = choose_tile_rows(
            (x1.samples, columns),
            symmetric=x2 is None,
            block_rows=block_rows,
            itemsize=4 if dtype == "float32" else 8,
            seconds_per_pair=seconds_per_pair,
            workers=workers,
            max_chunk_bytes=limits.max_chunk_bytes,
            max_tile_seconds=limits.max_tile_seconds,
        )
    return gram_manifest(
        spec,
        x1,
        x2,
        dtype=dtype,
        outputs=outputs,
        block_rows=block_rows,
        tile_rows=tile_rows,
    )


def gram_manifest(
    spec: KernelSpec,
    x1: DatasetInfo,
    x2: DatasetInfo | None,
    *,
    dtype: DType,
    outputs: tuple[str, ...],
    block_rows: int,
    tile_rows: int,
) -> MatrixManifest:
    """Manifest of the (m1, m2) Gram matrix of `x1` against `x2` (against itself when None).

    Raises InvalidGramError for outputs, shapes or a tile size that cannot be, and
    InvalidKernelError for an output that this network does not have.
    """
    check_gram(x1, x2, outputs)
    check_outputs(spec, outputs)
    if not is_tile_edge(tile_rows, block_rows):
        raise InvalidGramError(
            f"tile_rows={tile_rows} is not {block_rows} times a power of two.",
            advice=f"Use {block_rows}, {2 * block_rows} or {4 * block_rows}, or leave it out.",
        )
    names = tuple(sorted(outputs))
    request = {
        "format": FORMAT_VERSION,
        "task": "gram",
        "kernel": spec.canonical(),
        "x1": x1.id,
        "x2": x2.id if x2 is not None else None,
        "dtype": dtype,
        "outputs": names,
        "block_rows": block_rows,
    }
    columns = x2.samples if x2 is not None else x1.samples
    return MatrixManifest(
        id=matrix_id(request_digest(request)),
        kind="gram",
        arrays=tuple(
            ArrayLayout(
                name=name,
                shape=(x1.samples, columns),
                chunk_shape=(tile_rows, tile_rows),
                dtype=dtype,
                symmetric=x2 is None,
            )
            for name in names
        ),
        block_rows=block_rows,
        provenance={
            "request": {**request, "outputs": list(names)},
            "kernel_digest": spec.digest,
            "software": software_versions(),
        },
    )


def request_digest(request: dict[str, Any]) -> str:
    """SHA-256 (hex) of the canonical JSON of a request."""
    text = json.dumps(request, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


@functools.cache
def _version(package: str) -> str:
    """Each look reads files; what a running process has imported does not change."""
    return importlib.metadata.version(package)


def software_versions() -> dict[str, str]:
    """Versions that may change the last bits of a result."""
    names = ("gramian", "jax", "jaxlib", "numpy", "zarr")
    return {
        **{name: _version(name) for name in names},
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
