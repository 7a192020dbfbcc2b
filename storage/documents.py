"""The `zarr.json` documents of matrices and data sets, written by zarr itself.

zarr builds the documents in memory from the same arguments that a user would pass, so they are
what the installed zarr version considers right. Importing zarr takes most of a second; only the
functions here and `view.py` do it, when they are called.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from storage.chunks import fill_value

GROUP_DOCUMENT = "zarr.json"


@dataclass(frozen=True)
class ArrayDocument:
    """What `array_documents` needs to know about one array."""

    name: str
    shape: tuple[int, ...]
    chunk_shape: tuple[int, ...]
    dtype: str
    dimension_names: tuple[str, ...]
    attributes: Mapping[str, Any] = field(default_factory=dict)


def array_key(name: str) -> str:
    return f"{name}/{GROUP_DOCUMENT}"


def group_documents(
    arrays: Sequence[ArrayDocument], attributes: Mapping[str, Any]
) -> dict[str, bytes]:
    """`zarr.json` of a group (with consolidated metadata) and of its arrays, by relative key.

    The group's own document is the last one, in the order in which they must be published.
    Consolidated metadata is what lets readers over HTTP, where nothing can be listed, find the
    arrays of a group; it has the inline form that zarr-python writes.
    """
    import zarr
    from zarr.codecs import BytesCodec, Crc32cCodec
    from zarr.storage import MemoryStore

    stored: dict[str, Any] = {}
    group = zarr.create_group(MemoryStore(stored), attributes=dict(attributes), zarr_format=3)
    for array in arrays:
        group.create_array(
            array.name,
            shape=array.shape,
            chunks=array.chunk_shape,
            dtype=array.dtype,
            fill_value=fill_value(array.dtype),
            filters=None,
            serializer=BytesCodec(endian="little"),
            compressors=[Crc32cCodec()],
            dimension_names=array.dimension_names,
            attributes=dict(array.attributes),
        )
    parsed = {key: json.loads(buffer.to_bytes()) for key, buffer in stored.items()}
    documents = {array_key(array.name): parsed[array_key(array.name)] for array in arrays}
    root = parsed[GROUP_DOCUMENT]
    root["consolidated_metadata"] = {
        "kind": "inline",
        "must_understand": False,
        "metadata": {array.name: documents[array_key(array.name)] for array in arrays},
    }
    documents[GROUP_DOCUMENT] = root
    return {
        key: json.dumps(document, indent=2, allow_nan=False).encode()
        for key, document in documents.items()
    }


def dimension_names(name: str, rank: int, *, shared: bool) -> tuple[str, ...]:
    """Names of an array's dimensions: `row`, `column`, `axis_2`, ...

    xarray takes dimensions of one name to have one length, so arrays of different shapes in one
    group (`shared` false) prefix their own name.
    """
    names = ("row", "column", *(f"axis_{axis}" for axis in range(2, rank)))[:rank]
    return names if shared else tuple(f"{name}_{dimension}" for dimension in names)
