"""Many who ask at once: few reads, and nobody is told what was read before they asked."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from service.batched import BatchedReads


class Store:
    """Counts up at each read and can be made to wait in one."""

    def __init__(self) -> None:
        self.version = 0
        self.reads: list[list[str]] = []
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None

    def read(self, keys: Sequence[str]) -> dict[str, int]:
        self.reads.append(list(keys))
        version = self.version
        assert self.open.wait(20)
        if self.error is not None:
            raise self.error
        return {key: version for key in keys if key != "absent"}


async def begun(store: Store, count: int = 1) -> None:
    while len(store.reads) < count:
        await asyncio.sleep(0.001)


def test_who_asks_while_a_read_runs_gets_the_next_one() -> None:
    async def ask(store: Store) -> list[int | None]:
        reads = BatchedReads(store.read, max_keys=100)
        store.open.clear()
        early = asyncio.ensure_future(reads.get("a"))
        await begun(store)
        store.version = 1  # after the read has looked
        late = [asyncio.ensure_future(reads.get(key)) for key in ("a", "b", "a", "absent")]
        await asyncio.sleep(0.02)
        assert len(store.reads) == 1
        store.open.set()
        return list(await asyncio.gather(early, *late))

    store = Store()
    assert asyncio.run(ask(store)) == [0, 1, 1, 1, None]
    assert store.reads == [["a"], ["a", "b", "absent"]]


def test_no_read_is_larger_than_it_may_be() -> None:
    async def ask(store: Store) -> list[int | None]:
        reads = BatchedReads(store.read, max_keys=40)
        return list(await asyncio.gather(*(reads.get(str(n % 100)) for n in range(300))))

    store = Store()
    assert asyncio.run(ask(store)) == [0] * 300
    assert [len(keys) for keys in store.reads] == [40, 40, 20]


def test_a_failure_is_told_to_those_who_asked_and_to_nobody_else() -> None:
    async def ask(store: Store) -> int | None:
        reads = BatchedReads(store.read, max_keys=100)
        store.error = OSError("away")
        failed = await asyncio.gather(*(reads.get("a") for _ in range(3)), return_exceptions=True)
        assert failed == [store.error] * 3
        store.error = None
        return await reads.get("a")

    assert asyncio.run(ask(Store())) == 0


def test_whoever_goes_away_leaves_the_answer_to_the_others() -> None:
    async def ask(store: Store) -> int | None:
        reads = BatchedReads(store.read, max_keys=100)
        store.open.clear()
        first, second = (asyncio.ensure_future(reads.get("a")) for _ in range(2))
        await begun(store)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        store.open.set()
        return await second

    store = Store()
    assert asyncio.run(ask(store)) == 0
    assert store.reads == [["a"]]
