"""The coordinator's side of a solve runs in the service, which must never import JAX."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PRODUCT = """
import sys
import numpy as np
from workers.solves.operator import LocalOperator
from workers.solves.source import ArrayTiles

assert not {"jax", "numba"} & set(sys.modules)
LocalOperator(ArrayTiles(np.eye(3, dtype=np.float32), 2)).apply(np.ones((3, 1)))
print("jax" in sys.modules, "numba" in sys.modules)
"""


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        check=True,
        timeout=120,
        capture_output=True,
        text=True,
        env=os.environ | environment,
    )
    return done.stdout.strip()


def test_importing_and_preparing_a_solve_imports_neither_jax_nor_numba() -> None:
    run(
        "import sys, workers.solves.task, workers.solves.memory, workers.solves.policy;"
        "found = {name.split('.')[0] for name in sys.modules};"
        "assert not found & {'jax', 'jaxlib', 'numba'}"
    )


@pytest.mark.parametrize("plugins", [False, True])
def test_products_on_a_cpu_ask_jax_only_if_it_may_find_something(
    tmp_path: Path, plugins: bool
) -> None:
    if plugins:
        (tmp_path / "jax_plugins").mkdir()  # the namespace package that JAX looks into
    path = os.pathsep.join([str(tmp_path), *sys.path])
    assert run(PRODUCT, PYTHONPATH=path, JAX_PLATFORMS="") == f"{plugins} True"
