"""The task types: everything that `POST /v1/jobs` takes. tasks/README.md says how to add one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from service.jobs.plans import TaskType
from service.jobs.tasks.analysis import ANALYSIS, AnalysisTask
from service.jobs.tasks.dynamics import DYNAMICS, DynamicsTask
from service.jobs.tasks.gram import GramTask
from service.jobs.tasks.label_kernel import LABEL_KERNEL, LabelKernelTask
from service.jobs.tasks.likelihood import LIKELIHOOD, LikelihoodTask
from service.jobs.tasks.pixel_gram import PixelGramTask
from service.jobs.tasks.posterior import POSTERIOR, PosteriorTask
from service.jobs.tasks.predict import PREDICT, PredictTask
from service.jobs.tasks.ridge import CLASSIFY, RIDGE, ClassifyTask, RidgeTask
from service.jobs.tasks.solve import SOLVE, SolveTask
from service.jobs.tasks.spectrum import SPECTRUM, SpectrumTask
from service.jobs.tasks.submatrix import SubmatrixTask
from service.jobs.tasks.svm import SVM, SvmTask
from service.jobs.tasks.tiled_tasks import TILED_TASKS
from service.jobs.tasks.verify import VerifyJobs, VerifyTask
from service.schemas.tasks import Asked

TASK_TYPES: tuple[TaskType, ...] = (
    *TILED_TASKS.values(),
    SOLVE,
    RIDGE,
    CLASSIFY,
    POSTERIOR,
    DYNAMICS,
    LIKELIHOOD,
    SPECTRUM,
    ANALYSIS,
    PREDICT,
    SVM,
    LABEL_KERNEL,
    VerifyJobs(),
)

Task = Annotated[
    GramTask
    | PixelGramTask
    | SubmatrixTask
    | SolveTask
    | RidgeTask
    | ClassifyTask
    | PosteriorTask
    | DynamicsTask
    | LikelihoodTask
    | SpectrumTask
    | AnalysisTask
    | PredictTask
    | SvmTask
    | LabelKernelTask
    | VerifyTask,
    Field(discriminator="type"),
]

KINDS: Mapping[str, TaskType] = MappingProxyType({kind.name: kind for kind in TASK_TYPES})


class JobRequest(Asked):
    """The body of `POST /v1/jobs` and `POST /v1/estimates`."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="JobRequest")

    task: Task


def task_examples() -> dict[str, dict[str, Any]]:
    """Bodies for the API documentation, by name; each has a `summary` and a `value`."""
    return {
        name: {
            "summary": example["summary"],
            "value": {"task": {"type": kind.name, **example["value"]}},
        }
        for kind in TASK_TYPES
        for name, example in kind.examples.items()
    }
