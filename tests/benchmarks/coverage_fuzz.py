"""The parsers of uploads and the validator of kernel specs under a fuzzer that follows coverage.

    pip install atheris
    PYTHONPATH=tests python tests/benchmarks/coverage_fuzz.py [--seconds 120]

Atheris (libFuzzer) mutates inputs and keeps those that reach new branches of `storage` and
`workers.kernels`; each must meet `tests/support/hostile_checks.py`. An input that does not ends the
run and is printed. Atheris has wheels for Linux and few versions of Python.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from measure import host, table, write_results

TARGETS = ("uploads", "kernel specs")
_DONE = re.compile(r"#(\d+)\s+DONE\s+cov: (\d+)")


def spec(chosen: Any, known: list[str]) -> Any:
    """The spec that a `FuzzedDataProvider` chooses: a network or a preset made of the words of the
    language, or anything. As JSON text hardly one in a thousand would reach the validator."""

    def value(depth: int) -> Any:
        kind = chosen.ConsumeIntInRange(0, 8 if depth else 5)
        if kind == 0:
            return chosen.PickValueInList([None, False, True, "", [], {}])
        if kind == 1:
            return chosen.ConsumeIntInRange(-3, 9)
        if kind == 2:
            return chosen.PickValueInList([10**9, 2**63, 10**400, 0.5, 1e308, 5e-324])
        if kind == 3:
            return chosen.ConsumeFloat()
        if kind in (4, 5):
            return chosen.PickValueInList(known)
        if kind == 6:
            return [value(depth - 1) for _ in range(chosen.ConsumeIntInRange(0, 4))]
        return fields(["op", "fn", "preset"][chosen.ConsumeIntInRange(0, 2)], depth)

    def fields(first: str, depth: int) -> dict[str, Any]:
        found = {first: chosen.PickValueInList(known)}
        for _ in range(chosen.ConsumeIntInRange(0, 3)):
            found[chosen.PickValueInList(known)] = value(depth - 1)
        return found

    kind = chosen.ConsumeIntInRange(0, 4)
    if kind == 0:
        return value(4)
    if kind == 1:
        return fields("preset", 3)
    return {"layers": [fields("op", 3) for _ in range(chosen.ConsumeIntInRange(1, 6))]}


def seeds() -> list[bytes]:
    """Uploads to begin with: right ones."""
    arrays = [np.ones((3, 2), "<f4"), np.ones((2, 2, 2), ">f8"), np.arange(4, dtype="<i8")]
    with tempfile.TemporaryDirectory() as name:
        for save, file in ((np.savez, "a.npz"), (np.savez_compressed, "b.npz")):
            save(Path(name) / file, x=arrays[0], y=np.arange(3))
        for n, array in enumerate(arrays):
            np.save(Path(name) / f"{n}.npy", array)
        return [path.read_bytes() for path in sorted(Path(name).iterdir())]


FILE_WORDS = ("descr", "fortran_order", "shape", "<f4", ">f8", "|b1", "True", "x.npy", "y.npy")


def language(known: dict[str, Any]) -> list[str]:
    """The words of the kernel language: ops, functions, presets, fields, and texts among values."""
    found: set[str] = set()

    def collect(value: Any) -> None:
        if isinstance(value, dict):
            found.update(value)
            for inner in value.values():
                collect(inner)
        elif isinstance(value, list):
            for inner in value:
                collect(inner)
        elif isinstance(value, str):
            found.add(value)

    for entry in known["ops"] + known["activations"] + known["presets"]:
        found.add(entry["name"])
        found.update(entry["schema"].get("properties", {}))
        collect(entry.get("expansion"))
    return sorted(word for word in found if re.fullmatch(r"[\w-]+", word))


def fuzz_here(target: str, options: list[str]) -> None:
    """Fuzz in this process, which ends with it."""
    import atheris

    with atheris.instrument_imports(
        include=["storage.uploads", "storage.datasets", "workers.kernels"]
    ):
        from support.hostile_checks import check_spec, check_upload
        from workers.kernels.registry import catalogue
    known = language(catalogue())

    def check(data: bytes) -> None:
        if target == "uploads":
            check_upload(data)
        else:
            check_spec(spec(atheris.FuzzedDataProvider(data), known))

    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


def fuzz(target: str, seconds: int) -> dict[str, int]:
    """Inputs tried and branches reached, by a process of its own.

    Raises SystemExit with the input that broke something.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus, found = folder / "corpus", folder / "found"
        corpus.mkdir()
        found.mkdir()
        if target == "uploads":
            for n, seed in enumerate(seeds()):
                (corpus / str(n)).write_bytes(seed)
        (folder / "words").write_text("".join(f'"{word}"\n' for word in FILE_WORDS))
        ended = subprocess.run(
            [
                *(sys.executable, __file__, "--target", target, str(corpus)),
                *(f"-dict={folder / 'words'}", f"-artifact_prefix={found}/"),
                *(f"-max_total_time={seconds}", "-max_len=4096", "-timeout=30"),
            ],
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            check=False,
        )
        done = _DONE.search(ended.stderr)
        if ended.returncode or done is None:
            inputs = [path.read_bytes() for path in found.iterdir()]
            raise SystemExit(f"{ended.stderr[-4000:]}\n{target}: {inputs}")
        return {"inputs": int(done[1]), "branches": int(done[2])}


def main() -> None:
    if sys.argv[1:2] == ["--target"]:
        fuzz_here(sys.argv[2], sys.argv[3:])
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=120, help="For each of the two.")
    given = parser.parse_args()
    about = host()
    found = {target: fuzz(target, given.seconds) for target in TARGETS}
    rows = [[what, str(seen["inputs"]), str(seen["branches"])] for what, seen in found.items()]
    text = "\n".join(
        [
            "# Fuzzing by coverage",
            "",
            "`PYTHONPATH=tests python tests/benchmarks/coverage_fuzz.py"
            f" --seconds {given.seconds}`, {about['cpu']}, {about['cores']} cores,"
            f" Python {about['python']}, {about['date']}.",
            "",
            table(["input", "tried", "branches reached"], rows),
            "",
            "Every one became what it said or was refused with an error of ours.",
        ]
    )
    print(text)
    for path in write_results("coverage-fuzz", {"host": about, **found}, text):
        print(path)


if __name__ == "__main__":
    main()
