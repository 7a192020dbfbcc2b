"""Compiled kernels of pixel pairs: library calls, and the blocks that tile tasks compute."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.kernels.errors import InvalidInputsError, KernelRangeError
from workers.kernels.outputs import OUTPUTS
from workers.kernels.pixels import strips
from workers.kernels.pixels.plan import PixelPlan, check_pixel_kernel, pixel_plan
from workers.kernels.spatial.core import normalized_images
from workers.kernels.spatial.structure import normalization

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.kernels.spatial.cost import DType
    from workers.kernels.spec import KernelSpec


def _never_stop() -> None:
    return None


class PixelKernel:
    """NNGP and NTK of all pixel pairs of two images (P, Q, C), of a network without readout.

    The tensors are those of one output channel: Theta(Z, Z)[ij, i'j'] of the survey's section
    6.1.3 (Radhakrishnan et al. 2022, arXiv:2108.00131). Instances pickle as their spec.
    """

    def __init__(self, spec: KernelSpec) -> None:
        self.spec = spec
        self._programs: dict[tuple[Any, ...], Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        return PixelKernel, (self.spec,)

    def __call__(
        self,
        x1: NDArray[Any],
        x2: NDArray[Any] | None = None,
        *,
        outputs: tuple[str, ...] = OUTPUTS,
    ) -> dict[str, NDArray[Any]]:
        """Tensors (P', Q', P', Q') of images `x1` and `x2` (P, Q, C), or sequences (T, C), in the
        dtype of x1, float32 or float64. `x2=None` means x1: exactly symmetric then.

        Raises InvalidInputsError, InvalidKernelError (a readout; no NTK), KernelRangeError.
        """
        check_pixel_kernel(self.spec, outputs)
        left = _checked_image(x1, "x1")
        right = left if x2 is None else _checked_image(x2, "x2")
        if left.dtype != right.dtype or left.shape != right.shape:
            raise InvalidInputsError(
                f"x1 is {left.dtype} of shape {left.shape}, x2 {right.dtype} of {right.shape}.",
                advice="Give both images one dtype and one shape.",
            )
        plan = pixel_plan(self.spec, left.shape, _dtype_name(left))
        first = self.prepare(plan, left)
        second = first if x2 is None else self.prepare(plan, right)
        whole = {name: np.empty((plan.pixels, plan.pixels), plan.dtype) for name in outputs}
        step = plan.block_rows
        for r in range(plan.strips):
            for c in range(r if x2 is None else 0, plan.strips):
                values = self.block(
                    plan, first, second, (r, c), symmetric=x2 is None, outputs=outputs
                )
                for name, block in values.items():
                    rows, cols = slice(r * step, (r + 1) * step), slice(c * step, (c + 1) * step)
                    whole[name][rows, cols] = block
                    if x2 is None and r != c:
                        whole[name][cols, rows] = block.T
        return {name: values.reshape(*plan.out, *plan.out) for name, values in whole.items()}

    def prepare(self, plan: PixelPlan, image: NDArray[Any]) -> Any:
        """`image` (P, Q, C) or (T, C) as `block` takes it; once per image."""
        pixels = image.reshape(1, *plan.grid, plan.channels)
        if plan.network is None:
            return self._program(plan).prepare(pixels)
        scaled = normalized_images(pixels, normalization(self.spec.layers))
        return strips.prepare_image(plan, scaled[0])

    def block(
        self,
        plan: PixelPlan,
        left: Any,
        right: Any,
        strip: tuple[int, int],
        *,
        symmetric: bool,
        outputs: tuple[str, ...] = OUTPUTS,
        check_stop: Callable[[], None] = _never_stop,
    ) -> dict[str, NDArray[Any]]:
        """Block (r, c) of two prepared images, as matrices of pixels by pixels.

        `symmetric`: both images are one; a block on the diagonal is then exactly symmetric.
        Raises KernelRangeError if a value does not fit the dtype.
        """
        diagonal = symmetric and strip[0] == strip[1]
        if plan.network is None:
            program = self._program(plan)
            found: dict[str, NDArray[Any]] = program.tensor(left, right, symmetric, outputs)
        else:
            found = strips.block(
                plan, left, right, strip, diagonal=diagonal, outputs=outputs, check_stop=check_stop
            )
        for values in found.values():
            if not np.isfinite(values).all():
                raise KernelRangeError(
                    f"Entries of this kernel do not fit {plan.dtype}.",
                    advice="Use smaller w_std or b_std, fewer layers, normalised inputs, or"
                    " float64.",
                )
        return found

    def _program(self, plan: PixelPlan) -> Any:
        from workers.kernels.pixels.tensor import TensorProgram

        key = plan.sample_shape, plan.dtype
        if key not in self._programs:
            self._programs[key] = TensorProgram(self.spec, plan)
        return self._programs[key]


def _dtype_name(x: NDArray[Any]) -> DType:
    return "float64" if x.dtype == np.float64 else "float32"


def _checked_image(x: NDArray[Any], name: str) -> NDArray[Any]:
    x = np.asarray(x)
    if x.dtype not in (np.float32, np.float64):
        raise InvalidInputsError(
            f"{name} holds {x.dtype}; kernels take float32 or float64.",
            advice=f"Convert it: {name}.astype('float32').",
        )
    if x.ndim not in (2, 3) or 0 in x.shape:
        raise InvalidInputsError(
            f"{name} has shape {x.shape}; this kernel takes one image (P, Q, C) or one sequence"
            " (T, C).",
            advice="Pick one of the images, and give grey images a last axis of length 1.",
        )
    if not np.isfinite(x).all():
        raise InvalidInputsError(f"{name} has NaN or infinite entries.", advice="Replace them.")
    return x
