"""The task type `analysis`: a named analysis of stored Gram matrices (workers/analyses).

An analysis is one `Analysis` in ANALYSES: a schema, whose fields besides the inputs (`matrix`,
`other`, `targets` and their options) are the keyword parameters of the function that it names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from numpy.typing import NDArray
from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.results import DenseCost, ResultTask, Work, in_one_worker
from service.jobs.tasks.inputs import (
    check_dense_rows,
    right_hand_sides,
    rows_dataset,
    symmetric_gram,
)
from service.jobs.tasks.theory import (
    DepthConvergence,
    DepthLimit,
    EdgeOfChaos,
    MercerSpectrum,
    OnSamples,
    Phase,
    Smoothness,
    check_theory,
    few_samples,
    theory_flops,
)
from service.schemas.common import EXAMPLE_DATASET, EXAMPLE_MATRIX, DatasetId, MatrixId
from service.schemas.tasks import ArrayName, Asked, OnGram
from workers.analyses.errors import InvalidAnalysisError
from workers.analyses.stored import ANALYSIS_COPIES, stored_analysis
from workers.memory import WORKER_BASE_BYTES
from workers.solves.dense import dense_worker_bytes
from workers.solves.source import StoredTiles
from workers.solves.targets import Encoding

_INPUTS = frozenset(
    {
        *("name", "matrix", "array", "other", "other_array"),
        *("targets", "encoding", "samples", "rows"),
    }
)


class OnPair(OnGram):
    """An analysis of two Gram matrices of the same samples."""

    other: MatrixId = Field(description="Another sealed symmetric Gram matrix of equal size.")
    other_array: ArrayName = Field(default="ntk", description="Which array of it to use.")


class OnTargets(OnGram):
    """An analysis of a Gram matrix together with targets."""

    targets: DatasetId | None = Field(
        default=None, description="Data set whose targets to use; null: the Gram's own x1."
    )
    encoding: Encoding = Field(default="auto", description="How labels become numbers.")


class Conditioning(OnGram):
    """Condition number in both conventions, and trainability."""

    name: Literal["conditioning"]


class LearningRates(OnGram):
    """Largest stable learning rate for each way of writing the squared loss."""

    name: Literal["learning_rates"]


class EffectiveRank(OnGram):
    """Numerical, entropy, participation and stable rank; effective dimension at `ridge`."""

    name: Literal["effective_rank"]
    ridge: float = Field(default=0.0, ge=0, le=1e12, description="In units of the matrix.")


class GeneralizationBound(OnTargets):
    """sqrt(y^T H^-1 y / m) and its variants."""

    name: Literal["generalization_bound"]
    ridge: float = Field(default=0.0, ge=0, le=1e12, description="In units of the matrix.")
    width: int | None = Field(default=None, ge=1, description="Of the network; null: infinite.")
    delta: float = Field(default=0.01, gt=0, lt=1, description="Failure probability.")


class TargetAlignment(OnTargets):
    """Alignment of a kernel with its targets."""

    name: Literal["target_alignment"]
    centred: bool = Field(default=False, description="Centre both first.")


class KernelAlignment(OnPair):
    """Cosine of two kernels; centred: linear CKA."""

    name: Literal["kernel_alignment"]
    centred: bool = Field(default=False, description="Centre both first.")


class KernelDistance(OnPair):
    """1 - cosine of two kernels, exact for small distances."""

    name: Literal["kernel_distance"]


class KernelVelocity(OnPair):
    """Kernel distance per unit of `interval` between two moments of training."""

    name: Literal["kernel_velocity"]
    interval: float = Field(gt=0, le=1e12, description="Steps, epochs or time between the two.")


class KernelPca(OnGram):
    """The first kernel principal components: `scores` and `vectors` are stored."""

    name: Literal["kernel_pca"]
    components: int = Field(ge=1, le=10_000)
    centred: bool = Field(default=False, description="Remove the mean feature first.")


def _no_arrays(task: Any, rows: int) -> dict[str, tuple[int, ...]]:
    return {}


def _pca_arrays(task: KernelPca, rows: int) -> dict[str, tuple[int, ...]]:
    if task.components > rows:
        raise InvalidAnalysisError(
            f"{task.components} components of {rows} samples do not exist.",
            advice=f"Ask for 1 to {rows} components.",
        )
    return dict.fromkeys(("scores", "vectors"), (rows, task.components))


@dataclass(frozen=True)
class Analysis:
    """`function`: "module:name" in workers; takes the Grams that the schema names, then the
    targets or the samples (rows, d), then its parameters by name. `arrays(task, rows)`: shapes of
    the fields of its result that are stored (`rows` is 0 without a Gram); it may raise for
    parameters that cannot be.
    `check`: what else must be found wrong before any work."""

    schema: type[Asked]
    function: str
    arrays: Callable[[Any, int], dict[str, tuple[int, ...]]] = _no_arrays
    check: Callable[[Any], None] = field(default=lambda task: None)

    @property
    def name(self) -> str:
        name: str = self.schema.model_json_schema()["properties"]["name"]["const"]
        return name


def _theory(schema: type[Asked], function: str) -> Analysis:
    return Analysis(schema, function, check=check_theory)


ANALYSES: tuple[Analysis, ...] = (
    Analysis(Conditioning, "workers.analyses.conditioning:conditioning"),
    Analysis(LearningRates, "workers.analyses.learning_rate:learning_rates"),
    Analysis(EffectiveRank, "workers.analyses.effective_rank:effective_rank"),
    Analysis(GeneralizationBound, "workers.analyses.generalization:generalization_bound"),
    Analysis(TargetAlignment, "workers.analyses.alignment:target_alignment"),
    Analysis(KernelAlignment, "workers.analyses.alignment:kernel_alignment"),
    Analysis(KernelDistance, "workers.analyses.distance:kernel_distance"),
    Analysis(KernelVelocity, "workers.analyses.distance:kernel_velocity"),
    Analysis(KernelPca, "workers.analyses.kernel_pca:kernel_pca", _pca_arrays),
    _theory(MercerSpectrum, "workers.analyses.mercer:kernel_spectrum"),
    _theory(Smoothness, "workers.analyses.smoothness:kernel_smoothness"),
    _theory(EdgeOfChaos, "workers.mean_field.report:edge_report"),
    _theory(Phase, "workers.mean_field.report:phase_report"),
    _theory(DepthLimit, "workers.mean_field.report:limit_report"),
    _theory(DepthConvergence, "workers.mean_field.report:convergence_report"),
)

AnyAnalysis = Annotated[
    Conditioning
    | LearningRates
    | EffectiveRank
    | GeneralizationBound
    | TargetAlignment
    | KernelAlignment
    | KernelDistance
    | KernelVelocity
    | KernelPca
    | MercerSpectrum
    | Smoothness
    | EdgeOfChaos
    | Phase
    | DepthLimit
    | DepthConvergence,
    Field(discriminator="name"),
]


class AnalysisTask(Asked):
    """One named analysis; its numbers are the summary of the result."""

    type: Literal["analysis"]
    analysis: AnyAnalysis


def prepare(context: JobContext, task: AnalysisTask) -> Work:
    """Raises NotFoundError, NotReadyError, InvalidSolveError, InvalidAnalysisError,
    InvalidKernelError, TooLargeError."""
    asked: Any = task.analysis
    known = next(a for a in ANALYSES if isinstance(asked, a.schema))
    grams = _grams(context, asked)
    rows = grams[0].layout.shape[0] if grams else 0
    known.check(asked)
    arrays = known.arrays(asked, rows)
    determines: dict[str, Any] = asked.model_dump(mode="json")
    given: list[NDArray[Any]] = []
    if isinstance(asked, OnTargets):
        source = asked.targets or rows_dataset(grams[0].manifest)
        given.append(right_hand_sides(context, source, rows, asked.encoding)[0])
        determines["targets"] = source
    if isinstance(asked, OnSamples):
        given.append(few_samples(context, asked))
    parameters = asked.model_dump(exclude=set(_INPUTS))
    return Work(
        determines=determines,
        arrays=arrays,
        cost=_cost(asked, grams).to_json(),
        run=in_one_worker(stored_analysis, known.function, grams, given, parameters, [*arrays]),
    )


def _grams(context: JobContext, asked: Any) -> list[StoredTiles]:
    if not isinstance(asked, OnGram):
        return []
    found = [symmetric_gram(context, asked.matrix, asked.array)]
    check_dense_rows(context, found[0].layout.shape[0], "An analysis")
    if isinstance(asked, OnPair):
        found.append(symmetric_gram(context, asked.other, asked.other_array))
        sizes = [source.layout.shape[0] for source in found]
        if sizes[0] != sizes[1]:
            raise InvalidAnalysisError(
                f"The matrices have {sizes[0]} and {sizes[1]} rows.",
                advice="Compare kernels of the same samples.",
            )
    return found


def _cost(asked: Any, grams: list[StoredTiles]) -> DenseCost:
    if not grams:
        return DenseCost(
            flops=theory_flops(asked), bytes_read=0, peak_bytes_per_worker=WORKER_BASE_BYTES
        )
    m = grams[0].layout.shape[0]
    return DenseCost(
        flops=10.0 * m**3,
        bytes_read=sum(source.layout.stored_bytes for source in grams),
        peak_bytes_per_worker=dense_worker_bytes(
            grams[0], (ANALYSIS_COPIES + 2 * (len(grams) - 1)) * m * m
        ),
    )


ANALYSIS = ResultTask(
    name="analysis",
    schema=AnalysisTask,
    examples={
        "conditioning": {
            "summary": "Condition number of a Gram matrix",
            "value": {"analysis": {"name": "conditioning", "matrix": EXAMPLE_MATRIX}},
        },
        "generalization-bound": {
            "summary": "Data-dependent generalisation bound",
            "value": {
                "analysis": {
                    "name": "generalization_bound",
                    "matrix": EXAMPLE_MATRIX,
                    "ridge": 1e-3,
                }
            },
        },
        "depth-convergence": {
            "summary": "How fast the NTK of real samples reaches its limit with depth",
            "value": {
                "analysis": {
                    "name": "depth_convergence",
                    "samples": EXAMPLE_DATASET,
                    "activation": "relu",
                    "w_std": 1.4142135623730951,
                    "depths": [10, 30, 100, 300, 1000],
                }
            },
        },
        "edge-of-chaos": {
            "summary": "Critical weight deviations of an activation",
            "value": {"analysis": {"name": "edge_of_chaos", "activation": "erf", "b_std": 0.2}},
        },
    },
    prepare=prepare,
    matrix_kind="analysis",
)
