"""Solves over stored Grams: products beside memory bandwidth, passes, CPU time and peak memory.

python tests/benchmarks/solves.py
python tests/benchmarks/solves.py --rows 60000 --memory-gib 5 --only auto

Every run is a process of its own with one thread. `--memory-gib` is the worker limit that decides
placement; runs that need more than the machine has free are named and left out.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from measure import host, table, write_results

HERE = Path(__file__).parent
COLUMNS = (1, 8, 16)  # vectors of one application
RIDGES = (1e-4, 1e-6)  # relative to tr(K)/m
TOLERANCE = 1e-6
OURS = {
    "auto: CG, rpcholesky": {"method": "cg"},
    "CG, nystrom": {"method": "cg", "preconditioner": "nystrom"},
    "CG without preconditioner": {"method": "cg", "preconditioner": "none"},
    "tiled-cholesky": {"method": "tiled-cholesky"},
    "falkon, 20 sqrt(m) points": {"method": "falkon"},
}
# Of linear_operator: rank of its preconditioner, GPyTorch's default and one like ours.
RANKS = {"linear_operator CG, rank 15": 15, "linear_operator CG, rank 500": 500}
PEERS = {"SciPy cho_factor, float64": "scipy", "scikit-learn KernelRidge, float64": "sklearn"}
FREE_MARGIN_BYTES = 2 << 30


def run(kind: str, **asked: Any) -> dict[str, Any]:
    """The result of solve_runs.py in a process with one thread; `failed` says why there is none."""
    return result_of([sys.executable, HERE / "solve_runs.py", json.dumps({"run": kind, **asked})])


def result_of(command: list[str | Path]) -> dict[str, Any]:
    """The JSON in the last line that a command prints, run with one thread."""
    from workers.cluster import worker_environment

    done = subprocess.run(
        command,
        env=os.environ | worker_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        return {"failed": (done.stderr.strip().splitlines() or [f"signal {-done.returncode}"])[-1]}
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def free_bytes() -> int:
    """Memory that a new process may use."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable"):
            return int(line.split()[1]) << 10
    raise RuntimeError("/proc/meminfo has no MemAvailable")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--hard-rows", type=int, default=5000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--memory-gib", type=float, default=6.0)
    parser.add_argument("--only", help="runs whose name begins with this")
    parser.add_argument(
        "--gpytorch-python", type=Path, help="an interpreter with PyTorch and linear_operator"
    )
    parser.add_argument("--scratch", type=Path, help="folder for the stores; default: temporary")
    given = parser.parse_args()
    document: dict[str, Any] = {"host": host(), "rows": given.rows, "hard_rows": given.hard_rows}
    with tempfile.TemporaryDirectory(dir=given.scratch) as folder:
        store = Path(folder).absolute().as_uri()
        document["fashion"] = fashion(store, given)
        document["hard"] = hard(store, given) if given.only is None else []
    document["load_after"] = os.getloadavg()[0]
    name = "solves" if given.only is None else f"solves-{given.rows}"
    for path in write_results(name, document, page(document)):
        print(f"written: {path}")


def fashion(store: str, given: argparse.Namespace) -> dict[str, Any]:
    """Products and solves of the NTK of Fashion-MNIST."""
    base = {"store": store, "name": "fashion", "rows": given.rows}
    built = required(run("build", **base))
    base["matrix"] = built["matrix"]
    found: dict[str, Any] = {"built": built, "solves": [], "operator": None}
    if given.only is None:
        found["operator"] = {
            columns: required(run("operator", columns=columns, repeats=given.repeats, **base))
            for columns in COLUMNS
        }
        print(operator_table(found["operator"]), flush=True)
    limit = int(given.memory_gib * 2**30)
    for ridge in RIDGES:
        for label, fields in OURS.items():
            if given.only is None or label.startswith(given.only):
                fields = {**fields, "ridge": ridge, "tolerance": TOLERANCE}
                result = run("ours", memory_bytes=limit, **base, **fields)
                add(found["solves"], label, ridge, result)
    for label, which in PEERS.items():
        if given.only is not None and not label.startswith(given.only):
            continue
        needed = (1 if which == "scipy" else 2) * 8 * given.rows**2
        if needed + FREE_MARGIN_BYTES > free_bytes():
            result = {"failed": f"not run: needs {needed / 2**30:.1f} GiB"}
        else:
            result = run("peer", ridge=RIDGES[0], which=which, **base)
        add(found["solves"], label, RIDGES[0], result)
    if given.gpytorch_python is not None:
        for label, rank in RANKS.items():
            result = linear_operator(given.gpytorch_python, rank, base)
            add(found["solves"], label, RIDGES[0], result)
    return found


def linear_operator(python: Path, rank: int, base: dict[str, Any]) -> dict[str, Any]:
    """GPyTorch's conjugate gradients, in the environment of `python`."""
    with tempfile.TemporaryDirectory() as folder:
        ridge = required(run("dump", ridge=RIDGES[0], folder=folder, **base))["ridge"]
        script = HERE / "peer_linear_operator.py"
        return result_of([python, script, folder, *map(str, (ridge, TOLERANCE, rank))])


