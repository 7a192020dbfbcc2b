"""Compiled convolutional kernels: the interface of workers/kernels/compile.py for images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from workers.kernels.errors import InvalidInputsError
from workers.kernels.outputs import OUTPUTS, check_outputs
from workers.kernels.planes import EquilibriumNetwork, gram_block, prepare
from workers.kernels.planes.paths import asked_path, usable_core
from workers.kernels.ranges import range_error
from workers.kernels.spatial.core import core_precision, normalized_images
from workers.kernels.spatial.geometry import sample_grid
from workers.kernels.spatial.programs import Program, single_precision
from workers.kernels.spatial.structure import normalization

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from workers.kernels.planes import Network
    from workers.kernels.planes.paths import Core
    from workers.kernels.spec import KernelSpec

DEFAULT_BLOCK_ROWS = 64
"""Samples of one side of a block in library calls: what is prepared at a time."""


def _never_stop() -> None:
    return None


class SpatialPanel(NamedTuple):
    """Samples of one side of a block, prepared; `rows` of them, the others are padding."""

    samples: Any  # inputs.Samples, or what planes.prepare returns where one of its cores runs
    rows: int
    dtype: str
    shape: tuple[int, ...]  # of one sample, as it was given


class SpatialKernel:
    """NNGP and NTK of one network on images (n, P, Q, C) or sequences (n, T, C).

    Instances hold jitted functions, which are compiled on first use for each shape of samples;
    they pickle as their spec and may be shared between threads.
    """

    def __init__(self, spec: KernelSpec) -> None:
        self.spec = spec
        self._programs: dict[tuple[tuple[int, ...], str], Program] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return SpatialKernel, (self.spec,)

    def __call__(
        self,
        x1: NDArray[Any],
        x2: NDArray[Any] | None = None,
        *,
        outputs: tuple[str, ...] = OUTPUTS,
        block_rows: int = DEFAULT_BLOCK_ROWS,
    ) -> dict[str, NDArray[Any]]:
        """Kernel matrices between the samples of `x1` (n1, P, Q, C) and `x2` (n2, P, Q, C), or
        of sequences (n, T, C). `x2=None` means x1: the results are then exactly symmetric.
        Returns {"nngp": (n1, n2), "ntk": (n1, n2)} in the dtype of x1, float32 or float64.

        Raises InvalidInputsError (shape, dtype, non-finite entries; pools and filters that do not
        fit the samples), InvalidKernelError (an output that this network does not have) and
        KernelRangeError.
        """
        check_outputs(self.spec, outputs)
        left = _checked_samples(x1, "x1")
        right = left if x2 is None else _checked_samples(x2, "x2")
        if left.dtype != right.dtype or left.shape[1:] != right.shape[1:]:
            raise InvalidInputsError(
                f"x1 holds {left.dtype} samples of shape {left.shape[1:]}, "
                f"x2 {right.dtype} samples of shape {right.shape[1:]}.",
                advice="Give both sides the same dtype and samples of one shape.",
            )
        block_rows = min(block_rows, max(len(left), len(right)))
        panels1 = self._panels(left, block_rows)
        panels2 = panels1 if x2 is None else self._panels(right, block_rows)
        result = {name: np.empty((len(left), len(right)), left.dtype) for name in outputs}
        for i, panel1 in enumerate(panels1):
            for j, panel2 in enumerate(panels2):
                if x2 is None and j < i:
                    continue
                values = self.block(
                    panel1,
                    panel2,
                    symmetric=x2 is None and i == j,
                    outputs=outputs,
                    block_rows=block_rows,
                )
                rows = slice(i * block_rows, i * block_rows + panel1.rows)
                columns = slice(j * block_rows, j * block_rows + panel2.rows)
                for name, value in values.items():
                    result[name][rows, columns] = value
                    if x2 is None and i != j:
                        result[name][columns, rows] = value.T
        return result

    def panel(self, x: NDArray[Any], *, block_rows: int = DEFAULT_BLOCK_ROWS) -> SpatialPanel:
        """The samples `x` (n <= block_rows, P, Q, C), padded and prepared for `block`."""
        grid, channels = sample_grid(self.spec.layers, x.shape[1:])
        program = self._program(x.shape[1:], x.dtype.name)
        if program.parts.core is not None:
            images = normalized_images(
                x.reshape(len(x), *grid, channels), normalization(self.spec.layers)
            )
            core = _core(program.parts.core, x.dtype.name)
            prepared = prepare(program.parts.core, images, core_precision(x.dtype.name), core=core)
            return SpatialPanel(prepared, len(x), x.dtype.name, x.shape[1:])
        rows = -(-block_rows // program.group) * program.group
        padded = np.zeros((rows, *grid, channels), x.dtype)
        padded[: len(x)] = x.reshape(len(x), *grid, channels)
        with jax.enable_x64(True):
            samples = program.prepare(padded)
        return SpatialPanel(samples, len(x), x.dtype.name, x.shape[1:])

    def block(
        self,
        x1: SpatialPanel,
        x2: SpatialPanel,
        *,
        symmetric: bool,
        outputs: tuple[str, ...] = OUTPUTS,
        block_rows: int = DEFAULT_BLOCK_ROWS,
        check_stop: Callable[[], None] = _never_stop,
    ) -> dict[str, NDArray[Any]]:
        """One compute block (n1, n2) of two panels, row by row. `symmetric`: both are the same
        panel; only pairs on and above the diagonal are computed. `check_stop` is called between
        rows where a block may take many seconds, and may raise to end it.

        Raises InvalidKernelError for an output that this network does not have, and
        KernelRangeError if a value does not fit the dtype.
        """
        check_outputs(self.spec, outputs)
        dtype = np.dtype(x1.dtype)
        program = self._program(x1.shape, x1.dtype)
        if program.parts.core is not None:
            both = gram_block(
                program.parts.core, x1.samples, x2.samples, symmetric, core_precision(x1.dtype)
            )
            for name in outputs:
                _check_range(self.spec, both[name], dtype)
            return {name: both[name].astype(dtype) for name in outputs}
        result = {name: np.empty((x1.rows, x2.rows), dtype) for name in outputs}
        with jax.enable_x64(True):
            for i in range(x1.rows):
                check_stop()
                start = i if symmetric else 0
                row = program.row(
                    x1.samples, i, x2.samples, start, x2.rows, symmetric, wanted="ntk" in outputs
                )
                for name in outputs:
                    values = np.asarray(row[OUTPUTS.index(name)])[start : x2.rows]
                    _check_range(self.spec, values, dtype)
                    result[name][i, start:] = values
                    if symmetric:
                        result[name][start:, i] = result[name][i, start:]
        return result

    def _program(self, sample_shape: tuple[int, ...], dtype: str) -> Program:
        key = sample_shape, dtype
        if key not in self._programs:
            single = single_precision(self.spec, np.dtype(dtype))
            self._programs[key] = Program(self.spec, sample_shape, single=single)
        return self._programs[key]

    def _panels(self, x: NDArray[Any], block_rows: int) -> list[SpatialPanel]:
        return [
            self.panel(x[start : start + block_rows], block_rows=block_rows)
            for start in range(0, len(x), block_rows)
        ]


def _core(network: Network | EquilibriumNetwork, dtype: str) -> Core | None:
    """Which core computes results of `dtype` in this process."""
    if isinstance(network, EquilibriumNetwork):
        return None
    asked = asked_path(os.environ)
    return usable_core(network, core_precision(dtype), jax.default_backend(), asked)


def _check_range(spec: KernelSpec, values: NDArray[np.float64], dtype: np.dtype[Any]) -> None:
    largest = float(np.max(np.abs(values)))
    if not largest <= np.finfo(dtype).max:
        raise range_error(spec.activations, largest, dtype, "samples")


def _checked_samples(x: NDArray[Any], name: str) -> NDArray[Any]:
    """`x` as an array of finite float32 or float64 with at least one sample and one pixel."""
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise InvalidInputsError(
            f"{name} holds {x.dtype}; kernels take float32 or float64.",
            advice=f"Convert it: {name}.astype('float32').",
        )
    if x.ndim < 3 or 0 in x.shape:
        raise InvalidInputsError(
            f"{name} has shape {x.shape}; this network takes images (n, P, Q, C) or sequences "
            "(n, T, C).",
            advice="Reshape it; grey images need a last axis of length 1.",
        )
    if not np.isfinite(x).all():
        raise InvalidInputsError(
            f"{name} has NaN or infinite entries.", advice="Remove or replace those samples."
        )
    return x
