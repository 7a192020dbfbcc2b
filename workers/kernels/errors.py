"""Errors of the kernel language and of kernel evaluation."""

from __future__ import annotations

from storage.errors import GramianError


class InvalidKernelError(GramianError):
    """A kernel spec that the language does not accept. `details["problems"]` lists each one."""

    kind = "invalid-kernel"


class InvalidInputsError(GramianError):
    """Inputs that a kernel cannot be evaluated on: shape, dtype, or non-finite entries."""

    kind = "invalid-inputs"


class KernelRangeError(GramianError):
    """The kernel's values exceed the range of the output dtype: never returned as Inf."""

    kind = "kernel-out-of-range"


class NoFixedPointError(GramianError):
    """An equilibrium network whose state, or whose NTK, does not converge on these inputs.

    `details`: how far the iteration came (see `FixedPointReport`).
    """

    kind = "no-fixed-point"
