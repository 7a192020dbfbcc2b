"""Schemas of the analyses that need no stored Gram matrix: mean field and kernels of the angle."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from service.jobs.context import JobContext
from service.jobs.tasks.inputs import dataset
from service.schemas.common import DatasetId
from service.schemas.tasks import Asked
from storage.datasets import read_rows
from workers.analyses.checks import check_circle
from workers.analyses.errors import InvalidAnalysisError
from workers.kernels.spec import parse_kernel
from workers.mean_field.deep import MAX_ROWS, check_architecture, check_depths, check_rows
from workers.mean_field.moments import check_range, parse_activation

# Summaries hold this many numbers (workers.analyses.stored); spectra have two per degree.
_MAX_DEGREE = 2000
_MAX_DEPTH = 10_000_000
_MAX_DEPTHS = 200
_MAX_POINTS = 2000

# Measured in seconds on one core and expressed in flops of the estimates (results.py): a few
# seconds to compile and search, microseconds per layer and nanoseconds per pair.
_COMPILATION = 1e11
_LAYER = 1e5
_LAYER_PAIR = 2e3

Architecture = Annotated[
    Literal["dense", "residual"],
    Field(description="residual: y + (w_std/sqrt n) W phi(y), homogeneous activations, no bias."),
]
Deviation = Annotated[float, Field(gt=0, le=1e6, description="Weight deviation of all layers.")]
Bias = Annotated[float, Field(ge=0, le=1e6, description="Bias deviation of all layers.")]
Variance = Annotated[float, Field(gt=0, le=1e30)]
StartVariance = Annotated[
    float, Field(gt=0, le=1e12, description="w_std^2 |x|^2/d + b_std^2 of a typical input.")
]
Output = Literal["ntk", "nngp"]


class OnActivation(Asked):
    """A question about networks of one activation."""

    activation: str | dict[str, Any] = Field(description="A name, or an object with parameters.")
    lowest_variance: Variance = Field(
        default=1e-8, description="Where fixed points of the variance are looked for: from here"
    )
    highest_variance: Variance = Field(default=1e4, description="to here.")


class OnPhase(OnActivation):
    """A question about networks in one phase."""

    chi_tolerance: float = Field(
        default=1e-8, gt=0, lt=1, description="abs(chi - 1) up to this is the edge of chaos."
    )


class OnSamples(Asked):
    """A question about a few samples of a data set."""

    samples: DatasetId = Field(description="Data set of the inputs.")
    rows: int = Field(default=8, ge=2, le=MAX_ROWS, description="How many of its first samples.")


class OnKernel(Asked):
    """A question about a kernel of the language on inputs of norm 1."""

    kernel: str | dict[str, Any] = Field(description="As in a gram task.")
    output: Output = Field(default="ntk", description="Which of its two kernels.")


class EdgeOfChaos(OnActivation):
    """Every critical `w_std` for a `b_std`, with its variance and stability."""

    name: Literal["edge_of_chaos"]
    b_std: Bias


class Phase(OnPhase):
    """Ordered, chaotic, edge of chaos or unbounded; all fixed points of the variance."""

    name: Literal["phase"]
    w_std: Deviation
    b_std: Bias
    start_variance: StartVariance = 1.0


class DepthLimit(OnPhase):
    """Limits of NNGP and NTK with depth, their normaliser, and the rates of theory."""

    name: Literal["depth_limit"]
    w_std: Deviation
    b_std: Bias = 0.0
    start_variance: StartVariance = 1.0
    architecture: Architecture = "dense"


class DepthConvergence(OnSamples, OnPhase):
    """Distances of the kernels on real samples to their limit against depth: a table, the rates
    it shows and those of theory, and a Vega-Lite picture."""

    name: Literal["depth_convergence"]
    depths: tuple[Annotated[int, Field(ge=1, le=_MAX_DEPTH)], ...] = Field(
        strict=False, min_length=1, max_length=_MAX_DEPTHS, description="Affine layers, rising."
    )
    w_std: Deviation
    b_std: Bias = 0.0
    architecture: Architecture = "dense"


class MercerSpectrum(OnKernel):
    """Eigenvalues of the kernel on a sphere, by degree, with their multiplicities."""

    name: Literal["mercer_spectrum"]
    dimension: int = Field(ge=2, le=1_000_000, description="Of the inputs; 2: the circle.")
    k_max: int = Field(ge=0, le=_MAX_DEGREE, description="Largest degree.")


class Smoothness(OnKernel):
    """mu(f) of the kernel's interpolant of a few values on the unit circle."""

    name: Literal["smoothness"]
    angles: tuple[float, ...] = Field(
        strict=False, min_length=1, max_length=_MAX_POINTS, description="Radians."
    )
    values: tuple[float, ...] = Field(strict=False, min_length=1, max_length=_MAX_POINTS)
    length_scale: float = Field(default=0.5, gt=0, le=100, description="Of the Gaussian kernel.")
    k_max: int = Field(default=10, ge=0, le=_MAX_DEGREE, description="Largest frequency counted.")


def check_theory(asked: Any) -> None:
    """Raise InvalidKernelError or InvalidAnalysisError for what the schemas cannot say."""
    if isinstance(asked, OnActivation):
        parse_activation(asked.activation)
        check_range(asked.lowest_variance, asked.highest_variance)
    if isinstance(asked, OnKernel):
        parse_kernel(asked.kernel)
    if isinstance(asked, DepthLimit | DepthConvergence):
        check_architecture(asked.architecture, asked.b_std)
    if isinstance(asked, DepthConvergence):
        check_depths([*asked.depths])
    if isinstance(asked, Smoothness):
        check_circle(asked.angles, asked.values)


def few_samples(context: JobContext, asked: OnSamples) -> NDArray[np.float64]:
    """The first samples, (rows, d) float64. Raises NotFoundError, and InvalidAnalysisError where
    there are not as many or they have no distances (zero or equal rows)."""
    info = dataset(context.catalog, asked.samples)
    if asked.rows > info.samples:
        raise InvalidAnalysisError(
            f"The data set {info.id} has {info.samples} samples, not {asked.rows}.",
            advice="Ask for fewer rows.",
        )
    rows = read_rows(context.blobs, info, 0, asked.rows)
    return check_rows(rows.reshape(asked.rows, -1).astype(np.float64))


def theory_flops(asked: Any) -> float:
    """Arithmetic of an analysis without Gram matrices; most of it is one compilation."""
    if isinstance(asked, DepthConvergence):
        return _COMPILATION + max(asked.depths) * (_LAYER + _LAYER_PAIR * asked.rows**2)
    return _COMPILATION
