"""Vectors of float64 in compiled loops, for what LLVM's own vectoriser does not see.

It vectorises innermost loops only. A polynomial of a few terms per pair is an inner loop of its
own, and keeping its sums in registers needs the pairs to be the vector: `load` LANES of them, use
`+ - *`, `fma`, `sqrt`, `least`, `largest` and `where_less`, and `store` them. LLVM divides the
vectors where registers are shorter. What is computed does not depend on that: every operation is
rounded as written, and `fma` once.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, cast

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, register_model

LANES = 32
"""Numbers of a vector: four registers of AVX-512, so that what is done once per vector, loops over
terms and addresses among it, counts for little. Of 8, 16 and 32 it took the least time for rows of
unlike lengths there (erf 8.5, 8.5, 7.6 ns per pair of three layers; GELU 6.3, 6.0, 4.7), and with
AVX2 code on the same core up to a fifth more than 8 (EPYC, busy, 2026-11-27)."""

_FLOATS = ir.VectorType(ir.DoubleType(), LANES)
_ALIGNED_BYTES = 8  # what NumPy arrays of float64 are at least
_Generate = Callable[[Any, Any, Any, Any], Any]


class Vector(types.Type):
    """numba's type of LANES float64."""

    def __init__(self) -> None:
        super().__init__(name=f"float64x{LANES}")


_vector = Vector()


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, numba_type: Any) -> None:
        super().__init__(manager, numba_type, _FLOATS)  # type: ignore[no-untyped-call]


def _call(name: str, operands: int) -> _Generate:
    """LLVM's function of that name for vectors."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        kind = ir.FunctionType(_FLOATS, [_FLOATS] * operands)
        function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{LANES}f64")
        return builder.call(function, arguments)

    return generate


def _place(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Address of array[index : index + LANES]."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _FLOATS.as_pointer())


def _is_row(array: Any) -> bool:
    return isinstance(array, types.Array) and (array.ndim, array.layout) == (1, "C")


def _load(typing_context: Any, array: Any, index: Any) -> Any:
    """array[index : index + LANES] of a contiguous (n,) float64 array; not checked for its end."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], *arguments)
        return builder.load(place, align=_ALIGNED_BYTES)

    return (_vector(array, types.uint64), generate) if _is_row(array) else None


def _store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write `value` to array[index : index + LANES]."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _place(context, builder, signature.args[0], *arguments[:2])
        builder.store(arguments[2], place, align=_ALIGNED_BYTES)
        return context.get_dummy_value()

    return (types.void(array, types.uint64, _vector), generate) if _is_row(array) else None


def _splat(typing_context: Any, number: Any) -> Any:
    """The same number LANES times."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        lane = ir.IntType(32)
        undefined = ir.Constant(_FLOATS, ir.Undefined)
        first = builder.insert_element(undefined, arguments[0], ir.Constant(lane, 0))
        zeros = ir.Constant(ir.VectorType(lane, LANES), [0] * LANES)
        return builder.shuffle_vector(first, undefined, zeros)

    return _vector(types.float64), generate


def _fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once."""
    return _vector(_vector, _vector, _vector), _call("fma", 3)


def _sqrt(typing_context: Any, a: Any) -> Any:
    return _vector(_vector), _call("sqrt", 1)


def _select(comparison: str, chosen: tuple[int, int]) -> _Generate:
    """Of the arguments, lane by lane, one or the other, by how the first two compare."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        condition = builder.fcmp_ordered(comparison, arguments[0], arguments[1])
        return builder.select(condition, *(arguments[at] for at in chosen))

    return generate


def _least(typing_context: Any, a: Any, b: Any) -> Any:
    """The smaller one, lane by lane; of NaN and b: b."""
    return _vector(_vector, _vector), _select("<", (0, 1))


def _largest(typing_context: Any, a: Any, b: Any) -> Any:
    """The larger one, lane by lane; of NaN and b: b."""
    return _vector(_vector, _vector), _select(">", (0, 1))


def _where_less(typing_context: Any, a: Any, b: Any, then: Any, other: Any) -> Any:
    """`then` where a < b, `other` elsewhere, lane by lane."""
    return _vector(_vector, _vector, _vector, _vector), _select("<", (2, 3))


load = cast("Callable[[Any, Any], Any]", intrinsic(_load))
store = cast("Callable[[Any, Any, Any], None]", intrinsic(_store))
splat = cast("Callable[[float], Any]", intrinsic(_splat))
fma = cast("Callable[[Any, Any, Any], Any]", intrinsic(_fma))
sqrt = cast("Callable[[Any], Any]", intrinsic(_sqrt))
least = cast("Callable[[Any, Any], Any]", intrinsic(_least))
largest = cast("Callable[[Any, Any], Any]", intrinsic(_largest))
where_less = cast("Callable[[Any, Any, Any, Any], Any]", intrinsic(_where_less))


def _operator(symbol: Callable[[Any, Any], Any], instruction: str) -> None:
    """Teach numba `symbol` for two vectors."""

    class Typed(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            return signature(_vector, *args) if args == (_vector, _vector) else None

    def lowered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)

    infer_global(symbol)(Typed)
    lower_builtin(symbol, Vector, Vector)(lowered)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
