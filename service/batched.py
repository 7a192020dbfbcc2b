"""Many who ask at once are answered with few reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextvars import Context
from itertools import islice
from typing import Generic, TypeVar

from anyio import CapacityLimiter, to_thread

Key = TypeVar("Key")
Value = TypeVar("Value")


class BatchedReads(Generic[Key, Value]):
    """Gathers the questions that come while a read is under way, and asks them in the next one.

    So nobody is told what was read before they asked: an answer is as fresh as that of a read of
    one's own. A thread per question would cost more than the question: all threads of a process
    share one interpreter, and every row that a busy process fetches is another turn to wait for.

    `read` runs in a thread, one at a time, for at most `max_keys` different keys; what it has no
    value for is answered with None. To be used from one event loop.
    """

    def __init__(
        self, read: Callable[[Sequence[Key]], Mapping[Key, Value]], *, max_keys: int
    ) -> None:
        self._read = read
        self._max_keys = max_keys
        self._asked: dict[Key, asyncio.Future[Value | None]] = {}
        self._reading: asyncio.Task[None] | None = None
        # Of its own: those of the pool may all be busy with what takes long.
        self._thread = CapacityLimiter(1)

    async def get(self, key: Key) -> Value | None:
        """Raises what `read` raises."""
        answer = self._asked.get(key)
        if answer is None:
            answer = self._asked[key] = asyncio.get_running_loop().create_future()
            if self._reading is None:
                # In no one's context: the request that happens to come first is not what it is for.
                self._reading = asyncio.create_task(self._read_all(), context=Context())
        # Whoever goes away must not take the answer of the others along.
        return await asyncio.shield(answer)

    async def _read_all(self) -> None:
        try:
            while self._asked:
                keys = list(islice(self._asked, self._max_keys))
                answers = {key: self._asked.pop(key) for key in keys}
                try:
                    found = await to_thread.run_sync(self._read, keys, limiter=self._thread)
                except Exception as error:  # noqa: BLE001 - raised where it was asked for
                    for answer in answers.values():
                        answer.set_exception(error)
                        answer.exception()  # all who asked may be gone; that is no one's fault
                else:
                    for key, answer in answers.items():
                        answer.set_result(found.get(key))
        finally:
            self._reading = None
