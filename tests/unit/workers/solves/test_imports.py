"""The coordinator's side of a solve runs in the service, which must never import JAX."""

from __future__ import annotations

import subprocess
import sys


def test_importing_and_preparing_a_solve_does_not_import_jax() -> None:
    code = (
        "import sys, workers.solves.task, workers.solves.memory, workers.solves.policy;"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('jax', 'jaxlib')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
