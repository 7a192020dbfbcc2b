"""One service per data folder, or those that share a catalog; and no stale locks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from service.jobs.lock import DataDirLockedError, data_dir_lock

HOLDER = """
import sys, time
from pathlib import Path
from service.jobs.lock import data_dir_lock
with data_dir_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_folder_is_held_once_and_released(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "data"
    with data_dir_lock(folder):
        with pytest.raises(DataDirLockedError, match=str(os.getpid())), data_dir_lock(folder):
            pytest.fail("held twice")
        with data_dir_lock(tmp_path / "other"):
            pass
    with data_dir_lock(folder):
        pass


def test_a_killed_holder_leaves_no_lock(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with (
                pytest.raises(DataDirLockedError, match=f"process {holder.pid}"),
                data_dir_lock(tmp_path),
            ):
                pytest.fail("held twice")
        finally:
            holder.send_signal(signal.SIGKILL)
    with data_dir_lock(tmp_path):
        pass


def test_services_with_one_catalog_share_the_folder(tmp_path: Path) -> None:
    with data_dir_lock(tmp_path, shared_as="db:5432/gramian"):
        with data_dir_lock(tmp_path, shared_as="db:5432/gramian"):
            pass
        with (
            pytest.raises(DataDirLockedError, match="db:5432/gramian"),
            data_dir_lock(tmp_path, shared_as="db:5432/another"),
        ):
            pytest.fail("what one catalog does not know is garbage to it")
        with pytest.raises(DataDirLockedError, match="PostgreSQL"), data_dir_lock(tmp_path):
            pytest.fail("SQLite is for one service")
    with (
        data_dir_lock(tmp_path),
        pytest.raises(DataDirLockedError),
        data_dir_lock(tmp_path, shared_as="db:5432/gramian"),
    ):
        pytest.fail("SQLite is for one service")
    with data_dir_lock(tmp_path, shared_as="db:5432/another"):
        pass
