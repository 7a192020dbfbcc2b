"""Gram blocks: what tile tasks call."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np

from workers.kernels.planes.equilibrium import (
    EquilibriumImages,
    equilibrium_pairs,
    prepare_equilibrium,
)
from workers.kernels.planes.fused import FusedImages, fused_block, prepare_fused
from workers.kernels.planes.layout import (
    Plan,
    make_plan,
    make_scratch,
    no_pairs,
    pooled_pairs,
    wrap_pairs,
)
from workers.kernels.planes.network import EquilibriumNetwork, piecewise_linear
from workers.kernels.planes.prepare import PreparedImages, prepare_compiled
from workers.kernels.planes.traced import TracedImages, prepare_traced, traced_block

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from workers.kernels.planes.network import Network, Precision
    from workers.kernels.planes.paths import Core

Block = dict[str, "NDArray[np.float64]"]
Prepared = PreparedImages | TracedImages | FusedImages | EquilibriumImages


def prepare(
    network: Network | EquilibriumNetwork,
    images: NDArray[Any],
    precision: Precision,
    *,
    core: Core | None = None,
) -> Prepared:
    """Images (n, P, Q, C), finite, as `gram_block` takes them; computed once per image.

    `core`: `compiled` (numba; piecewise linear activations), `traced` (JAX; any activation),
    `fused` (Pallas, for GPUs; fused.py says which networks), or None for the first that can run
    the network; paths.py chooses by machine. Equilibrium networks have the compiled one only.
    """
    if isinstance(network, EquilibriumNetwork):
        return prepare_equilibrium(network, images)
    chosen = core or ("compiled" if piecewise_linear(network) else "traced")
    if chosen == "compiled":
        return prepare_compiled(network, images, precision)
    if chosen == "fused":
        return prepare_fused(network, images, precision)
    return prepare_traced(network, images, precision)


def gram_block(
    network: Network | EquilibriumNetwork,
    left: Prepared,
    right: Prepared,
    symmetric: bool,
    precision: Precision,
) -> Block:
    """NNGP and NTK between prepared images: {"nngp": (n1, n2), "ntk": (n1, n2)}, float64.

    `symmetric`: both sides are the same images; the result is then exactly symmetric and costs
    half. Both sides come from the same core and precision. The compiled core releases the GIL.
    The fused core is interpreted, slowly, where JAX has no GPU.

    Raises NoFixedPointError where an equilibrium network has not converged.
    """
    rows, columns = np.triu_indices(len(left)) if symmetric else _all(len(left), len(right))
    same = (rows == columns) & symmetric
    pairs = np.stack([rows, columns, same], axis=1).astype(np.int64)
    if isinstance(network, EquilibriumNetwork):
        if not (isinstance(left, EquilibriumImages) and isinstance(right, EquilibriumImages)):
            raise TypeError("the images were prepared for another kind of network")
        values, _ = equilibrium_pairs(network, left, right, pairs, precision)
        return _matrices(values, rows, columns, (len(left), len(right)), symmetric)
    if isinstance(left, TracedImages) and isinstance(right, TracedImages):
        means = traced_block(network, left, right, pairs)
    elif isinstance(left, PreparedImages) and isinstance(right, PreparedImages):
        plan = make_plan(network, precision)
        means = _sums(plan, left, right, pairs) * (plan.unit / plan.groups[-1].pixels ** 2)
    elif isinstance(left, FusedImages) and isinstance(right, FusedImages):
        plan = make_plan(network, precision)
        sums = fused_block(network, left, right, pairs, interpret=not on_gpu())
        means = sums * (plan.unit / plan.groups[-1].pixels ** 2)
    else:
        raise TypeError("the two sides were prepared for different cores")
    w2, b2 = network.readout_w_std**2, network.readout_b_std**2
    values = np.stack([w2 * means[:, 0] + b2, w2 * (means[:, 0] + means[:, 1]) + b2], axis=1)
    return _matrices(values, rows, columns, (len(left), len(right)), symmetric)


def on_gpu() -> bool:
    """Whether JAX computes on a GPU in this process."""
    import jax

    return jax.default_backend() == "gpu"


def _matrices(
    values: NDArray[np.float64],
    rows: NDArray[Any],
    columns: NDArray[Any],
    shape: tuple[int, int],
    symmetric: bool,
) -> Block:
    """Values (m, 2) of pairs as two matrices."""
    block = {}
    for name, column in zip(("nngp", "ntk"), values.T, strict=True):
        matrix = np.empty(shape)
        matrix[rows, columns] = column
        if symmetric:
            matrix[columns, rows] = column
        block[name] = matrix
    return block


def _all(n1: int, n2: int) -> tuple[NDArray[Any], NDArray[Any]]:
    rows, columns = np.divmod(np.arange(n1 * n2), n2)
    return rows, columns


def _sums(
    plan: Plan, left: PreparedImages, right: PreparedImages, pairs: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Sums (m, 2) over pixel pairs of NNGP and NTK behind the last activation."""
    from workers.kernels.planes.core import run_group

    scratches = [make_scratch(group) for group in plan.groups]
    # Of every group, what it reads and what it adds to.
    ends = no_pairs(plan.groups[0]), no_pairs(plan.groups[-1])
    pools = [pooled_pairs(a, b) for a, b in itertools.pairwise(plan.groups)]
    sources = [ends[0], *(source for _, source in pools)]
    sinks = [*(sink for sink, _ in pools), ends[1]]
    sums = np.zeros((len(pairs), 2))
    # Pooled networks keep one pair's pooled tensors at a time, so groups alternate.
    batches = [slice(0, len(pairs))] if not pools else _single(len(pairs))
    for batch in batches:
        for number, group in enumerate(plan.groups):
            sinks[number].nngp[:] = 0
            sinks[number].ntk[:] = 0
            run_group(
                group.geometry,
                group.layers.flat,
                left.sides[number].flat,
                right.sides[number].flat,
                pairs[batch],
                group.bands,
                group.half_bands,
                sources[number],
                sinks[number],
                scratches[number],
                *group.exact,
                sums[batch],
            )
            if number < len(pools):
                wrap_pairs(sinks[number], plan.groups[number + 1])
    return sums


def _single(count: int) -> list[slice]:
    return [slice(k, k + 1) for k in range(count)]
