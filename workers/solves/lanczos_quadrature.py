"""Traces of functions of K from a few passes: stochastic Lanczos quadrature.

tr f(K) ≈ m · mean over random unit vectors z of Σ_s w_s f(θ_s), where θ_s and w_s are the Ritz
values and squared first components of a Lanczos run started at z (Ubaru, Chen, Saad, Fast
estimation of tr(f(A)) via stochastic Lanczos quadrature, SIAM J. Matrix Anal. Appl. 38, 2017,
alg. 1). All probes share each pass over K. One set of nodes serves every function: log-determinant
and effective dimension at any ridge, and the density of eigenvalues. Neural kernels have a few
eigenvalues that outweigh all others; when these are known (`deflate`), they are counted exactly and
only the rest is estimated.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigh_tridiagonal

from workers.solves.errors import InvalidSolveError, SolveInterrupted
from workers.solves.operator import Products
from workers.solves.solution import Float64, Outcome, SolveStats
from workers.solves.spectrum import Spectrum

BASIS_BYTES = 512 << 20  # of Lanczos vectors in float32; without room for them ghosts are accepted
BREAKDOWN = 1e-7  # × the largest coefficient: the probe's Krylov space is complete


@dataclass(frozen=True)
class Estimate:
    """The mean over probes, and its standard error (0 for a single probe: unknown)."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class Quadrature:
    """Nodes (probes, steps) and weights (probes, steps), each row of weights summing to 1.

    They stand for the m − k eigenvalues beside `known` (k,). Empty unless the outcome is usable.
    `rows` is m. Nodes of early complete probes have weight 0.
    """

    nodes: Float64
    weights: Float64
    known: Float64
    rows: int
    outcome: Outcome
    stats: SolveStats

    def trace(self, function: Callable[[Float64], Float64]) -> Estimate:
        """tr f(K) for a function of eigenvalues that works on arrays."""
        values = np.where(self.weights > 0, function(self.nodes), 0.0)
        rest = self.rows - self.known.size
        per_probe = rest * (self.weights * values).sum(axis=1)
        count = per_probe.size
        error = float(per_probe.std(ddof=1) / np.sqrt(count)) if count > 1 else 0.0
        return Estimate(float(function(self.known).sum() + per_probe.mean()), error)

    def log_determinant(self, ridge: float) -> Estimate | None:
        """log det(K + ridge·I); None if a node shows that this is not positive definite."""
        used = np.concatenate([self.nodes[self.weights > 0], self.known])
        if (used + ridge <= 0).any():
            return None
        return self.trace(lambda nodes: np.log(np.maximum(nodes + ridge, np.finfo(float).tiny)))

    def effective_dimension(self, ridge: float) -> Estimate:
        """tr K (K + ridge·I)⁻¹ for ridge > 0; negative nodes are rounding and count as 0."""
        return self.trace(lambda nodes: np.maximum(nodes, 0) / (np.maximum(nodes, 0) + ridge))

    def density(self, edges: Float64) -> Float64:
        """Share of the m eigenvalues in each [edges[i], edges[i+1]), (len(edges) − 1,)."""
        estimated, _ = np.histogram(self.nodes, bins=edges, weights=self.weights)
        counted, _ = np.histogram(self.known, bins=edges)
        rest = self.rows - self.known.size
        shares: Float64 = (counted + rest * estimated / len(self.nodes)) / self.rows
        return shares


def lanczos_quadrature(
    operator: Products,
    *,
    probes: int = 16,
    steps: int = 50,
    seed: int = 0,
    deflate: Spectrum | None = None,
    basis_bytes: int = BASIS_BYTES,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Quadrature:
    """Lanczos from `probes` random sign vectors at once, `steps` passes over K (m, m).

    `deflate`: the largest eigenvalues with their vectors (m, k), k < m, as `top_eigenpairs` gives.
    Raises InvalidSolveError unless probes and steps are positive; more than m − k steps make no
    sense and are cut.
    """
    if probes < 1 or steps < 1:
        raise InvalidSolveError(
            f"{probes} probes and {steps} steps were asked for.", advice="Ask for at least 1 each."
        )
    started, rows = time.monotonic(), operator.shape[0]
    steps = min(steps, rows - (deflate.values.size if deflate is not None else 0))
    stats = SolveStats(method="lanczos-quadrature", placement=operator.placement)
    drawn = np.random.default_rng(seed).integers(0, 2, size=(rows, probes))
    signs = (2 * drawn - 1).astype(np.float64)
    empty = np.zeros(0)
    known = deflate.values if deflate is not None else empty
    exact = deflate.vectors if deflate is not None else None
    if exact is not None:
        signs -= exact @ (exact.T @ signs)
    current: Float64 = signs / np.linalg.norm(signs, axis=0)
    previous = np.zeros_like(current)
    keep = rows * probes * steps * 4 <= basis_bytes
    basis: list[NDArray[np.float32]] = []
    diagonal, off_diagonal = np.zeros((probes, steps)), np.zeros((probes, steps))
    length = np.full(probes, steps)  # of each probe's tridiagonal matrix
    outcome = Outcome.CONVERGED
    try:
        for step in range(steps):
            if should_stop():
                raise SolveInterrupted
            image = operator.apply(current)
            stats.applications += 1
            if not np.isfinite(image).all():
                outcome = Outcome.NON_FINITE
                break
            if keep:
                basis.append(current.astype(np.float32))
            if exact is not None:
                image -= exact @ (exact.T @ image)
            if step:
                image -= off_diagonal[:, step - 1] * previous
            diagonal[:, step] = np.einsum("ij,ij->j", current, image)
            image -= diagonal[:, step] * current
            for earlier in basis:
                image -= earlier * np.einsum("ij,ij->j", earlier, image)
            norms = np.linalg.norm(image, axis=0)
            scale = np.abs(diagonal[:, : step + 1]).max(axis=1)
            ended = (norms <= BREAKDOWN * scale) & (length == steps)
            length[ended] = step + 1
            norms[length <= step + 1] = 0.0
            off_diagonal[:, step] = norms
            previous, current = current, image / np.where(norms > 0, norms, 1.0)
            current[:, norms == 0] = 0.0
            on_progress(step + 1, steps)
    except SolveInterrupted:
        outcome = Outcome.CANCELLED
    stats.iterations = stats.applications
    stats.seconds = time.monotonic() - started
    stats.details |= {"probes": probes, "reorthogonalised": keep}
    if not outcome.usable:
        return Quadrature(np.zeros((0, 0)), np.zeros((0, 0)), empty, rows, outcome, stats)
    nodes, weights = np.zeros((probes, steps)), np.zeros((probes, steps))
    for probe, size in enumerate(length):
        values, vectors64 = eigh_tridiagonal(
            diagonal[probe, :size], off_diagonal[probe, : size - 1]
        )
        nodes[probe, :size], weights[probe, :size] = values, vectors64[0] ** 2
    return Quadrature(nodes, weights, known, rows, outcome, stats)
