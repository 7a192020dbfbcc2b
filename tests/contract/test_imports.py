"""Rooms import one way, and the service never loads JAX."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Each room may use itself and those before it.
ROOMS = ("storage", "workers", "service")


def modules(room: str) -> list[Path]:
    return sorted((ROOT / room).rglob("*.py"))


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Absolute names that a module imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative imports hide the room"
            yield node.module or "", node.lineno


@pytest.mark.parametrize("room", ROOMS)
def test_rooms_import_only_what_lies_below_them(room: str) -> None:
    above = ROOMS[ROOMS.index(room) + 1 :]
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for path in modules(room)
        for name, line in imported(path)
        if name.split(".")[0] in (*above, "tests", "support")
    ]
    assert wrong == []
    assert len(modules(room)) > 5


@pytest.mark.parametrize("room", ["storage", "service"])
def test_no_module_outside_workers_names_jax(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in modules(room)
        for name, line in imported(path)
        if name.split(".")[0] in ("jax", "jaxlib")
    ]
    assert wrong == []


PROGRAM = """
import sys
{body}
loaded = sorted(name for name in {names!r} if name in sys.modules)
sys.exit("loaded: " + ", ".join(loaded) if loaded else 0)
"""


def run(body: str, names: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM.format(body=body, names=names)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )


def test_building_the_service_does_not_load_jax() -> None:
    body = "from service.app import create_app; create_app().openapi(); import service.server"
    result = run(body, ("jax", "jaxlib"))
    assert result.returncode == 0, result.stderr


def test_importing_any_service_module_does_not_load_jax() -> None:
    names = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts)
        for path in modules("service")
        if path.name not in ("__init__.py", "__main__.py")
    ]
    result = run(
        "import importlib\nfor n in " + repr(names) + ": importlib.import_module(n)", ("jax",)
    )
    assert result.returncode == 0, result.stderr


def test_the_client_starts_without_numpy() -> None:
    result = run("import service.client", ("numpy", "fastapi", "distributed", "sqlalchemy", "zarr"))
    assert result.returncode == 0, result.stderr


def test_importing_the_service_opens_nothing(tmp_path: Path) -> None:
    program = (
        "import socket, threading\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened at import')\n"
        "before = threading.active_count()\n"
        "import service.app, service.server, service.client\n"
        "assert threading.active_count() == before, threading.enumerate()\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert list(tmp_path.iterdir()) == []
