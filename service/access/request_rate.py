"""How many requests a key may make: a token bucket per key, in the memory of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class RequestRates:
    """Buckets that hold a minute's worth of requests and fill steadily. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._buckets: dict[str, tuple[float, float]] = {}  # tokens, and when they were counted

    def wait_seconds(self, key_id: str, per_minute: int) -> float:
        """0 if the key may make a request now (it is counted), else the seconds until it may."""
        rate = per_minute / 60.0
        with self._lock:
            now = self._clock()
            tokens, counted = self._buckets.get(key_id, (float(per_minute), now))
            tokens = min(float(per_minute), tokens + (now - counted) * rate)
            if tokens >= 1.0:
                self._buckets[key_id] = (tokens - 1.0, now)
                return 0.0
            self._buckets[key_id] = (tokens, now)
            return (1.0 - tokens) / rate
