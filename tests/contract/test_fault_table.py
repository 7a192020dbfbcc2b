"""The tests that deploy/FAULTS.md and deploy/THREATS.md name exist, and are marked as they say."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from service.settings import ServiceSettings

ROOT = Path(__file__).parents[2]
FAULTS = (ROOT / "deploy" / "FAULTS.md").read_text()
NAMED = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", FAULTS)


def functions(path: str) -> dict[str, ast.FunctionDef]:
    tree = ast.parse((ROOT / path).read_text())
    return {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}


def is_slow(path: str, name: str) -> bool:
    """Whether all of the test is; of parametrised ones a quick case may be left for every run."""
    module = ast.parse((ROOT / path).read_text())
    marks = [
        node.value
        for node in module.body
        if isinstance(node, ast.Assign)
        and any(isinstance(t, ast.Name) and t.id == "pytestmark" for t in node.targets)
    ]
    parts = [ast.unparse(part) for part in [*marks, *functions(path)[name].decorator_list]]
    return any("mark.slow" in part and "parametrize" not in part for part in parts)


def test_there_are_some() -> None:
    assert len(NAMED) > 40


@pytest.mark.parametrize(("path", "name"), sorted(set(NAMED)))
def test_a_named_test_exists(path: str, name: str) -> None:
    assert name in functions(path)


def test_slow_tests_are_called_so() -> None:
    for line in FAULTS.splitlines():
        named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", line)
        if named:
            slow = any(is_slow(path, name) for path, name in named)
            assert slow == ("(slow)" in line), line


def test_every_limit_is_a_setting() -> None:
    limits = FAULTS.partition("## Limits")[2].partition("## Housekeeping")[0]
    cells = [line.split("|")[2] for line in limits.splitlines() if line.startswith("| ")]
    names = {name for cell in cells for name in re.findall(r"`([a-z_]+_[a-z_]+)`", cell)}
    assert len(names) > 10
    assert names <= set(ServiceSettings.model_fields)


def test_files_in_the_threat_model_exist() -> None:
    threats = (ROOT / "deploy" / "THREATS.md").read_text()
    for name in set(re.findall(r"`((?:tests/)?[\w/]+\.py)`", threats)):
        folder = ROOT if name.startswith("tests/") else ROOT / "tests"
        assert list(folder.glob(name) if folder == ROOT else folder.rglob(name)), name
