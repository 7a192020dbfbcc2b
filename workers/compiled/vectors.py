"""Vectors of floating-point numbers in compiled loops, for what LLVM's own vectoriser does not see.

It vectorises innermost loops only, along memory. Where a loop's numbers should stay in registers
from one step to the next, or one step is a long chain of operations, say what the vectors are:
`load` some, use `+ - *` and the functions below, and `store` them. LLVM divides vectors that are
longer than its registers. What is computed does not depend on that: every operation is rounded as
written, and `fma` once, unless the caller is compiled with other rules (jit.py).

How many numbers a vector has is fixed by what makes it: `loads(16)` is a function that loads 16 at
a time. All vectors of one operation are of one type. Arrays are contiguous, of one dimension, and
indices are never counted from the end: nothing here checks that they are inside.
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

_INT32 = ir.IntType(32)
_LLVM = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
_Generate = Callable[[Any, Any, Any, Any], Any]


class Vector(types.Type):
    """numba's type of `lanes` numbers of a dtype, float32 or float64."""

    def __init__(self, dtype: Any, lanes: int) -> None:
        self.dtype, self.lanes = dtype, lanes
        super().__init__(name=f"{dtype}x{lanes}")

    @property
    def llvm(self) -> Any:
        """LLVM's name of the type."""
        return ir.VectorType(_LLVM[self.dtype], self.lanes)

    @property
    def suffix(self) -> str:
        """LLVM's name of the type in the names of its functions."""
        return f"v{self.lanes}f{self.dtype.bitwidth}"


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, vector: Vector) -> None:
        super().__init__(manager, vector, vector.llvm)  # type: ignore[no-untyped-call]


def _is_row(array: Any) -> bool:
    return (
        isinstance(array, types.Array)
        and (array.ndim, array.layout) == (1, "C")
        and array.dtype in _LLVM
    )


