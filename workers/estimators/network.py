"""The kernel that an estimator's parameters describe, compiled once per process."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from workers.kernels import KernelSpec, compile_kernel, parse_kernel
from workers.kernels.errors import InvalidInputsError

if TYPE_CHECKING:
    from workers.kernels.compile import CompiledKernel
    from workers.kernels.spatial.compile import SpatialKernel

# Grid searches go back and forth between a few networks; each holds its compiled programs.
_KEPT_KERNELS = 16


class Described(Protocol):
    """An estimator with the parameters of a network."""

    kernel: str | Mapping[str, Any]
    depth: int | None
    activation: Any
    w_std: float | None
    b_std: float | None
    normalize: str | None


def network(estimator: Described) -> KernelSpec:
    """The network of a preset's name or a network as data, with the parameters that are not None.

    Raises InvalidKernelError, also for parameters that the preset does not have.
    """
    kernel = estimator.kernel
    described = {"preset": kernel} if isinstance(kernel, str) else dict(kernel)
    for name in ("depth", "activation", "w_std", "b_std", "normalize"):
        value = getattr(estimator, name)
        if value is not None:
            described[name] = value
    return parse_kernel(described)


def gram(
    spec: KernelSpec, output: str, x1: NDArray[Any], x2: NDArray[Any] | None = None
) -> NDArray[Any]:
    """K (n1, n2) of one output in the dtype of `x1`; exactly symmetric for `x2` None."""
    compiled = _compiled(json.dumps(spec.canonical()))
    values: NDArray[Any] = compiled(x1, x2, outputs=(output,))[output]
    return values


def shaped(x: NDArray[Any], sample_shape: Sequence[int] | None) -> NDArray[Any]:
    """Rows (n, d) as samples (n, *sample_shape). Raises InvalidInputsError if d does not fit."""
    if sample_shape is None:
        return x
    if int(np.prod(sample_shape)) != x.shape[1]:
        raise InvalidInputsError(
            f"Rows of {x.shape[1]} numbers are no samples of shape {tuple(sample_shape)}.",
            advice="Set sample_shape to the shape of one image, such as (28, 28, 1).",
        )
    return x.reshape(len(x), *sample_shape)


@lru_cache(maxsize=_KEPT_KERNELS)
def _compiled(spec: str) -> CompiledKernel | SpatialKernel:
    return compile_kernel(json.loads(spec))
