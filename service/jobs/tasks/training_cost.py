"""What following training by passes over a stored kernel costs at most, before any work.

The largest eigenvalue λ₁ decides how many passes a series takes, and only the job finds it. But it
is at most the trace, and the diagonal of a matrix is kept with its previews. So these are upper
bounds: for ReLU kernels of real data λ₁ is 0.3 to 0.7 of the trace, and passes grow as its root.
"""

from __future__ import annotations

from functools import partial
from typing import Any, Literal, NamedTuple

import numpy as np

from service.jobs.context import JobContext
from service.jobs.tasks.solve_cost import solve_cost
from storage import previews
from storage.blobs import BlobStore
from storage.format import ArrayLayout
from storage.previews import PreviewMissingError
from workers.predictions.dynamics import MAX_EVALUATIONS, evaluations
from workers.predictions.kernel_series import MOST_PASSES, Factor, SeriesBounds
from workers.predictions.losses import CURVATURE
from workers.predictions.stored_dynamics import DynamicsAsked, Rates
from workers.predictions.time_factors import descent_factors, flow_factors
from workers.solves.operator import diagonal_part
from workers.solves.source import StoredTiles

COLUMNS_ADVICE = (
    "Give the workers more memory, store the matrix in smaller tiles, or use fewer targets."
)
LANCZOS_PASSES = 8  # that find the largest eigenvalue, about
LEAST_EVALUATIONS = 300  # of an integration, that its accuracy takes at early times
SUMMED = ("applications", "flops", "bytes_read", "seconds")  # of work one after the other

_READ_BYTES = 64 << 20  # of tiles on the diagonal, where previews keep no diagonal

# trace: at most, from the trace of the kernel; limit: at most, by the limit of the service;
# request: the number that was asked for; model: about, for integrations.
Basis = Literal["trace", "limit", "request", "model"]


class Passes(NamedTuple):
    """Products with the kernel, and what the number rests on."""

    most: int
    basis: Basis


class Ridge(NamedTuple):
    """As it is asked for: `relative` to the mean of the diagonal."""

    value: float
    relative: bool

    def of(self, trace: float, source: StoredTiles) -> float:
        """In units of the kernel."""
        return self.value * (trace / source.layout.shape[0] if self.relative else 1.0)


def passes_cost(
    context: JobContext, layout: ArrayLayout, *, columns: int, passes: Passes, tolerance: float
) -> dict[str, Any]:
    """Of that many passes with `columns` at once; memory as of a solve by passes."""
    one = solve_cost(context, layout, columns=columns, tolerance=tolerance, method="cg")
    share = passes.most / one.applications
    return {
        **one.to_json(),
        "applications": passes.most,
        "applications_basis": passes.basis,
        "flops": share * one.flops,
        "bytes_read": int(share * one.bytes_read),
        "seconds": share * one.seconds,
    }


def flow_passes(blobs: BlobStore, source: StoredTiles, time: float, ridge: Ridge) -> Passes:
    """Of a series for gradient flow on the squared loss."""
    trace = trace_of(blobs, source)
    if trace is None:
        return Passes(MOST_PASSES, "limit")
    factor = partial(flow_factors, time=time)
    return _series_passes(source, factor, trace, ridge.of(trace, source))


def training_passes(blobs: BlobStore, source: StoredTiles, asked: DynamicsAsked) -> Passes:
    """Of everything that `asked` follows at finite times and numbers of steps."""
    if asked.steps is not None and asked.loss != "squared":
        return Passes(asked.steps[-1], "request")
    times = [time for time in asked.times if time is not None]
    if asked.steps is None and not times:
        return Passes(0, "request")
    ridge, trace = Ridge(asked.ridge, asked.relative), trace_of(blobs, source)
    if asked.steps is None and asked.loss == "squared":
        return flow_passes(blobs, source, times[-1], ridge)
    if asked.steps is None:
        if trace is None:
            return Passes(MAX_EVALUATIONS, "limit")
        fastest = CURVATURE[asked.loss] * trace + ridge.of(trace, source)
        taken = evaluations(times[-1], fastest)
        if taken > MAX_EVALUATIONS:
            return Passes(MAX_EVALUATIONS, "limit")
        return Passes(int(np.ceil(taken)) + LEAST_EVALUATIONS, "model")
    steps = asked.steps[-1]
    most = Passes(min(steps, MOST_PASSES), "request" if steps <= MOST_PASSES else "limit")
    if trace is None:
        return most
    absolute = ridge.of(trace, source)
    rates = Rates.of(asked, trace, absolute)
    if rates.used >= rates.limit:
        return most
    factor = partial(descent_factors, steps=steps, rate=rates.used)
    return min(most, _series_passes(source, factor, trace, absolute))


def trace_of(blobs: BlobStore, source: StoredTiles) -> float | None:
    """Of a stored symmetric matrix, from its previews, or from its tiles where these are so small
    that the previews keep no diagonal; None where neither has it at hand."""
    layout = source.layout
    found = previews.pyramid(layout)
    if found is None or not found.diagonal_bytes:
        if layout.grid[0] * layout.chunk_shape[0] ** 2 * layout.itemsize > _READ_BYTES:
            return None
        return float(diagonal_part(source, 0, layout.grid[0]).sum())
    try:
        parts = [
            previews.read_diagonal(blobs, source.manifest, found, panel).astype(np.float64).sum()
            for panel in range(layout.grid[0])
        ]
    except PreviewMissingError:
        return None
    return float(np.sum(parts))


def _series_passes(source: StoredTiles, factor: Factor, trace: float, ridge: float) -> Passes:
    epsilon = float(np.finfo(source.layout.dtype).eps)
    bounds = SeriesBounds.of(epsilon, source.layout.shape[0], trace, ridge)
    most = bounds.passes(factor)
    return Passes(MOST_PASSES, "limit") if most is None else Passes(most, "trace")
