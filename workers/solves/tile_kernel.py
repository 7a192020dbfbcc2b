"""The compiled product of a float32 tile with a few vectors: A V and Aᵀ U, each entry read once.

A group of 6 rows of A meets a group of k <= 4 vectors at a time, 16 columns of A after 16:

    sums[i, c]   += A[i, j] V[c, j]     6 k registers, 16 partial sums each
    below[c, j]  += A[i, j] U[c, i]     a strip of k rows, in the L1 cache

which is one load of A for 2 k fused multiplications and additions, all operands in registers or
the L1 cache. Where registers are too few for 4 vectors (AVX2), groups have one. Float32 sums have
at most 252 terms (below) or 32 in each of 16 parts (sums); all further ones are in float64.

How columns are grouped changes no bit of the result, nor does the width of a CPU's registers, if
it has fused multiply-add: for each vector the same operations happen in the same order.

The loops are LLVM vectors, because LLVM would not keep 24 sums in registers on its own.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, cast

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from workers.compiled.jit import exact_jit, wide

LANES = 16  # entries of a vector: one AVX-512 register, or two, or four smaller ones
ROWS = 6  # of A in registers
STRIP_ROWS = 42 * ROWS  # summed in float32, and read again for the next group of vectors
BLOCK = 26 * LANES  # columns of A whose V and sums lie in the L1 cache; a fifth of 2048
WIDEST_GROUP = 4  # vectors
MOST_VECTORS = 32  # at once: their parts of a block still lie in the L2 cache

Array = Any  # numba infers array types itself

_helpers: Any = cgutils  # which has no types
_FLOAT, _DOUBLE, _INT64 = ir.FloatType(), ir.DoubleType(), ir.IntType(64)
_INT32 = ir.IntType(32)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_DOUBLES = ir.VectorType(_DOUBLE, LANES)
_UNDEFINED = ir.Constant(_VECTOR, ir.Undefined)
_ZERO = ir.Constant(_VECTOR, [0.0] * LANES)
_MUL_ADD = ir.FunctionType(_VECTOR, [_VECTOR] * 3)
_PREFETCH = ir.FunctionType(ir.VoidType(), [_FLOAT.as_pointer(), _INT32, _INT32, _INT32])
# LLVM does not look behind this, and so keeps no address per row, for which registers are too few.
_OPAQUE = ir.InlineAsm(ir.FunctionType(_INT64, [_INT64]), "", "=r,0")
_INTO_L1 = [ir.Constant(_INT32, flag) for flag in (0, 3, 1)]  # read, keep in all caches, data


@cache
def widest_group() -> int:
    """Vectors whose 6 sums each fit into the registers of this CPU."""
    return WIDEST_GROUP if llvm.get_host_cpu_features().get("avx512f") else 1


def _padded_sums(vectors: int) -> int:
    """Sums of a group of rows and vectors as they are stored: in whole vectors."""
    return -(-ROWS * vectors // LANES) * LANES


def _mask(lanes: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes)


def _lane_sums(build: Any, vectors: list[Any]) -> Any:
    """The sums over the lanes of 16 vectors, in the lanes of one.

    Each as ((x0 + x8) + (x4 + x12)) + ...: halves are added until one number is left.
    """
    # Which of two goes first, in each step: then the sums come out in their order.
    for bit in (1, 2, 4, 8):
        assert len(vectors) * bit == LANES
        width = LANES // bit  # lanes that belong to one sum
        low = [s + i for s in range(0, LANES, width) for i in range(width // 2)]
        low += [LANES + lane for lane in low]
        high = [lane + width // 2 for lane in low]
        half = len(vectors) // 2
        vectors = [
            build.fadd(
                build.shuffle_vector(x, y, _mask(low)), build.shuffle_vector(x, y, _mask(high))
            )
            for x, y in zip(vectors[:half], vectors[half:], strict=True)
        ]
    return vectors[0]


def _lanes_in_order() -> list[int]:
    """Which of its vectors `_lane_sums` sums into lane 0, 1, ..."""
    order = [[i] for i in range(LANES)]
    while len(order) > 1:
        half = len(order) // 2
        order = [x + y for x, y in zip(order[:half], order[half:], strict=True)]
    return order[0]


def _group(vectors: int, mirrored: bool) -> Callable[..., None]:
    """A function of a group of rows, a group of `vectors` and a block of columns (addresses and
    lengths in bytes): (a, bytes of a row, v, u, below, width of the block, sums, ahead, step).

    V and `below` lie as (width / 16, vectors, 16), U as (6, vectors), the float64 sums as
    (6, vectors) and padding. From `ahead` on, `step` bytes of A are fetched per 16 columns.
    """

    def generate(context: Any, build: Any, signature: Any, arguments: Any) -> Any:
        a, row_bytes, v, u, below, width, sums, ahead, step = arguments
        module = build.module
        mul_add = _helpers.get_or_insert_function(module, _MUL_ADD, "llvm.fmuladd.v16f32")
        prefetch = _helpers.get_or_insert_function(module, _PREFETCH, "llvm.prefetch.p0")

        def at(base: Any, offset: Any, kind: Any) -> Any:
            return build.inttoptr(build.add(base, offset), kind.as_pointer())

        def constant(value: int) -> Any:
            return ir.Constant(_INT64, value)

        def everywhere(number: Any) -> Any:
            first = build.insert_element(_UNDEFINED, number, ir.Constant(_INT32, 0))
            return build.shuffle_vector(first, _UNDEFINED, _mask([0] * LANES))

        triple = build.mul(row_bytes, constant(3))
        double = build.shl(row_bytes, constant(1))

        def rows_from(first: Any) -> list[Any]:
            """Addresses of the rows of the group, as sums that are part of an instruction."""
            first = build.call(_OPAQUE, [first])
            fourth = build.call(_OPAQUE, [build.add(first, triple)])
            return [
                build.add(base, offset)
                for base in (first, fourth)
                for offset in (constant(0), row_bytes, double)
            ]

        parts = [_helpers.alloca_once(build, _VECTOR) for _ in range(ROWS * vectors)]
        for part in parts:
            build.store(_ZERO, part)
        done, fetched = _helpers.alloca_once(build, _INT64), _helpers.alloca_once(build, _INT64)
        build.store(constant(0), done)
        build.store(ahead, fetched)

        condition, body, end = (build.append_basic_block() for _ in range(3))
        build.branch(condition)
        build.position_at_end(condition)
        j = build.load(done)
        build.cbranch(build.icmp_unsigned("<", j, width), body, end)

        build.position_at_end(body)
        rows = rows_from(build.add(a, j))
        entries = [build.load(at(row, constant(0), _VECTOR), align=4) for row in rows]
        fetch = build.load(fetched)
        for row in rows_from(build.add(a, fetch)):
            build.call(prefetch, [at(row, constant(0), _FLOAT), *_INTO_L1])
        build.store(build.add(fetch, step), fetched)
        place = build.mul(j, constant(vectors))
        for c in range(vectors):
            here = build.add(place, constant(4 * LANES * c))
            right = build.load(at(v, here, _VECTOR), align=4)
            total = build.load(at(below, here, _VECTOR), align=4) if mirrored else None
            for i, entry in enumerate(entries):
                part = parts[i * vectors + c]
                build.store(build.call(mul_add, [entry, right, build.load(part)]), part)
                if mirrored:
                    number = build.load(at(u, constant(4 * (i * vectors + c)), _FLOAT), align=4)
                    total = build.call(mul_add, [entry, everywhere(number), total])
            if mirrored:
                build.store(total, at(below, here, _VECTOR), align=4)
        build.store(build.add(j, constant(4 * LANES)), done)
        build.branch(condition)

        build.position_at_end(end)
        order = _lanes_in_order()
        for first in range(0, ROWS * vectors, LANES):
            loaded = [build.load(part) for part in parts[first : first + LANES]]
            loaded += [_ZERO] * (LANES - len(loaded))
            placed = [_ZERO] * LANES
            for lane, vector in enumerate(order):
                placed[vector] = loaded[lane]
            pointer = at(sums, constant(8 * first), _DOUBLES)
            added = build.fpext(_lane_sums(build, placed), _DOUBLES)
            build.store(build.fadd(build.load(pointer, align=8), added), pointer, align=8)
        return context.get_dummy_value()

    def typed(
        typing_context: Any, a: Any, row_bytes: Any, v: Any, u: Any, below: Any, width: Any,
        sums: Any, ahead: Any, step: Any,
    ) -> Any:  # fmt: skip
        return types.void(*[types.intp] * 9), generate

    return cast("Callable[..., None]", intrinsic(typed))


_both_1, _both_2, _both_4 = (_group(vectors, mirrored=True) for vectors in (1, 2, 4))
_forward_1, _forward_2, _forward_4 = (_group(vectors, mirrored=False) for vectors in (1, 2, 4))
_SUMS_1, _SUMS_2, _SUMS_4 = (_padded_sums(vectors) for vectors in (1, 2, 4))


@exact_jit
def _take(left: int, widest: int) -> int:
    """Vectors of the next group when `left` are left."""
    if left >= 4 and widest >= 4:
        return 4
    return 2 if left >= 2 and widest >= 2 else 1


@exact_jit
def _groups(count: int, widest: int) -> int:
    groups = c = 0
    while c < count:
        c += _take(count - c, widest)
        groups += 1
    return groups


@exact_jit
def _aligned(count: int) -> Array:
    """Uninitialised float32 numbers from the start of a cache line on."""
    room = np.empty(count + LANES, np.float32)
    start = (-room.ctypes.data % (4 * LANES)) // 4
    return room[start : start + count]


@exact_jit
def _pack_right(vectors: Array, first: int, cols: int, widest: int, right: Array) -> None:
    """V for all blocks, each as (group, width / 16, vectors of the group, 16); 0 beyond `cols`."""
    count, place = len(vectors), 0
    for block in range(0, cols, BLOCK):
        c = 0
        while c < count:
            group = _take(count - c, widest)
            for j in range(block, min(block + BLOCK, cols), LANES):
                for q in range(group):
                    for lane in range(LANES):
                        inside = j + lane < cols
                        right[place + lane] = vectors[c + q, first + j + lane] if inside else 0.0
                    place += LANES
            c += group


@exact_jit
def _pack_left(vectors: Array, first: int, height: int, widest: int, left: Array) -> None:
    """U of a strip as (group, rows, vectors of the group); 0 in rows beyond `height`."""
    count, place, c = len(vectors), 0, 0
    padded = -(-height // ROWS) * ROWS
    while c < count:
        group = _take(count - c, widest)
        for q in range(group):
            for i in range(padded):
                inside = i < height
                left[place + i * group + q] = vectors[c + q, first + i] if inside else 0.0
        place += padded * group
        c += group


@exact_jit
def _add_below(
    below: Array, count: int, width: int, inside: int, widest: int, total: Array
) -> None:
    """Add the sums of a block to `total` (vectors, inside)."""
    place, c = 0, 0
    while c < count:
        group = _take(count - c, widest)
        for j in range(0, width, LANES):
            for q in range(group):
                if j + LANES <= inside:
                    for lane in range(LANES):
                        total[c + q, j + lane] += below[place + lane]
                else:
                    for lane in range(inside - j):
                        total[c + q, j + lane] += below[place + lane]
                place += LANES
        c += group


@exact_jit
def _add_sums(sums: Array, count: int, height: int, widest: int, total: Array) -> None:
    """Add the sums of a strip to `total` (vectors, height)."""
    place = 0
    for start in range(0, height, ROWS):
        c = 0
        while c < count:
            group = _take(count - c, widest)
            for i in range(min(ROWS, height - start)):
                for q in range(group):
                    total[c + q, start + i] += sums[place + i * group + q]
            place += _SUMS_4 if group == 4 else (_SUMS_2 if group == 2 else _SUMS_1)
            c += group


@exact_jit
def multiply(
    entries: Array, row: int, rows: int, cols: int, vectors: Array, first_row: int,
    first_col: int, mirrored: bool, widest: int, total: Array, top: int, bottom: int,
) -> None:  # fmt: skip
    """Add A V to total[:, top:] and, if `mirrored`, Aᵀ U to total[:, bottom:].

    A (rows, cols) float32 is entries[i * row + j]. `vectors` (at most MOST_VECTORS, n) float32 hold
    V from column `first_col` on and U from column `first_row` on. `total` is float64, one row
    per vector. `widest`: what `widest_group` says, or less.
    """
    wide()
    count = len(vectors)
    groups = _groups(count, widest)
    padded = -(-cols // LANES) * LANES
    right, below = _aligned(count * padded), _aligned(count * BLOCK)
    left, edge = _aligned(count * STRIP_ROWS), _aligned(ROWS * BLOCK)
    sums = _aligned(2 * (STRIP_ROWS // ROWS) * groups * _SUMS_4).view(np.float64)
    _pack_right(vectors, first_col, cols, widest, right)
    for strip in range(0, rows, STRIP_ROWS):
        height = min(STRIP_ROWS, rows - strip)
        strip_groups = -(-height // ROWS)
        sums[: strip_groups * groups * _SUMS_4] = 0.0
        if mirrored:
            _pack_left(vectors, first_row + strip, height, widest, left)
        for block in range(0, padded, BLOCK):
            width = min(BLOCK, padded - block)
            inside = min(width, cols - block)
            if mirrored:
                below[: count * width] = 0.0
            place = sums.ctypes.data
            for start in range(strip, strip + height, ROWS):
                here = min(ROWS, strip + height - start)
                address, row_bytes = entries.ctypes.data + 4 * (start * row + block), 4 * row
                # While a group of rows meets all vectors the next one is fetched, evenly.
                ahead, part, step = 4 * ROWS * row, 4 * width // groups, 4 * LANES // groups
                if here < ROWS or inside < width:  # made whole by zeros
                    edge[:] = 0.0
                    for i in range(here):
                        for j in range(inside):
                            edge[i * BLOCK + j] = entries[(start + i) * row + block + j]
                    address, row_bytes, ahead, part, step = edge.ctypes.data, 4 * BLOCK, 0, 0, 0
                v = right.ctypes.data + 4 * count * block
                u = left.ctypes.data
                below_here = below.ctypes.data
                size = 4 * width
                c = 0
                while c < count:
                    group = _take(count - c, widest)
                    u_here = u + 4 * (start - strip) * group
                    if mirrored:
                        if group == 4:
                            _both_4(
                                address, row_bytes, v, u_here, below_here, size, place, ahead, step
                            )
                        elif group == 2:
                            _both_2(
                                address, row_bytes, v, u_here, below_here, size, place, ahead, step
                            )
                        else:
                            _both_1(
                                address, row_bytes, v, u_here, below_here, size, place, ahead, step
                            )
                    elif group == 4:
                        _forward_4(address, row_bytes, v, 0, 0, size, place, ahead, step)
                    elif group == 2:
                        _forward_2(address, row_bytes, v, 0, 0, size, place, ahead, step)
                    else:
                        _forward_1(address, row_bytes, v, 0, 0, size, place, ahead, step)
                    place += 8 * (_SUMS_4 if group == 4 else (_SUMS_2 if group == 2 else _SUMS_1))
                    v += group * size
                    below_here += group * size
                    u += 4 * strip_groups * ROWS * group
                    ahead += part
                    c += group
            if mirrored:
                place_below = total[:, bottom + block : bottom + block + inside]
                _add_below(below, count, width, inside, widest, place_below)
        _add_sums(sums, count, height, widest, total[:, top + strip : top + strip + height])
