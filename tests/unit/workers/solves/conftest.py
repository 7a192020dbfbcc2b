"""Oracle values of constant-kernel predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

ORACLE = Path(__file__).parents[3] / "data" / "oracle" / "dynamics.npz"


@pytest.fixture(scope="session")
def oracle_dynamics() -> dict[str, np.ndarray]:
    """dynamics.npz: kernels of a ReLU network of depth 2 on five points, and what follows."""
    with np.load(ORACLE) as members:
        return {name: members[name] for name in members.files}
