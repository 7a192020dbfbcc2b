"""The task type `spectrum`: eigenvalues of a stored Gram matrix and what follows from them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.results import DenseCost, ResultTask, Work, in_one_worker
from service.jobs.tasks.inputs import check_dense_rows, symmetric_gram
from service.schemas.common import EXAMPLE_MATRIX
from service.schemas.tasks import OnGram
from workers.analyses.stored import ANALYSIS_COPIES, stored_spectrum
from workers.solves.dense import dense_worker_bytes
from workers.solves.errors import InvalidSolveError


class SpectrumTask(OnGram):
    """Eigenvalues, condition number in both conventions, effective ranks, largest stable learning
    rates; on request the first kernel principal components of the samples."""

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


def prepare(context: JobContext, task: SpectrumTask) -> Work:
    """Raises NotFoundError, NotReadyError, InvalidSolveError, TooLargeError."""
    source = symmetric_gram(context, task.matrix, task.array)
    m = source.layout.shape[0]
    check_dense_rows(context, m, "A spectrum")
    if task.components > m:
        raise InvalidSolveError(
            f"{task.components} components were asked for; the matrix has {m} rows.",
            advice=f"Ask for at most {m}.",
        )
    determines: dict[str, Any] = task.model_dump(mode="json", exclude={"type"})
    arrays: dict[str, tuple[int, ...]] = {"eigenvalues": (m,)}
    if task.components:
        arrays["scores"] = (m, task.components)
        arrays["components"] = (m, task.components)
    numbers = ANALYSIS_COPIES * m * m + 4 * m * task.components
    return Work(
        determines=determines,
        arrays=arrays,
        cost=DenseCost(
            flops=(4 / 3 + (9 if task.components else 0)) * m**3,
            bytes_read=source.layout.stored_bytes,
            peak_bytes_per_worker=dense_worker_bytes(source, numbers),
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
    },
    prepare=prepare,
    matrix_kind="spectrum",
)