def _alike(*vectors: Any) -> bool:
    return isinstance(vectors[0], Vector) and all(v == vectors[0] for v in vectors)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _filled(builder: Any, vector: Vector, number: Any) -> Any:
    undefined = ir.Constant(vector.llvm, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(first, undefined, _places([0] * vector.lanes))


def _places(lanes: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes)


def loads(lanes: int) -> Callable[[Any, Any], Any]:
    """load(array, index): array[index : index + lanes]."""

    def load(builder: Any, vector: Vector, place: Any) -> Any:
        place = builder.bitcast(place, vector.llvm.as_pointer())
        return builder.load(place, align=vector.dtype.bitwidth // 8)

    return _reading(lanes, load)


def spreads(lanes: int) -> Callable[[Any, Any], Any]:
    """spread(array, index): array[index] in all lanes."""

    def spread(builder: Any, vector: Vector, place: Any) -> Any:
        return _filled(builder, vector, builder.load(place))

    return _reading(lanes, spread)


def _reading(lanes: int, read: Callable[[Any, Vector, Any], Any]) -> Callable[[Any, Any], Any]:
    """A function of a row and an index to the vector that `read` makes at that address."""

    def typed(typing_context: Any, array: Any, index: Any) -> Any:
        if not (_is_row(array) and isinstance(index, types.Integer)):
            return None
        vector = Vector(array.dtype, lanes)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return read(builder, vector, _address(context, builder, signature.args[0], *arguments))

        return vector(array, index), generate

    return cast("Callable[[Any, Any], Any]", intrinsic(typed))


def splats(lanes: int) -> Callable[[Any], Any]:
    """splat(number): the number in all lanes."""

    def splat(typing_context: Any, number: Any) -> Any:
        if number not in _LLVM:
            return None
        vector = Vector(number, lanes)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return _filled(builder, vector, arguments[0])

        return vector(number), generate

    return cast("Callable[[Any], Any]", intrinsic(splat))


def _store(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """Write `value` to array[index : index + its lanes]."""
    fits = _is_row(array) and isinstance(value, Vector) and array.dtype == value.dtype
    if not (fits and isinstance(index, types.Integer)):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _address(context, builder, signature.args[0], *arguments[:2])
        place = builder.bitcast(place, value.llvm.as_pointer())
        builder.store(arguments[2], place, align=array.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(array, index, value), generate


def _convert(typing_context: Any, value: Any, array: Any) -> Any:
    """`value` in the dtype of `array`."""
    if not (isinstance(value, Vector) and _is_row(array)):
        return None
    target = Vector(array.dtype, value.lanes)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if target == value:
            return arguments[0]
        wider = target.dtype.bitwidth > value.dtype.bitwidth
        return (builder.fpext if wider else builder.fptrunc)(arguments[0], target.llvm)

    return target(value, array), generate


def _shuffled(value: Vector, lanes: Callable[[int], list[int]], kept: int) -> Any:
    """The lanes that are named, of `value` and of as many zeros behind it."""
    target = Vector(value.dtype, kept)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        zeros = ir.Constant(value.llvm, [0.0] * value.lanes)
        return builder.shuffle_vector(arguments[0], zeros, _places(lanes(value.lanes)))

    return target(value), generate


def _even(typing_context: Any, value: Any) -> Any:
    """Lanes 0, 2, 4, ...: half as many."""
    if not isinstance(value, Vector):
        return None
    return _shuffled(value, lambda n: list(range(0, n, 2)), value.lanes // 2)


def _odd(typing_context: Any, value: Any) -> Any:
    """Lanes 1, 3, 5, ...: half as many."""
    if not isinstance(value, Vector):
        return None
    return _shuffled(value, lambda n: list(range(1, n, 2)), value.lanes // 2)


def _behind_zero(typing_context: Any, value: Any) -> Any:
    """Each number one lane on, 0 before them; the last one is left out."""
    if not isinstance(value, Vector):
        return None
    return _shuffled(value, lambda n: [n, *range(n - 1)], value.lanes)


def _last(typing_context: Any, value: Any) -> Any:
    """The number in the last lane."""
    if not isinstance(value, Vector):
        return None

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.extract_element(arguments[0], ir.Constant(_INT32, value.lanes - 1))

    return value.dtype(value), generate


def _function(name: str, operands: int) -> Callable[..., Any]:
    """LLVM's function of that name for vectors."""

    def typed(*vectors: Any) -> Any:
        if not _alike(*vectors):
            return None
        vector = vectors[0]

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            kind = ir.FunctionType(vector.llvm, [vector.llvm] * operands)
            function = cgutils.get_or_insert_function(
                builder.module, kind, f"llvm.{name}.{vector.suffix}"
            )
            return builder.call(function, arguments)

        return vector(*vectors), generate

    return typed


def _fma(typing_context: Any, a: Any, b: Any, c: Any) -> Any:
    """a b + c, rounded once."""
    return _function("fma", 3)(a, b, c)


def _sqrt(typing_context: Any, a: Any) -> Any:
    return _function("sqrt", 1)(a)


def _size(typing_context: Any, a: Any) -> Any:
    """|a|, lane by lane."""
    return _function("fabs", 1)(a)


def _select(comparison: str, chosen: tuple[int, int]) -> _Generate:
    """Of the arguments, lane by lane, one or the other, by how the first two compare."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        condition = builder.fcmp_ordered(comparison, arguments[0], arguments[1])
        return builder.select(condition, *(arguments[at] for at in chosen))

    return generate


def _least(typing_context: Any, a: Any, b: Any) -> Any:
    """The smaller one, lane by lane; of NaN and b: b."""
    return (a(a, b), _select("<", (0, 1))) if _alike(a, b) else None


def _largest(typing_context: Any, a: Any, b: Any) -> Any:
    """The larger one, lane by lane; of NaN and b: b."""
    return (a(a, b), _select(">", (0, 1))) if _alike(a, b) else None


def _where_less(typing_context: Any, a: Any, b: Any, then: Any, other: Any) -> Any:
    """`then` where a < b, `other` elsewhere, lane by lane."""
    if not (_alike(a, b) and _alike(then, other) and a.lanes == then.lanes):
        return None
    return then(a, b, then, other), _select("<", (2, 3))


store = cast("Callable[[Any, Any, Any], None]", intrinsic(_store))
convert = cast("Callable[[Any, Any], Any]", intrinsic(_convert))
even = cast("Callable[[Any], Any]", intrinsic(_even))
odd = cast("Callable[[Any], Any]", intrinsic(_odd))
behind_zero = cast("Callable[[Any], Any]", intrinsic(_behind_zero))
last = cast("Callable[[Any], float]", intrinsic(_last))
fma = cast("Callable[[Any, Any, Any], Any]", intrinsic(_fma))
sqrt = cast("Callable[[Any], Any]", intrinsic(_sqrt))
size = cast("Callable[[Any], Any]", intrinsic(_size))
least = cast("Callable[[Any, Any], Any]", intrinsic(_least))
largest = cast("Callable[[Any, Any], Any]", intrinsic(_largest))
where_less = cast("Callable[[Any, Any, Any, Any], Any]", intrinsic(_where_less))


def _operator(symbol: Callable[[Any, Any], Any], instruction: str) -> None:
    """Teach numba `symbol` for two vectors."""

    class Typed(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            return signature(args[0], *args) if len(args) == 2 and _alike(*args) else None

    def lowered(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return getattr(builder, instruction)(*arguments)

    infer_global(symbol)(Typed)
    lower_builtin(symbol, Vector, Vector)(lowered)


_operator(operator.add, "fadd")
_operator(operator.sub, "fsub")
_operator(operator.mul, "fmul")
