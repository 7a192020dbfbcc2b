"""How loops are compiled: numba without the GIL, cached on disk where that is possible.

Compiled code is kept beside the module, or under the user's cache folder when the installation is
read-only, or under NUMBA_CACHE_DIR (cache.py). Where none of them can be written, each process
compiles for itself: seconds, not an error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
from numba.core import types
from numba.extending import intrinsic

from workers.compiled.cache import SourceCache

Function = TypeVar("Function", bound=Callable[..., Any])

# Sums may be reassociated and fused, but NaN and infinities keep their meaning.
FAST_MATH = {"reassoc", "contract", "nsz", "arcp"}


def lean(function: Function) -> Function:
    """Compile `function` on first call for each combination of argument types, without reference
    counts, which cost an atomic operation per array of every call.

    The caller keeps the arrays alive; `function` makes none, nor a view of one.
    """
    options = {"nogil": True, "fastmath": FAST_MATH, "error_model": "numpy", "_nrt": False}
    return _compiled(function, options)


def inline(function: Function) -> Function:
    """Put `function` into its callers: for loops so short that passing arrays would count."""
    options: dict[str, Any] = {"fastmath": FAST_MATH, "error_model": "numpy"}
    inlined: Function = numba.njit(inline="always", **options)(function)
    return inlined


def exact_jit(function: Function) -> Function:
    """Compile `function` with every operation rounded as written."""
    return _compiled(function, {"nogil": True, "error_model": "numpy"})


def exact_inline(function: Function) -> Function:
    """`inline` with every operation rounded as written."""
    options: dict[str, Any] = {"error_model": "numpy"}
    inlined: Function = numba.njit(inline="always", **options)(function)
    return inlined


def _compiled(function: Function, options: dict[str, Any]) -> Function:
    dispatcher: Any = numba.njit(**options)(function)
    # As `cache=True` does. Without a folder that can be written, the default stays: no cache.
    with contextlib.suppress(RuntimeError):
        dispatcher._cache = SourceCache(function)  # type: ignore[no-untyped-call]
    compiled: Function = dispatcher
    return compiled


def _wide(typing_context: Any) -> Any:
    """Ask for 512-bit vectors in the calling function.

    LLVM counts lanes by the widest type of a loop, so with 256 bits a loop over float64 and
    float32 would fill only half a register with its float32 part. No effect without AVX-512.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        # llvmlite lets only attributes without a value through its own `add`.
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')
        return context.get_dummy_value()

    return types.void(), generate


def _disjoint(typing_context: Any) -> Any:
    """Promise that what the calling function writes is in no other array that it is given.

    Otherwise every loop first compares the ends of all its arrays, which takes longer than a loop
    over a short plane.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        for argument in builder.function.args:
            if argument.type.is_pointer:
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), generate


wide = cast("Callable[[], None]", intrinsic(_wide))
disjoint = cast("Callable[[], None]", intrinsic(_disjoint))
