"""Compiled code on disk is read again, while nothing has changed that it was made from."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numba
import pytest

LOOP = """
from workers.compiled.jit import lean
from inner import step

@lean
def total(n):
    found = 0
    for k in range(n):
        found += step(k)
    return found
"""
INNER = """
from workers.compiled.jit import inline

@inline
def step(k):
    return {step}
"""
RUN = """
import logging, sys
logging.basicConfig(level=logging.INFO)
from loop import total
print(total(10), sum(total.stats.cache_hits.values()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "loop.py").write_text(LOOP)
    (tmp_path / "inner.py").write_text(INNER.format(step="k"))
    return tmp_path


def run(folder: Path) -> tuple[list[int], str]:
    """What a process of its own finds: the sum, and how often compiled code was read."""
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        cwd=folder,
        env={"PYTHONPATH": f"{Path(__file__).parents[4]}:{folder}", "HOME": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return [int(word) for word in done.stdout.split()], done.stderr


def test_compiled_code_is_read_again(folder: Path) -> None:
    assert run(folder)[0] == [45, 0]
    assert run(folder)[0] == [45, 1]


def test_a_change_in_another_file_of_the_folder_is_noticed(folder: Path) -> None:
    run(folder)
    (folder / "inner.py").write_text(INNER.format(step="2 * k"))
    assert run(folder)[0] == [90, 0]
    assert run(folder)[0] == [90, 1]


class Gone:
    """A type that is not there when the index is read."""

    def __reduce__(self) -> tuple[object, tuple[str, ...]]:
        return eval, ("workers.compiled.no_such_thing",)


@pytest.mark.parametrize("broken", ["index", "code"])
def test_what_cannot_be_read_is_compiled_again(folder: Path, broken: str) -> None:
    """An index as an older release leaves behind, and code that was cut off."""
    run(folder)
    (cache,) = folder.glob("**/loop.total-*.nbi")
    if broken == "index":
        content = pickle.dumps(numba.__version__) + pickle.dumps(Gone())
        cache.write_bytes(content)
    else:
        (code,) = cache.parent.glob("loop.total-*.nbc")
        code.write_bytes(code.read_bytes()[:100])
    found, log = run(folder)
    assert found == [45, 0]
    assert "is of no use" in log
    assert run(folder) == ([45, 1], "")
