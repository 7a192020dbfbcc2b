"""Neural kernels: a language for network architectures and exact NNGP/NTK functions of it.

    from workers.kernels import compile_kernel
    kernel = compile_kernel({"preset": "fc", "depth": 3})
    out = kernel(x1, x2)          # out["nngp"], out["ntk"]: (n1, n2)

Reading specs does not import JAX; `compile_kernel` does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workers.kernels.errors import InvalidInputsError, InvalidKernelError, KernelRangeError
from workers.kernels.spec import KernelSpec, parse_kernel

if TYPE_CHECKING:
    from workers.kernels.compile import CompiledKernel
    from workers.kernels.spatial.compile import SpatialKernel


def compile_kernel(spec: str | dict[str, Any] | KernelSpec) -> CompiledKernel | SpatialKernel:
    """The kernel that `spec` (a preset's name, a JSON object or a KernelSpec) describes.

    Raises InvalidKernelError if the spec is not valid. Compilation proper happens on first use.
    """
    parsed = parse_kernel(spec)
    if parsed.spatial:
        from workers.kernels.spatial.compile import SpatialKernel

        return SpatialKernel(parsed)
    from workers.kernels.compile import CompiledKernel

    return CompiledKernel(parsed)


__all__ = [
    "InvalidInputsError",
    "InvalidKernelError",
    "KernelRangeError",
    "KernelSpec",
    "compile_kernel",
    "parse_kernel",
]
