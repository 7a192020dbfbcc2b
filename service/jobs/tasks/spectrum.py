"""The task type `spectrum`: eigenvalues of a stored Gram matrix and what follows from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.results import (
    DenseCost,
    ResultTask,
    Running,
    Work,
    in_one_worker,
    on_all_workers,
)
from service.jobs.tasks.inputs import (
    check_columns,
    check_dense_rows,
    fits_one_worker,
    symmetric_gram,
)
from service.jobs.tasks.training_cost import Passes, passes_cost
from service.schemas.common import EXAMPLE_MATRIX
from service.schemas.tasks import OnGram
from workers.analyses.large_spectrum import LargeSpectrum, columns_of, run_large_spectrum
from workers.analyses.stored import ANALYSIS_COPIES, stored_spectrum
from workers.one_worker import Written
from workers.solves.dense import dense_worker_bytes
from workers.solves.errors import InvalidSolveError
from workers.solves.source import StoredTiles

LARGEST = 50
"""Eigenvalues that `lanczos` finds unless told otherwise."""

LANCZOS_PASSES = 10
"""Passes that find the largest eigenvalues, about: 4 to 8 for kernels of real data."""

LANCZOS_TOLERANCE = 1e-5


class SpectrumTask(OnGram):
    """Eigenvalues, condition number in both conventions, effective ranks, largest stable learning
    rates; on request the first kernel principal components of the samples. Of a matrix beyond one
    worker: the largest eigenvalues, and estimates of what the others add up to."""

    type: Literal["spectrum"]
    ridge: float = Field(
        default=0.0,
        ge=0,
        le=1e12,
        description="For the effective dimension tr K (K + ridge I)^-1; see ridge_relative.",
    )
    ridge_relative: bool = Field(
        default=True, description="True: the ridge is multiplied by trace(K)/m."
    )
    components: int = Field(
        default=0, ge=0, le=10_000, description="Kernel principal components to store; 0: none."
    )
    centred: bool = Field(
        default=False,
        description="Components of the kernel with its mean feature removed; false: of K/m itself"
        " (Jacot et al. 2018).",
    )
    method: Literal["auto", "dense", "lanczos"] = Field(
        default="auto",
        description="dense: all eigenvalues, in one worker. lanczos: the largest ones with error"
        " bounds, and the density of the others, in passes over the matrix. auto: dense up to the"
        " service's max_dense_rows while it fits one worker, else lanczos.",
    )
    largest: int | None = Field(
        default=None,
        ge=1,
        le=10_000,
        description=f"How many eigenvalues lanczos finds; null: {LARGEST}, or as many as there are"
        " components. dense finds all.",
    )
    probes: int = Field(
        default=16, ge=2, le=1024, description="Random vectors of lanczos: more, smaller error bar."
    )
    lanczos_steps: int = Field(
        default=50, ge=1, le=1000, description="Passes of lanczos for the density."
    )
    seed: int = Field(default=0, ge=0, lt=2**53, description="Draws the vectors of lanczos.")


ONLY_LANCZOS = {"largest", "probes", "lanczos_steps", "seed"}


def prepare(context: JobContext, task: SpectrumTask) -> Work:
    """Raises NotFoundError, NotReadyError, InvalidSolveError, TooLargeError."""
    source = symmetric_gram(context, task.matrix, task.array)
    m = source.layout.shape[0]
    for what, count in (("components", task.components), ("eigenvalues", task.largest or 0)):
        if count > m:
            raise InvalidSolveError(
                f"{count} {what} were asked for; the matrix has {m} rows.",
                advice=f"Ask for at most {m}.",
            )
    numbers = ANALYSIS_COPIES * m * m + 4 * m * task.components
    peak = dense_worker_bytes(source, numbers)
    method = task.method
    if method == "auto":
        method = "dense" if fits_one_worker(context, m, peak) else "lanczos"
    if method == "lanczos":
        return _by_passes(context, task, source)
    check_dense_rows(context, m, "A spectrum", "Use method lanczos")
    determines: dict[str, Any] = task.model_dump(
        mode="json", exclude={"type", "method"} | ONLY_LANCZOS
    )
    arrays: dict[str, tuple[int, ...]] = {"eigenvalues": (m,)}
    if task.components:
        arrays["scores"] = (m, task.components)
        arrays["components"] = (m, task.components)
    return Work(
        determines=determines,
        arrays=arrays,
        cost=DenseCost(
            flops=(4 / 3 + (9 if task.components else 0)) * m**3,
            bytes_read=source.layout.stored_bytes,
            peak_bytes_per_worker=peak,
        ).to_json(),
        run=in_one_worker(
            stored_spectrum,
            source,
            task.ridge,
            task.ridge_relative,
            task.components,
            task.centred,
        ),
    )


def _by_passes(context: JobContext, task: SpectrumTask, source: StoredTiles) -> Work:
    m = source.layout.shape[0]
    largest = task.largest or min(m, max(LARGEST, task.components))
    if task.components > largest and not task.centred:
        raise InvalidSolveError(
            f"{task.components} components were asked for, but only {largest} eigenvalues.",
            advice="Ask for at least as many eigenvalues in `largest`, or leave it out.",
        )
    request = LargeSpectrum(
        source=source,
        largest=largest,
        ridge=task.ridge,
        relative=task.ridge_relative,
        components=task.components,
        centred=task.centred,
        probes=task.probes,
        steps=task.lanczos_steps,
        seed=task.seed,
    )
    columns = columns_of(request)
    # The basis of block Lanczos holds three blocks at least.
    check_columns(context, m, 3 * columns, f"{largest} eigenvalues", "Ask for fewer")
    passes = task.lanczos_steps + (2 if task.centred and task.components else 1) * LANCZOS_PASSES
    arrays: dict[str, tuple[int, ...]] = {"eigenvalues": (largest,)}
    if task.components:
        arrays["scores"] = (m, task.components)
        arrays["components"] = (m, task.components)

    def run(running: Running) -> Written | None:
        return on_all_workers(running, run_large_spectrum, request)

    return Work(
        determines={
            **task.model_dump(mode="json", exclude={"type"}),
            "method": "lanczos",
            "largest": largest,
        },
        arrays=arrays,
        cost=passes_cost(
            context,
            source.layout,
            columns=columns,
            passes=Passes(passes, "model"),
            tolerance=LANCZOS_TOLERANCE,
        ),
        run=run,
    )


SPECTRUM = ResultTask(
    name="spectrum",
    schema=SpectrumTask,
    examples={
        "spectrum": {
            "summary": "Eigenvalues and condition number",
            "value": {"matrix": EXAMPLE_MATRIX},
        },
        "kernel-pca": {
            "summary": "The first two centred kernel principal components",
            "value": {"matrix": EXAMPLE_MATRIX, "components": 2, "centred": True},
        },
        "largest-eigenvalues": {
            "summary": "The 20 largest eigenvalues of a matrix of any size",
            "value": {"matrix": EXAMPLE_MATRIX, "method": "lanczos", "largest": 20},
        },
    },
    prepare=prepare,
    matrix_kind="spectrum",
)
