"""What can be asked for: the tasks of `POST /v1/jobs` and `POST /v1/estimates`.

A discriminated union on `task.type`; unknown fields are errors. What only the stored objects can
tell (do they exist, do their shapes agree) is checked in `service.jobs.requests`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from service.schemas.common import (
    EXAMPLE_CROSS,
    EXAMPLE_DATASET,
    EXAMPLE_MATRIX,
    EXAMPLE_TEST_SET,
    DatasetId,
    MatrixId,
)

Output = Literal["nngp", "ntk"]
DTypeName = Literal["float32", "float64"]
ArrayName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


class Asked(BaseModel):
    """Base of everything a client sends: unknown fields are errors, numbers are finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class GramTask(Asked):
    """Compute a Gram matrix: `x1` against itself (symmetric), or `x1` (rows) against `x2`
    (columns). For predictions, `x1` is the test set and `x2` the training set."""

    type: Literal["gram"]
    kernel: str | dict[str, Any] = Field(
        description="A preset name, a preset with parameters, or a list of layers;"
        " see /v1/kernels.",
    )
    x1: DatasetId = Field(description="Data set of the rows.")
    x2: DatasetId | None = Field(
        default=None, description="Data set of the columns; null: the symmetric Gram of x1."
    )
    outputs: tuple[Output, ...] | None = Field(
        default=None,
        min_length=1,
        max_length=2,
        description="Both come from one pass. Null: what the preset says, else the NTK.",
    )
    dtype: DTypeName | None = Field(
        default=None, description="Null: that of the data (float64 if either set is)."
    )
    tile_rows: int | None = Field(
        default=None,
        ge=1,
        le=1 << 20,
        description="Edge of a tile; null: chosen from cost and memory. Never changes the values.",
    )


class SolveTask(Asked):
    """Kernel ridge regression over a stored symmetric Gram: solve (K + ridge I) A = Y, and
    predict through a stored cross-Gram when one is named."""

    type: Literal["solve"]
    matrix: MatrixId = Field(description="A sealed symmetric Gram matrix.")
    array: ArrayName = Field(default="ntk", description="Which array of the matrices to use.")
    targets: DatasetId | None = Field(
        default=None, description="Data set whose targets are Y; null: the Gram's own x1."
    )
    encoding: Literal["auto", "one_hot", "real"] = Field(
        default="auto",
        description="How targets become right-hand sides. `one_hot` (labels only): 0.9 for the"
        " class, -0.1 elsewhere. `real`: the numbers themselves. `auto`: one_hot for labels.",
    )
    ridge: float = Field(
        default=1e-4, ge=0, le=1e12, description="Added to the diagonal; see ridge_relative."
    )
    ridge_relative: bool = Field(
        default=True, description="True: the ridge is multiplied by trace(K)/m."
    )
    method: Literal["auto", "cg", "nystrom", "cholesky"] = Field(
        default="auto", description="`auto`: cholesky while it fits one worker, else cg."
    )
    tolerance: float | None = Field(
        default=None,
        ge=1e-14,
        lt=1,
        description="Certified relative residual to reach; null: 1e-3 with a cross-Gram, 1e-6"
        " without one.",
    )
    max_applications: int = Field(
        default=1000, ge=1, le=100_000, description="Most passes of CG over the matrix."
    )
    inducing: int | None = Field(
        default=None,
        ge=1,
        le=100_000,
        description="Number of inducing points (nystrom only); null: 20 sqrt(m).",
    )
    placement: Literal["auto", "full", "memory", "stream"] = Field(
        default="auto",
        description="Whether CG keeps the full matrix or the stored triangle in worker memory, or"
        " reads the triangle at each pass.",
    )
    time_limit_seconds: float | None = Field(
        default=None, gt=0, description="CG ends here with the accuracy reached; null: no limit."
    )
    # 2**53 - 1: the largest integer that every JSON reader keeps exactly.
    seed: int = Field(default=0, ge=0, lt=2**53, description="Chooses the inducing points.")
    cross: MatrixId | None = Field(
        default=None, description="A sealed cross-Gram (test rows, training columns)."
    )
    test_targets: DatasetId | None = Field(
        default=None,
        description="Data set whose targets the predictions are compared with; null: the"
        " cross-Gram's own x1, if it has targets.",
    )


Task = Annotated[GramTask | SolveTask, Field(discriminator="type")]


class JobRequest(Asked):
    """The body of `POST /v1/jobs` and `POST /v1/estimates`."""

    model_config = ConfigDict(frozen=True, extra="forbid", title="JobRequest")

    task: Task


TASK_EXAMPLES: dict[str, dict[str, Any]] = {
    "gram": {
        "summary": "The NTK of a data set",
        "value": {
            "task": {
                "type": "gram",
                "kernel": {"preset": "fc", "depth": 3},
                "x1": EXAMPLE_DATASET,
                "outputs": ["ntk"],
            }
        },
    },
    "cross-gram": {
        "summary": "Test set against training set",
        "value": {
            "task": {
                "type": "gram",
                "kernel": {
                    "layers": [
                        {"op": "dense", "w_std": 1.4142135623730951},
                        {"op": "activation", "fn": "relu"},
                        {"op": "dense"},
                    ]
                },
                "x1": EXAMPLE_TEST_SET,
                "x2": EXAMPLE_DATASET,
                "outputs": ["nngp", "ntk"],
                "dtype": "float32",
            }
        },
    },
    "solve-cg": {
        "summary": "Kernel ridge regression by conjugate gradients, with predictions",
        "value": {
            "task": {
                "type": "solve",
                "matrix": EXAMPLE_MATRIX,
                "array": "ntk",
                "method": "cg",
                "ridge": 1e-4,
                "tolerance": 1e-3,
                "cross": EXAMPLE_CROSS,
            }
        },
    },
    "solve-nystrom": {
        "summary": "The same with 500 inducing points",
        "value": {
            "task": {
                "type": "solve",
                "matrix": EXAMPLE_MATRIX,
                "method": "nystrom",
                "inducing": 500,
                "cross": EXAMPLE_CROSS,
            }
        },
    },
}
