"""Whose a store is: one catalog's. To another one what lies there is garbage, to be collected.

A folder inside the data folder is guarded by the lock of that folder; a bucket or a folder
elsewhere holds the name of its catalog.
"""

from __future__ import annotations

import json

from storage.blobs import BlobStore
from storage.errors import ConflictError

KEY = "store.json"


class StoreTakenError(ConflictError):
    """The store belongs to another catalog."""

    kind = "store-taken"


def claim(blobs: BlobStore, catalog: str) -> None:
    """Make the store that of a catalog, by its `identity`; nothing happens if it is.

    Raises StoreTakenError if it is another's.
    """
    document = json.dumps({"catalog": catalog}).encode()
    if blobs.put_if_absent(KEY, document):
        return
    owner = json.loads(blobs.get(KEY))["catalog"]
    if owner != catalog:
        raise StoreTakenError(
            f"The store belongs to catalog {owner}, not to {catalog}.",
            advice=f"Choose another prefix, or set the catalog that it belongs to. If that one is"
            f" lost, delete the object {KEY} of the store: what is stored is found again.",
        )
