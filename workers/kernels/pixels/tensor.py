"""The pixel-pair tensor of any network without readout, layer by layer in memory (JAX)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from workers.kernels.outputs import OUTPUTS
from workers.kernels.spatial.programs import Program, single_precision

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.kernels.pixels.plan import PixelPlan
    from workers.kernels.spec import KernelSpec


class TensorProgram:
    """The compiled functions of one network for images of one shape."""

    def __init__(self, spec: KernelSpec, plan: PixelPlan) -> None:
        self._plan = plan
        single = single_precision(spec, np.dtype(plan.dtype))
        self._program = Program(spec, plan.sample_shape, single=single)
        self._tensor = jax.jit(self._program.tensor, static_argnames=("wanted",))

    def prepare(self, images: NDArray[Any]) -> Any:
        """Images (1, P, Q, C)."""
        with jax.enable_x64(True):
            samples = self._program.prepare(images)
            return jax.tree.map(lambda values: values[0], samples)  # one image

    def tensor(
        self, left: Any, right: Any, same: bool, outputs: tuple[str, ...]
    ) -> dict[str, NDArray[Any]]:
        """All pairs of pixels as matrices; exactly symmetric if both are the `same` image."""
        plan, found = self._plan, {}
        with jax.enable_x64(True):
            flag = jax.numpy.asarray(same)
            state = self._tensor(left, right, flag, wanted="ntk" in outputs)
        for name in outputs:
            values = (state.k, state.t)[OUTPUTS.index(name)]
            with np.errstate(over="ignore"):  # the caller looks for infinities
                whole = np.asarray(values).astype(plan.dtype).reshape(plan.pixels, plan.pixels)
            if same:
                upper = np.arange(plan.pixels)[:, None] <= np.arange(plan.pixels)
                whole = np.where(upper, whole, whole.T)
            found[name] = whole
        return found