def hard(store: str, given: argparse.Namespace) -> list[dict[str, Any]]:
    """The NNGP of points in three dimensions, whose eigenvalues decay fast."""
    found: list[dict[str, Any]] = []
    built: dict[str, str] = {}
    for name, ridge in (("hard32", 1e-4), ("hard64", 1e-4), ("hard64", 1e-6)):
        base = {"store": store, "name": name, "rows": given.hard_rows}
        if name not in built:
            built[name] = required(run("build", **base))["matrix"]
        base["matrix"] = built[name]
        stored = "float32" if name == "hard32" else "float64"
        for label, fields in list(OURS.items())[:4]:
            fields = {**fields, "ridge": ridge, "tolerance": TOLERANCE}
            result = run("ours", memory_bytes=int(given.memory_gib * 2**30), **base, **fields)
            add(found, f"{label}, {stored} entries", ridge, result)
    return found


def required(result: dict[str, Any]) -> dict[str, Any]:
    if "failed" in result:
        raise SystemExit(result["failed"])
    return result


def add(found: list[dict[str, Any]], label: str, ridge: float, result: dict[str, Any]) -> None:
    found.append({"label": label, "ridge": ridge, **result})
    print(label, ridge, json.dumps(result)[:400], flush=True)


def operator_table(found: dict[int, dict[str, Any]]) -> str:
    heads = ["K V", "columns", "clock", "read", "read, checked", "arithmetic", "product, GB/s"]
    heads += ["of reading", "range", "of the least limit"]
    lines = []
    for columns, placements in found.items():
        for label, one in placements.items():
            if label == "peak_bytes":
                continue
            names = ("memory" if "memory_bytes_per_second" in one else "files", "checked")
            rates = [
                one.get(f"{name}_bytes_per_second") for name in (*names, "arithmetic", "product")
            ]
            lines.append(
                [
                    label,
                    str(columns),
                    one["clock"],
                    *("" if rate is None else f"{rate / 1e9:.2f}" for rate in rates),
                    f"{100 * statistics.median(one['of_reading']):.0f} %",
                    f"{100 * min(one['of_reading']):.0f}-{100 * max(one['of_reading']):.0f} %",
                    f"{100 * statistics.median(one['of_limits']):.0f} %",
                ]
            )
    return table(heads, lines)


def solve_table(found: list[dict[str, Any]]) -> str:
    heads = ["run", "ridge", "outcome", "passes (float64)", "residual", "CPU s", "peak MiB", "note"]
    lines = []
    for one in found:
        first = [one["label"], f"{one['ridge']:.0e}"]
        if "failed" in one:
            lines.append([*first, "none", "", "", "", "", one["failed"]])
            continue
        note = str(one.get("placement") or "")
        rank = one.get("details", {}).get("preconditioner", {}).get("rank")
        note += f", rank {rank}" if rank else ""
        factor = one.get("details", {}).get("factor")
        note += f", {factor['precision']} factor" if factor else ""
        far = one.get("distance_to_exact_at_most")
        if far is not None:
            note += f"; training values within {100 * far:.0f} % of the exact solution's"
        passes = f"{one['passes']} ({one['float64_passes']})" if "passes" in one else ""
        numbers = [f"{one['certified']:.1e}" if one["certified"] is not None else ""]
        numbers += [f"{one['cpu_seconds']:.1f}", f"{one['peak_bytes'] / 2**20:.0f}"]
        lines.append([*first, one["outcome"], passes, *numbers, note])
    return table(heads, lines)


def page(document: dict[str, Any]) -> str:
    machine, fashion_part = document["host"], document["fashion"]
    parts = [
        "# Solves over stored Grams",
        f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB, "
        f"{machine['date']}. Load {machine['load_before']:.1f} before and "
        f"{document['load_after']:.1f} after: compare passes, CPU time, memory and ratios. "
        "One thread each.",
    ]
    if fashion_part["operator"] is not None:
        parts += [
            f"## Applications of K, m = {document['rows']}",
            operator_table(fashion_part["operator"]),
            "GB/s of stored entries, each used for both of its products. Read: the largest of "
            "256 MiB of numbers; for files, reading all of them into one buffer. Checked: the same "
            "with checksums, as every product from files does it. Arithmetic: the operations of "
            "the product at the speed of XLA's product of two 2048-row matrices. The least limit "
            "is the slowest of these.",
        ]
    parts += [
        f"## Ridge regression, NTK of Fashion-MNIST, m = {document['rows']}, 10 right-hand sides",
        solve_table(fashion_part["solves"]),
        f"Tolerance {TOLERANCE:.0e}, certified by a float64 product; that of falkon is the "
        "residual of its own normal equations, and its passes read the inducing columns, not K.",
    ]
    if document["hard"]:
        parts += [
            f"## NNGP of points in three dimensions, m = {document['hard_rows']}",
            solve_table(document["hard"]),
        ]
    return "\n\n".join(parts)


if __name__ == "__main__":
    main()
