"""How fast K was multiplied, next to how fast the machine can read memory at all."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

BUFFER_BYTES = 32 << 20  # read to measure; more than a core's share of the last cache
REPEATS = 3


@dataclass(frozen=True)
class Throughput:
    """Of all applications of an operator.

    bytes_per_second: of stored entries of K, each of which goes through both products, over the
        wall time of the applications, messages and reading included.
    memory_bytes_per_second: what its processes read together when they only sum an array.
    """

    bytes_multiplied: int
    bytes_per_second: float
    memory_bytes_per_second: float

    @property
    def fraction(self) -> float:
        """Of the memory bandwidth; streaming from the store is limited by that and not by this."""
        if not self.memory_bytes_per_second:
            return 0.0
        return self.bytes_per_second / self.memory_bytes_per_second

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "fraction_of_memory_bandwidth": self.fraction}


def read_bandwidth(buffer_bytes: int = BUFFER_BYTES) -> float:
    """Bytes per second of memory that this thread reads, best of a few dot products."""
    values = np.ones(buffer_bytes // 4, dtype=np.float32)
    best = float("inf")
    for _ in range(REPEATS):
        started = time.perf_counter()
        np.dot(values, values)
        best = min(best, time.perf_counter() - started)
    return values.nbytes / best
