"""Kernel principal components of a Gram matrix (Jacot et al. 2018, section 6.3; Schoelkopf 1998).

Gradient flow learns the component with eigenvalue lambda of H/m at the rate lambda (mean loss).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import linalg

from workers.analyses.alignment import centre
from workers.analyses.checks import Floats, Gram, check_gram
from workers.analyses.eigenvalues import classify
from workers.analyses.errors import InvalidAnalysisError


@dataclass(frozen=True)
class KernelPca:
    """Components of H/m, or of P H P/m with P = I - 11^T/m when centred.

    `eigenvalues` (k,), descending; `explained` (k,), their shares of the trace; `vectors` (m, k),
    orthonormal, the largest entry of each positive; `scores` (m, k), coordinates of the samples,
    sqrt(m eigenvalue) vector, whose products approximate H. Components whose eigenvalue is below
    `noise_floor` have arbitrary vectors.
    """

    eigenvalues: Floats
    explained: Floats
    vectors: Floats
    scores: Floats
    centred: bool
    noise_floor: float
    notes: tuple[str, ...]


def kernel_pca(matrix: NDArray[Any], components: int, *, centred: bool = False) -> KernelPca:
    """The first `components` kernel principal components of `matrix` (m, m). O(m^2 k) to O(m^3).

    Not centred is Jacot et al.'s choice: the first component is then nearly constant when the
    kernel has a large constant part. Raises InvalidAnalysisError.
    """
    gram = check_gram(matrix)
    m = gram.size
    if not 1 <= components <= m:
        raise InvalidAnalysisError(
            f"{components} components of {m} samples do not exist.",
            advice=f"Ask for 1 to {m} components.",
        )
    values = centre(gram.values) if centred else gram.values
    # Centring subtracts: its rounding is relative to the matrix before, not after.
    scale = float(np.linalg.norm(gram.values, 2)) if centred else 0.0
    raw, vectors = linalg.eigh(values, subset_by_index=(m - components, m - 1))
    raw, vectors = raw[::-1], vectors[:, ::-1]
    floor = max(gram.noise_floor(float(raw[0])), gram.noise_floor(scale))
    if raw[0] <= floor:
        raise InvalidAnalysisError(
            "The kernel is constant, so nothing is left after centring.",
            advice="Use components that are not centred.",
        )
    if not centred:
        classify(raw, Gram(values, gram.epsilon))
    vectors = oriented(vectors)
    kept = np.where(raw > 0, raw, 0.0)
    noise = int(np.count_nonzero(raw <= floor))
    return KernelPca(
        eigenvalues=np.ascontiguousarray(raw) / m,
        explained=kept / float(np.trace(values)),
        vectors=np.ascontiguousarray(vectors),
        scores=np.ascontiguousarray(vectors * np.sqrt(kept)),
        centred=centred,
        noise_floor=floor / m,
        notes=(f"The last {noise} components are rounding noise.",) if noise else (),
    )


def oriented(vectors: Floats) -> Floats:
    """`vectors` (m, k) with the sign that makes the largest entry of each positive."""
    largest = np.argmax(np.abs(vectors), axis=0)
    turned: Floats = vectors * np.sign(vectors[largest, np.arange(vectors.shape[1])])
    return turned
