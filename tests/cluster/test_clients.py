"""Clients of a cluster keep to themselves: nothing else in the process is sent to Dask."""

from __future__ import annotations

import gc
from collections import UserList

import dask
import pytest
from distributed import Client, LocalCluster

from workers.cluster import SHORT_LOGS, ClusterSettings, connect
from workers.futures import fetch, wait_for_one

pytestmark = pytest.mark.cluster


def test_a_client_never_becomes_the_default(shared_client: Client) -> None:
    before = dask.config.get("scheduler", None)
    address = str(shared_client.scheduler.address)
    settings = ClusterSettings(scheduler_address=address)
    first, second = connect(settings), connect(settings)
    assert dask.config.get("scheduler", None) == before
    first.close()  # not in reverse order, as when a service connects anew
    second.close()
    assert dask.config.get("scheduler", None) == before


def test_waiting_asks_the_client_whose_futures_they_are(shared_client: Client) -> None:
    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as default,
    ):
        assert Client.current() is default
        future = shared_client.submit(abs, -7, pure=False)
        wait_for_one(shared_client, [future], seconds=60)
        assert fetch(future) == 7
        assert Client.current() is default


def test_tasks_that_are_done_do_not_stay_in_memory(shared_client: Client) -> None:
    for n in range(300):
        assert shared_client.submit(len, UserList(["sent", n]), pure=False).result() == 2
    gc.collect()
    kept = {
        found[1]
        for found in gc.get_objects()
        if isinstance(found, UserList) and found[:1] == ["sent"]
    }
    # One task was under way at a time, so that no message holds two; each of three connections
    # (this client's and those of two workers) keeps its newest messages.
    assert len(kept) <= 3 * SHORT_LOGS["distributed.admin.low-level-log-length"]
