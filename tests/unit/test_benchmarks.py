"""Every benchmark that has options can at least be started: it imports what it needs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "benchmarks"
WITH_OPTIONS = sorted(p.name for p in FOLDER.glob("*.py") if "ArgumentParser(" in p.read_text())


def test_the_benchmarks_of_make_are_among_them() -> None:
    assert {"fc_throughput.py", "conv_rates.py", "solves.py"} <= set(WITH_OPTIONS)


def _run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, FOLDER / name, *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env=os.environ | {"PYTHONPATH": f"{FOLDER.parents[1]}{os.pathsep}{FOLDER.parent}"},
        check=False,
    )


@pytest.mark.parametrize("name", WITH_OPTIONS)
def test_starts(name: str) -> None:
    shown = _run(name, "--help")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("usage:")


def test_without_a_gpu_nothing_is_measured_of_one() -> None:
    import jax

    if jax.default_backend() == "gpu":
        pytest.skip("there is a GPU")
    shown = _run("gpu_rates.py")
    assert shown.returncode == 1
    assert "pip install 'gramian[gpu]'" in shown.stderr
    assert shown.stdout == ""
