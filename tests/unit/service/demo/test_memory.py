"""The memory watch sees what children of children allocate."""

from __future__ import annotations

import subprocess
import sys
import time

from service.demo.memory import MemoryWatch, family_bytes

GRANDCHILD = "b = bytearray(200 * 2**20); print('ready', flush=True); input()"
CHILD = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {GRANDCHILD!r}])"


def test_a_grandchild_counts_while_it_lives_and_in_the_peak_after():
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdin is not None
    assert child.stdout is not None
    with MemoryWatch(child.pid, interval_seconds=0.02) as watch:
        assert child.stdout.readline() == "ready\n"
        assert 200 * 2**20 < family_bytes(child.pid) < 400 * 2**20
        time.sleep(0.1)
        child.communicate("\n", timeout=10)
    assert watch.peak_bytes > 200 * 2**20
    assert family_bytes(child.pid) == 0
