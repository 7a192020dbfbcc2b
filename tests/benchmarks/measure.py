"""Timing, the description of the host, and the two result files of a benchmark."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Sample:
    """Repeated measurements of one quantity: the median and how far the middle half spreads."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> float:
        """Interquartile range divided by the median."""
        if len(self.values) < 2:
            return 0.0
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return (high - low) / self.median

    def to_json(self) -> dict[str, Any]:
        return {"median": self.median, "spread": self.spread, "values": list(self.values)}


def cpu_seconds(work: Callable[[], object], *, repeats: int) -> Sample:
    """CPU time of this process per call: other programs on the machine do not count.

    The first call, which compiles, is not measured.
    """
    work()
    values = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        values.append(time.process_time() - start)
    return Sample(tuple(values))


def host() -> dict[str, Any]:
    """What the numbers belong to. The machine's name is left out: its kind is what counts."""
    return {
        "cpu": f"{_cpu_model()} ({_widest_vectors()})",
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "load_before": os.getloadavg()[0],
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("gramian", "jax", "numpy", "zarr", "distributed")
        },
    }


def host_class() -> str:
    """A short name for this kind of machine, for file names: `epyc-2core`."""
    words = [
        word.lower()
        for word in _cpu_model().replace("(R)", "").replace("(TM)", "").split()
        if word.isalnum() and word.lower() not in {"amd", "intel", "cpu", "processor", "core"}
    ]
    return f"{words[0] if words else platform.machine()}-{os.cpu_count()}core"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _widest_vectors() -> str:
    """Machines of one model name differ in what their vector units can do."""
    flags = Path("/proc/cpuinfo").read_text()
    return next((name for name in ("avx512f", "avx2") if f" {name} " in flags), "no AVX2")


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def write_results(name: str, document: dict[str, Any], text: str) -> list[Path]:
    """Write `results/<name>-<host class>.json` and `.md`; returns both paths."""
    RESULTS.mkdir(exist_ok=True)
    stem = RESULTS / f"{name}-{host_class()}"
    data, page = stem.with_suffix(".json"), stem.with_suffix(".md")
    data.write_text(json.dumps(document, indent=1) + "\n")
    page.write_text(text + "\n")
    return [data, page]
