"""`jax.jit` with 512-bit vectors on CPUs that have them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax

WIDE = {"xla_cpu_prefer_vector_width": 512}
"""XLA asks for 256 bits. It counts lanes by the widest type of a loop, so the float32 part of a
loop over both dtypes would then fill half a register. No effect without AVX-512, nor on GPUs."""


def wide_jit(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    """`jax.jit(function, **options)`, not to be called while another function is traced."""
    return jax.jit(function, compiler_options=_known(), **options)


@functools.cache
def _known() -> dict[str, int] | None:
    """WIDE; None where this version of XLA has no such option: that costs time and nothing else."""
    try:
        jax.jit(lambda x: x, compiler_options=WIDE).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:
        return None
    return WIDE
