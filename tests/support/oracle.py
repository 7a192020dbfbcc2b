"""Reference values computed in many digits, or by two independent programs: tests/data/oracle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).parents[1] / "data" / "oracle"


def oracle(name: str) -> dict[str, NDArray[Any]]:
    """All arrays of tests/data/oracle/<name>.npz."""
    with np.load(FOLDER / f"{name}.npz") as members:
        return {key: members[key] for key in members.files}
