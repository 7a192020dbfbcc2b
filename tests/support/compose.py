"""Starts what docker-compose.yml describes as local processes: same commands, same order.

Service names become the loopback address, ports free ones, the shared volume a temporary folder.
PostgreSQL is a real server of this machine (support/postgres.py).
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
START_SECONDS = 180.0
STOP_SECONDS = 30.0

_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::\?(?P<message>[^}]*))?\}")


class MissingVariableError(Exception):
    """`${NAME:?message}` and NAME is not set: compose stops here too."""


def load(variables: Mapping[str, str]) -> dict[str, Any]:
    """The compose file with `${NAME:?message}` replaced. Raises MissingVariableError."""
    return _interpolated(yaml.safe_load((ROOT / "docker-compose.yml").read_text()), variables)


def _interpolated(node: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _interpolated(value, variables) for key, value in node.items()}
    if isinstance(node, list):
        return [_interpolated(value, variables) for value in node]
    if not isinstance(node, str):
        return node

    def value(match: re.Match[str]) -> str:
        found = variables.get(match["name"], "")
        if not found:
            raise MissingVariableError(f"{match['name']}: {match['message']}")
        return found

    return _VARIABLE.sub(value, node)


def start_order(services: Mapping[str, Any]) -> list[str]:
    """Names such that each comes after what it depends on."""
    order: list[str] = []

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"{name} depends on itself through {path}"
        if name not in order:
            for needed in services[name].get("depends_on", {}):
                visit(needed, (*path, name))
            order.append(name)

    for name in services:
        visit(name, ())
    return order


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class LocalStack:
    """The running processes of a compose file, by service name."""

    services: Mapping[str, Any]
    data: Path
    logs: Path
    ports: dict[int, int] = field(default_factory=dict)  # port in the file -> port here
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def localized(self, text: str) -> str:
        """An argument or environment value of the file, as it must read on this machine."""
        text = text.replace("0.0.0.0", "127.0.0.1")
        for name in self.services:
            text = re.sub(rf"(?<=[/@]){name}(?=:\d)", "127.0.0.1", text)
        text = re.sub(r"(?<![\w.])/data(?=/|$)", str(self.data), text)
        return re.sub(r"\b\d{4}\b", lambda m: str(self.ports.get(int(m[0]), m[0])), text)

    def command(self, argv: list[str]) -> list[str]:
        """The command of a service with its program taken from this environment."""
        program = BIN / argv[0]
        assert program.is_file(), f"{argv[0]!r} is not installed with gramian"
        return [str(program), *map(self.localized, argv[1:])]

    def start(self, name: str) -> None:
        service = self.services[name]
        self.ports.update({port: free_port() for port in _ports(service) if port not in self.ports})
        given = {k: self.localized(str(v)) for k, v in service.get("environment", {}).items()}
        with (self.logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.command(service["command"]),
                cwd=self.data,
                env={k: v for k, v in os.environ.items() if not k.startswith("GRAMIAN_")} | given,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def wait_healthy(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        kind, program, *arguments = self.services[name]["healthcheck"]["test"]
        assert kind == "CMD"
        path = f"{BIN}{os.pathsep}{os.environ.get('PATH', '')}"
        deadline = time.monotonic() + START_SECONDS
        while True:
            done = subprocess.run(
                [program, *map(self.localized, arguments)],
                capture_output=True,
                text=True,
                check=False,
                env={**os.environ, **(environment or {}), "PATH": path},
            )
            if done.returncode == 0:
                return
            process = self.processes.get(name)
            assert process is None or process.poll() is None, f"{name} ended:\n{self.log(name)}"
            assert time.monotonic() < deadline, f"{name}: {done.stderr}\n{self.log(name)}"
            time.sleep(0.3)

    def log(self, name: str) -> str:
        path = self.logs / f"{name}.log"
        return path.read_text(errors="replace")[-4000:] if path.exists() else ""

    def stop(self) -> dict[str, int]:
        """SIGTERM to all, last started first; exit codes. Nothing is left running."""
        codes = {}
        for name, process in reversed(self.processes.items()):
            process.send_signal(signal.SIGTERM)
            try:
                codes[name] = process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                codes[name] = process.wait()
        return codes


def _ports(service: Mapping[str, Any]) -> list[int]:
    """The ports a service listens on, from its command."""
    argv = service.get("command", [])
    return [int(value) for flag, value in pairwise(argv) if flag == "--port"]


@contextmanager
def local_stack(
    services: Mapping[str, Any], folder: Path, *, given: Mapping[str, int]
) -> Iterator[LocalStack]:
    """Everything but `given` (name -> port of what runs already) started in dependency order."""
    data, logs = folder / "data", folder / "logs"
    data.mkdir()
    logs.mkdir()
    stack = LocalStack(services, data, logs)
    with ExitStack() as cleanup:
        cleanup.callback(stack.stop)
        for name in start_order(services):
            if name in given:
                stack.ports[5432] = given[name]
                stack.wait_healthy(name, {"PGPORT": str(given[name])})
                continue
            for needed, rule in services[name].get("depends_on", {}).items():
                if rule["condition"] == "service_healthy" and needed not in given:
                    stack.wait_healthy(needed)
            stack.start(name)
        for name, service in services.items():
            if "healthcheck" in service and name not in given:
                stack.wait_healthy(name)
        yield stack
