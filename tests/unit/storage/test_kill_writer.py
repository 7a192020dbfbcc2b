"""kill -9 a process that writes chunks: what is there afterwards is whole."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from storage import matrices
from storage.blobs import LocalBlobs
from support.matrices import gram_manifest

KILLS = 12
WRITER = """
import json, sys
import numpy as np
from storage import matrices
from storage.blobs import open_blobs
from storage.format import MatrixManifest

blobs = open_blobs(sys.argv[1])
manifest = MatrixManifest.from_json(json.loads(sys.argv[2]))
print("ready", flush=True)
round_number = 0
while True:
    round_number += 1
    for i in range(2):
        for j in range(2):
            values = np.full((512, 512), 1000 * round_number + 10 * i + j, np.float32)
            matrices.write_chunk(blobs, manifest, "ntk", (i, j), values)
"""


def test_a_killed_writer_leaves_no_torn_chunk(tmp_path: Path) -> None:
    blobs = LocalBlobs(tmp_path / "store")
    manifest = gram_manifest((1024, 1024), symmetric=False, block_rows=512, tile_rows=512)
    matrices.create(blobs, manifest)
    command = [sys.executable, "-c", WRITER, blobs.url, json.dumps(manifest.to_json())]
    rng = np.random.default_rng(0)
    seen = set()
    leftovers = 0
    for attempt in range(10 * KILLS):
        if attempt >= KILLS and leftovers:
            break
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.002, 0.03))
            writer.kill()
        leftovers += len(list((tmp_path / "store").rglob(".tmp-*")))
        for coords in matrices.stored_coords(blobs, manifest, "ntk"):
            values = matrices.read_chunk(blobs, manifest, "ntk", coords)
            assert np.all(values == values[0, 0])  # of one round, not parts of two
            assert values[0, 0] % 1000 == 10 * coords[0] + coords[1]
            seen.add(coords)
        blobs.sweep_temporary(older_than_seconds=0)
        assert not list((tmp_path / "store").rglob(".tmp-*"))
    assert len(seen) == 4  # the writer did get somewhere
    assert leftovers > 0  # and was hit in the middle of a write at least once
