"""A photograph that a package ships, and two ways to fill in pixels without any network."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from storage.errors import GramianError

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


class PhotographUnavailableError(GramianError):
    """scikit-learn, or Pillow, which ship and read the photograph, are not installed."""

    kind = "photograph-unavailable"


def photograph(side: int) -> Floats:
    """(side, side, 3) in [0, 1]: the middle square of the photograph, as means of square blocks.
    Raises PhotographUnavailableError."""
    whole = _china()
    block = min(whole.shape[:2]) // side
    edge = block * side
    top, left = ((n - edge) // 2 for n in whole.shape[:2])
    square = whole[top : top + edge, left : left + edge]
    means: Floats = square.reshape(side, block, side, block, 3).mean(axis=(1, 3))
    return means


def crops(count: int, side: int, seed: int) -> NDArray[np.float32]:
    """(count, side, side, 3) in [0, 1]: squares of the photograph at random places; `side` at most
    427. Raises PhotographUnavailableError."""
    whole = _china().astype(np.float32)
    rng = np.random.default_rng(seed)
    tops = rng.integers(whole.shape[0] - side + 1, size=count)
    lefts = rng.integers(whole.shape[1] - side + 1, size=count)
    return np.stack(
        [whole[top : top + side, left : left + side] for top, left in zip(tops, lefts, strict=True)]
    )


def _china() -> Floats:
    """(427, 640, 3) in [0, 1]: china.jpg of scikit-learn (by Ingrid Truemper, CC BY 2.0)."""
    try:
        from sklearn.datasets import load_sample_image

        whole: Floats = load_sample_image("china.jpg").astype(np.float64) / 255
    except ImportError as error:
        raise PhotographUnavailableError(
            "The photograph comes with scikit-learn and is read by Pillow.",
            advice="Install them with: pip install 'gramian[paper]'",
        ) from error
    return whole


def neighbour_mean(image: Floats, observed: Mask) -> Floats:
    """`image` (P, Q, C) with each missing pixel the mean of its known neighbours of 3 x 3; those
    without any wait until their neighbours are filled in. Reads observed pixels only."""
    filled, known = np.where(observed[:, :, None], image, 0.0), observed.copy()
    if not known.any():
        raise ValueError("no pixel is observed")
    while not known.all():
        count, total = _neighbours(known[:, :, None].astype(float)), _neighbours(filled)
        new = ~known & (count[:, :, 0] > 0)
        filled[new] = total[new] / count[new]
        known |= new
    return filled


def _neighbours(values: Floats) -> Floats:
    """Sums over 3 x 3 pixels, zeros outside."""
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)))
    rows, columns = values.shape[:2]
    parts = [padded[i : i + rows, j : j + columns] for i in range(3) for j in range(3)]
    total: Floats = np.sum(parts, axis=0)
    return total


def biharmonic(image: Floats, observed: Mask) -> Floats:
    """`image` (P, Q, C) with missing pixels such that the squared Laplacian vanishes there, with
    reflecting edges (Damelin & Hoang 2018); clipped to [0, 1]. Reads observed pixels only."""
    from scipy import sparse
    from scipy.sparse.linalg import splu

    rows, columns = observed.shape
    laplacian = sparse.kron(_second_difference(rows), sparse.eye(columns)) + sparse.kron(
        sparse.eye(rows), _second_difference(columns)
    )
    squared = (laplacian @ laplacian).tocsr()
    known = observed.ravel()
    values = image.reshape(-1, image.shape[2]).copy()
    if not known.all():
        system = squared[~known]
        right = -(system[:, known] @ values[known])
        values[~known] = np.clip(splu(system[:, ~known].tocsc()).solve(right), 0, 1)
    return values.reshape(image.shape)


def _second_difference(n: int) -> object:
    from scipy import sparse

    diagonal = np.full(n, -2.0)
    diagonal[[0, -1]] = -1.0
    return sparse.diags([np.ones(n - 1), diagonal, np.ones(n - 1)], [-1, 0, 1], shape=(n, n))
