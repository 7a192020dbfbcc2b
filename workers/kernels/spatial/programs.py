"""The compiled functions of one network for samples of one shape: prepare, and one row of pairs.

Every pair (every group of ROW_GROUP pairs, where only equal positions are needed) is computed by
the same instructions wherever it stands, so values do not depend on blocks, tiles or workers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from workers.kernels.spatial.geometry import sample_grid
from workers.kernels.spatial.inputs import (
    Samples,
    duals_in_order,
    make_sides,
    normalized,
    prepare_pixels,
    prepare_tensor,
    tensor_inputs,
)
from workers.kernels.spatial.layouts import DiagonalLayout, FullLayout
from workers.kernels.spatial.recursion import (
    OwnSides,
    RecordedSides,
    State,
    broadcast,
    left_of_tensor,
    run,
)
from workers.kernels.spatial.representation import network_parts
from workers.kernels.spatial.structure import normalization
from workers.kernels.spatial.torus import plane_sums, torus_of
from workers.kernels.wide_jit import wide_jit

if TYPE_CHECKING:
    from workers.kernels.spec import KernelSpec

ROW_GROUP = 8
"""Samples that the diagonal representation takes at a time; panels are padded to a multiple."""

Kernels = tuple[jax.Array, jax.Array]
"""NNGP and NTK (0 where it is not wanted), float64."""


class Program:
    """`parts` and the jitted functions of a network for samples of `sample_shape`."""

    def __init__(self, spec: KernelSpec, sample_shape: tuple[int, ...], *, single: bool) -> None:
        grid, channels = sample_grid(spec.layers, sample_shape)
        self.parts = network_parts(spec.layers, grid, channels)
        self._normalization = normalization(spec.layers)
        self._pair_dtype = jnp.float32 if single else jnp.float64
        self.group = ROW_GROUP if self.parts.representation == "diagonal" else 1
        self.prepare = wide_jit(self._prepare)
        self.row = wide_jit(self._row, static_argnames=("wanted",))

    def _prepare(self, x: jax.Array) -> Samples:
        """Samples (n, P, Q, C) ready for `row`."""
        parts, x = self.parts, normalized(x, self._normalization)
        if parts.representation == "tensor":
            return prepare_tensor(parts.layers, x)
        if parts.representation == "diagonal":
            return prepare_pixels(parts.layers, x)
        samples = prepare_pixels(parts.trunk, x)
        if not duals_in_order(parts.head):
            return samples
        return Samples(x, (*samples.deviations, *lax.map(self._head_deviations, samples)))

    def _head_deviations(self, sample: Samples) -> tuple[jax.Array, ...]:
        """Deviations of one sample at the activations after a global average pool."""
        sides = OwnSides(jnp.float64)
        same = jnp.ones((), bool)
        state = self._plane_means(sample, sample, same, wanted=False)
        run(self.parts.head, state, FullLayout(same), sides, jnp.float64)
        return tuple(sides.deviations)

    def _row(
        self,
        left: Samples,
        i: jax.Array,
        right: Samples,
        start: jax.Array,
        stop: jax.Array,
        symmetric: jax.Array,
        *,
        wanted: bool,
    ) -> Kernels:
        """Kernels of sample `i` of `left` with the samples start..stop of `right`, (n,) each.

        Entries before `start` and after `stop` are not all computed. `symmetric`: both sides hold
        the same samples. `wanted`: the NTK too.
        """
        sample = _at(left, i)
        n = right.x.shape[0]
        zeros = jnp.zeros(n, jnp.float64)
        step = self.group

        def body(index: jax.Array, out: Kernels) -> Kernels:
            first = index * step
            if self.parts.representation == "diagonal":
                others: Samples = jax.tree.map(
                    lambda v: lax.dynamic_slice_in_dim(v, first, step), right
                )
                same = symmetric & (first + jnp.arange(step) == i)
                state = self._diagonal(sample, others, same, wanted=wanted)
            else:
                same = symmetric & (first == i)
                state = self._pair(sample, _at(right, first), same, wanted=wanted)
            t = zeros[:step] if state.t is None else state.t
            return put(out[0], state.k, first), put(out[1], t, first)

        def put(values: jax.Array, new: jax.Array | float, first: jax.Array) -> jax.Array:
            part = jnp.reshape(jnp.asarray(new, jnp.float64), step)
            return lax.dynamic_update_slice_in_dim(values, part, first, 0)

        kernels: Kernels = lax.fori_loop(start // step, -(-stop // step), body, (zeros, zeros))
        return kernels

    def _pair(self, x: Samples, y: Samples, same: jax.Array, *, wanted: bool) -> State:
        if self.parts.representation == "tensor":
            return self.tensor(x, y, same, wanted=wanted)
        state = self._plane_means(x, y, same, wanted=wanted)
        trunk, duals = len(duals_in_order(self.parts.trunk)), duals_in_order(self.parts.head)
        sides = RecordedSides(
            make_sides(duals, x.deviations[trunk:], self._pair_dtype),
            make_sides(duals, y.deviations[trunk:], self._pair_dtype),
        )
        return run(self.parts.head, state, FullLayout(same), sides, self._pair_dtype)

    def _plane_means(self, x: Samples, y: Samples, same: jax.Array, *, wanted: bool) -> State:
        """Means over all pixel pairs: the state after the global average pool."""
        parts = self.parts
        k, t = plane_sums(parts, torus_of(parts), x, y, same, wanted, self._pair_dtype)
        pairs = float((parts.shape[0] * parts.shape[1]) ** 2)
        ntk = (t / pairs).astype(self._pair_dtype) if wanted else None
        return State(k / pairs, ntk, nonnegative=False)

    def tensor(self, x: Samples, y: Samples, same: jax.Array, *, wanted: bool) -> State:
        """The state after the last layer from the whole tensor of one pair of samples."""
        layers, dtype = self.parts.layers, self._pair_dtype
        state, rest = tensor_inputs(layers, x.x, y.x, wanted=wanted, pair_dtype=dtype)
        duals = duals_in_order(layers)
        left = make_sides(duals, x.deviations, dtype)
        sides = RecordedSides(
            [broadcast(side, left_of_tensor) for side in left],
            make_sides(duals, y.deviations, dtype),
        )
        return run(rest, state, FullLayout(same), sides, dtype)

    def _diagonal(self, x: Samples, y: Samples, same: jax.Array, *, wanted: bool) -> State:
        """One sample against several, equal positions only."""
        layers, dtype = self.parts.layers, self._pair_dtype
        duals = duals_in_order(layers)
        sides = RecordedSides(
            [broadcast(side, lambda v: v[None]) for side in make_sides(duals, x.deviations, dtype)],
            make_sides(duals, y.deviations, dtype),
        )
        k = jnp.sum(x.x * y.x, axis=3) / self.parts.channels
        state = State(k, 0.0 if wanted else None, nonnegative=False)
        return run(layers, state, DiagonalLayout(same), sides, dtype)


def single_precision(spec: KernelSpec, dtype: np.dtype[Any]) -> bool:
    """Whether pair maps and NTKs are computed in float32."""
    return dtype == np.float32 and all(x.dual().float32_pairs for x in spec.activations)


def _at(samples: Samples, i: jax.Array) -> Samples:
    one: Samples = jax.tree.map(lambda v: lax.dynamic_index_in_dim(v, i, keepdims=False), samples)
    return one
