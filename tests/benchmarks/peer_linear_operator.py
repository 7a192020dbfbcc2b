"""The same ridge regression by linear_operator, GPyTorch's solvers. Prints one JSON line.

python peer_linear_operator.py FOLDER RIDGE TOLERANCE RANK

Runs in an environment of its own (PyTorch, linear_operator, NumPy). FOLDER holds kernel.npy
(m, m) float32 and rhs.npy (m, k) float64. RANK: of its pivoted-Cholesky preconditioner, 15 by
default there. The residual is computed afresh in float64.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

MAX_PASSES = 1000  # GPyTorch's default
STRIP_ROWS = 1000  # rows of K in float64 at a time, for the residual


def main(folder: Path, ridge: float, tolerance: float, rank: int) -> None:
    import numpy as np
    import torch
    from linear_operator import settings
    from linear_operator.operators import (
        AddedDiagLinearOperator,
        ConstantDiagLinearOperator,
        DenseLinearOperator,
    )

    torch.set_num_threads(1)
    kernel = torch.from_numpy(np.load(folder / "kernel.npy"))
    rhs = np.load(folder / "rhs.npy")
    passes = 0

    class Counted(DenseLinearOperator):
        def _matmul(self, other: Any) -> Any:
            nonlocal passes
            passes += 1
            return super()._matmul(other)

    noise = ConstantDiagLinearOperator(torch.tensor([ridge], dtype=torch.float32), len(rhs))
    system = AddedDiagLinearOperator(Counted(kernel), noise)
    before = time.process_time()
    with (
        torch.no_grad(),
        settings.cg_tolerance(tolerance),
        settings.max_cg_iterations(MAX_PASSES),
        settings.max_cholesky_size(1),  # solve by CG whatever the size
        settings.min_preconditioning_size(1),
        settings.max_preconditioner_size(rank),
    ):
        x = system.solve(torch.from_numpy(rhs).float()).double().numpy()
    seconds = time.process_time() - before
    missing = np.empty_like(rhs)
    for start in range(0, len(rhs), STRIP_ROWS):
        rows = slice(start, start + STRIP_ROWS)
        strip = kernel[rows].double().numpy()
        missing[rows] = rhs[rows] - strip @ x - ridge * x[rows]
    certified = float((np.linalg.norm(missing, axis=0) / np.linalg.norm(rhs, axis=0)).max())
    outcome = "solved" if certified <= tolerance else "not converged"
    print(
        json.dumps(
            {
                "outcome": outcome,
                "cpu_seconds": seconds,
                "certified": certified,
                "passes": passes,
                "float64_passes": 0,
                "peak_bytes": peak_bytes(),
            }
        )
    )


def peak_bytes() -> int:
    """Peak of this process (VmHWM)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) << 10
    raise RuntimeError("/proc/self/status has no VmHWM")


if __name__ == "__main__":
    main(Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
