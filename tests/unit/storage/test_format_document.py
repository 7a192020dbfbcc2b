"""FORMAT.md tells the truth: its code reads its example, its sizes are those on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import storage
from storage.blobs import BlobStore, LocalBlobs
from support.matrices import sealed_gram

TEXT = (Path(storage.__file__).parent / "FORMAT.md").read_text()


@pytest.mark.parametrize(("shape", "symmetric"), [((1000, 1000), True), ((700, 300), False)])
def test_the_code_reads_what_gramian_wrote(
    tmp_path: Path, shape: tuple[int, int], symmetric: bool
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "FORMAT.md", "exec"), names)
    blobs = LocalBlobs(tmp_path)
    manifest, arrays = sealed_gram(blobs, shape, symmetric=symmetric, block_rows=256, tile_rows=512)
    folder = blobs.path(f"matrices/{manifest.id}")
    np.testing.assert_array_equal(names["read_array"](folder, "ntk"), arrays["ntk"], strict=True)


def test_the_example_lists_exactly_the_files(blobs: BlobStore) -> None:
    example = TEXT.partition("## Example")[2].split("```")[1]
    rows = re.findall(r"^matrices/mx-…/(\S+)(?: +(\d+) bytes)?", example, re.MULTILINE)
    manifest, _ = sealed_gram(blobs, (1000, 1000), block_rows=256, tile_rows=512)
    folder = f"matrices/{manifest.id}/"
    sizes = {key.removeprefix(folder): size for key, size in blobs.scan(folder.rstrip("/"))}
    assert {name for name, _ in rows} == set(sizes)
    assert {name: int(size) for name, size in rows if size} == {
        name: size for name, size in sizes.items() if "/c/" in name
    }
