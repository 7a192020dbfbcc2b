"""One measured run of solves.py, in a process of its own: `solve_runs.py '<JSON>'`.

It prints one JSON object. CPU seconds are those of the solve alone, without loading what only the
peers need in memory; the peak is that of the whole process (VmHWM).
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

TILE_ROWS = 2048
PROBLEMS = ("fashion", "hard32", "hard64")


def problem(name: str, rows: int) -> tuple[NDArray[Any], NDArray[Any], str]:
    """Samples (rows, d), targets, and which kernel of a ReLU network of depth 3.

    fashion: Fashion-MNIST, mean removed, unit norm, labels, NTK. hard32, hard64: points in three
    dimensions, ten smooth functions with noise, NNGP in that precision.
    """
    if name == "fashion":
        from service.demo import data

        split = data.load("fashion")
        x = split.x_train[:rows].astype(np.float32)
        x -= x.mean(axis=0)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x, split.y_train[:rows], "ntk"
    rng = np.random.default_rng(0)
    x = rng.standard_normal((rows, 3))
    waves = np.sin(x @ rng.standard_normal((3, 10)) + rng.standard_normal(10))
    targets = waves + 0.1 * rng.standard_normal(waves.shape)
    return x.astype("float32" if name == "hard32" else "float64"), targets, "nngp"


def build(store: str, name: str, rows: int) -> dict[str, Any]:
    """Compute the Gram tile by tile and seal it."""
    from storage import digest, matrices
    from storage.blobs import open_blobs
    from storage.format import ArrayLayout, MatrixManifest
    from storage.keys import matrix_id
    from workers.kernels import compile_kernel

    x, _, array = problem(name, rows)
    kernel, blobs = compile_kernel({"preset": "fc", "depth": 3}), open_blobs(store)
    shape, chunk = (rows, rows), (TILE_ROWS, TILE_ROWS)
    layout = ArrayLayout(array, shape, chunk, str(x.dtype), symmetric=True)  # type: ignore[arg-type]
    key = hashlib.sha256(f"{name} {rows}".encode()).hexdigest()
    manifest = MatrixManifest(matrix_id(key), "gram", (layout,), 512, {})
    matrices.create(blobs, manifest)
    nodes = []
    for coords in matrices.all_stored_coords(layout):
        down, along = layout.chunk_extent(coords)
        other = None if coords[0] == coords[1] else x[along]
        tile = kernel(x[down], other, outputs=(array,))[array]
        matrices.write_chunk(blobs, manifest, array, coords, tile)
        nodes.append((coords, digest.chunk_digest(layout, coords, tile, block_rows=512)))
    matrices.seal(blobs, manifest, {array: digest.array_digest(layout, nodes, 512)}, {})
    return {"matrix": manifest.id, "array": array, "stored_bytes": layout.stored_bytes}


def ours(
    store: str, name: str, rows: int, matrix: str, memory_bytes: int, **fields: Any
) -> dict[str, Any]:
    """`run_solve` in this process."""
    import jax  # noqa: F401 - that importing it takes seconds is no part of a solve

    from workers.solves.task import SolveRequest, run_solve

    _, targets, array = problem(name, rows)
    request = SolveRequest(matrix, array, targets, ridge_relative=True, **fields)
    before = time.process_time()
    found = run_solve(None, request, store_url=store, worker_memory_bytes=memory_bytes)
    seconds = time.process_time() - before
    stats = found.summary["stats"]
    details = stats["details"]
    kept = {k: details[k] for k in ("preconditioner", "factor", "throughput") if k in details}
    far = details.get("distance_to_exact_at_most")
    return {
        "outcome": found.summary["outcome"],
        "method": found.summary["method"],
        "placement": stats["placement"],
        "cpu_seconds": seconds,
        "passes": stats["applications"],
        "float64_passes": stats["precise_applications"],
        "certified": stats["certified_max"],
        "bytes_read": stats["bytes_read"],
        "distance_to_exact_at_most": None if far is None else max(far),
        "details": kept,
    }


def peer(store: str, name: str, rows: int, matrix: str, ridge: float, which: str) -> dict[str, Any]:
    """SciPy's Cholesky or scikit-learn's KernelRidge on the float64 matrix in memory."""
    from scipy.linalg import cho_factor, cho_solve

    from storage.blobs import open_blobs
    from storage.matrices import load_manifest
    from workers.solves.cholesky import true_residual
    from workers.solves.dense import load_dense
    from workers.solves.source import StoredTiles
    from workers.solves.targets import encode_targets

    _, targets, array = problem(name, rows)
    source = StoredTiles(store, load_manifest(open_blobs(store), matrix), array)
    rhs, _ = encode_targets(targets, rows, "auto")
    square = load_dense(source, dtype="float64")
    ridge *= float(np.trace(square)) / rows
    model = None
    if which == "sklearn":  # imported before the clock starts
        from sklearn.kernel_ridge import KernelRidge

        model = KernelRidge(alpha=ridge, kernel="precomputed")
    before = time.process_time()
    if model is None:
        square[np.diag_indices(rows)] += ridge
        # The transpose is in Fortran order, so LAPACK works in place.
        x = cho_solve(cho_factor(square.T, lower=True, overwrite_a=True), rhs)
    else:
        x = model.fit(square, rhs).dual_coef_
    seconds = time.process_time() - before
    peak = peak_bytes()
    certified = float(true_residual(source, x, rhs, ridge).max())
    return {"outcome": "solved", "cpu_seconds": seconds, "certified": certified, "peak_bytes": peak}


def dump(
    store: str, name: str, rows: int, matrix: str, ridge: float, folder: str
) -> dict[str, Any]:
    """Write kernel.npy (float32) and rhs.npy for peers in other environments; the ridge in units of
    the kernel."""
    from storage.blobs import open_blobs
    from storage.matrices import load_manifest
    from workers.solves.dense import load_dense
    from workers.solves.source import StoredTiles
    from workers.solves.targets import encode_targets

    _, targets, array = problem(name, rows)
    source = StoredTiles(store, load_manifest(open_blobs(store), matrix), array)
    square = load_dense(source, dtype="float32")
    np.save(Path(folder) / "kernel.npy", square)
    np.save(Path(folder) / "rhs.npy", encode_targets(targets, rows, "auto")[0])
    return {"ridge": ridge * float(np.trace(square, dtype=np.float64)) / rows}


def operator(
    store: str, name: str, rows: int, matrix: str, columns: int, repeats: int
) -> dict[str, Any]:
    """Speed of one application to `columns` vectors in each placement, beside what the machine can
    do: read, read and check, and multiply.

    The limits are measured before every application, so that others on the machine slow all.
    """
    import jax

    from storage.blobs import open_blobs
    from storage.matrices import load_manifest
    from workers.solves.operator import LocalOperator
    from workers.solves.source import StoredTiles, tile_buffer, tiles_between

    _, _, array = problem(name, rows)
    blobs = open_blobs(store)
    source = StoredTiles(store, load_manifest(blobs, matrix), array)
    tiles = list(tiles_between(source.layout, 0, source.layout.stored_chunks))
    vectors = np.random.default_rng(0).standard_normal((rows, columns))
    keys = sorted(k for k in blobs.list(f"matrices/{matrix}/{array}/c"))
    paths = [path for key in keys if (path := blobs.path(key)) is not None]
    large = np.ones(256 << 18, dtype=np.float32)  # 256 MiB
    square = jax.numpy.ones((2048, 2048), dtype=np.float32)
    gemm = jax.jit(jax.numpy.matmul)
    # Of stored bytes, were the 2 m² k operations of an application all that it does.
    bytes_per_operation = source.layout.stored_bytes / (2 * rows**2 * columns)

    def memory() -> float:
        large.max()  # reads faster than np.dot or np.sum
        return float(large.nbytes)

    def files() -> float:
        buffer = memoryview(bytearray(paths[0].stat().st_size))
        # In parts, as tiles are read: the system then reads ahead, which a disk needs.
        return float(sum(blobs.get_into(key, buffer, lambda part: None) for key in keys))

    def checked() -> float:
        buffer = tile_buffer(source.layout)
        return float(sum(source.read(tile, buffer).nbytes for tile in tiles))

    def arithmetic() -> float:
        gemm(square, square).block_until_ready()
        return 2 * 2048**3 * bytes_per_operation

    def forget() -> None:
        for path in paths:
            handle = os.open(path, os.O_RDONLY)
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)

    arithmetic()  # compiles
    found = {}
    for label, placement, limits, cold, clock in (
        ("triangle in memory", "memory", (memory,), False, time.process_time),
        ("from files in the page cache", "stream", (files, checked), False, time.process_time),
        ("from disk", "stream", (files, checked), True, time.perf_counter),
    ):
        made = LocalOperator(source, placement=placement)  # type: ignore[arg-type]

        def product(made: LocalOperator = made) -> float:
            before = made.traffic.bytes_multiplied
            made.apply(vectors)
            return float(made.traffic.bytes_multiplied - before)

        product()  # reads the tiles that are kept, and compiles
        samples = []
        for _ in range(repeats):
            rates = {}
            for work in (*limits, arithmetic, product):
                if cold:
                    forget()
                rates[work.__name__] = _rate(work, clock)
            samples.append(rates)
        made.close()
        found[label] = {
            "clock": "CPU" if clock is time.process_time else "wall",
            **{
                f"{each}_bytes_per_second": statistics.median(rates[each] for rates in samples)
                for each in samples[0]
            },
            # Of what reading alone allows, and of what the slowest of all these allows.
            "of_reading": [rates["product"] / rates[limits[0].__name__] for rates in samples],
            "of_limits": [
                rates["product"] / min(rate for name, rate in rates.items() if name != "product")
                for rates in samples
            ],
        }
    return found


def _rate(work: Callable[[], float], clock: Callable[[], float]) -> float:
    before = clock()
    done = work()
    return done / (clock() - before)


def peak_bytes() -> int:
    """Peak of this process so far; that of a parent before exec is not in it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def main() -> None:
    asked = json.loads(sys.argv[1])
    runs = {"build": build, "ours": ours, "peer": peer, "operator": operator, "dump": dump}
    result = runs[asked.pop("run")](**asked)
    print(json.dumps({"peak_bytes": peak_bytes(), **result}))


if __name__ == "__main__":
    main()
