"""SIGKILL in the middle of bulk inserts: what was acknowledged is there, batches are whole."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest
import sqlalchemy as sa

from storage.catalog import Catalog, open_catalog
from support.catalogs import hex_digest, mx

BATCH = 400

WRITER = """
import sys
from storage.catalog import TileRecord, open_catalog

url, matrix, batch = sys.argv[1], sys.argv[2], int(sys.argv[3])
with open_catalog(url) as catalog:
    for i in range(1_000_000):
        tiles = [TileRecord("ntk", i, j, bytes(32), 0.5, 0.0, 1.0, 0, 8) for j in range(batch)]
        catalog.add_tiles(matrix, tiles)
        print(i, flush=True)
"""


@pytest.mark.parametrize("acknowledged", [1, 4])
def test_kill_in_the_middle_of_bulk_inserts(
    catalog: Catalog, catalog_url: str, acknowledged: int
) -> None:
    matrix = mx("k")
    catalog.add_matrix(matrix, "gram", {"id": matrix})
    catalog.close()
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, catalog_url, matrix, str(BATCH)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert writer.stdout is not None
    try:
        last = [int(writer.stdout.readline()) for _ in range(acknowledged)][-1]
    finally:
        # No pause: the writer is inside its next batch now.
        writer.send_signal(signal.SIGKILL)
        rest = writer.communicate()[0].split()
    if rest:
        last = int(rest[-1])
    assert writer.returncode == -signal.SIGKILL

    with open_catalog(catalog_url) as reopened:
        rows: dict[int, int] = {}
        for record in reopened.tiles(matrix):
            rows[record.i] = rows.get(record.i, 0) + 1
        # At most one batch was committed without its acknowledgement getting out.
        assert len(rows) in (last + 1, last + 2)
        assert rows == dict.fromkeys(range(len(rows)), BATCH)
        if reopened.url.startswith("sqlite"):
            with reopened._database.read() as session:
                assert session.scalar(sa.text("PRAGMA integrity_check")) == "ok"
        # And the next process goes on from there.
        reopened.add_tiles(matrix, list(reopened.tiles(matrix)))
        assert reopened.tile_count(matrix) == len(rows) * BATCH
        assert reopened.seal_matrix(matrix, hex_digest("k"), 1).sealed
