"""How often a tile has ended the worker that computed it, counted in the store.

Nobody else can tell: a worker that is killed says nothing, and Dask blames every task that the
worker had, not the one that ran. So the task notes that it begins; what it finds noted then are
trials that never came to an end. Only tasks of one tile do so: larger ones are split into such
when they end their workers, and are small work.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from storage.blobs import BlobStore
from storage.errors import NotFoundError, StoreUnavailableError
from workers.plan import Tile
from workers.stops import STOPS_FOLDER

logger = logging.getLogger(__name__)

MAX_DEATHS = 3
"""Of workers by one tile, before it is given up. Not more than Dask's allowed-failures: it would
give up first, and could blame a neighbour."""


def trials_folder(run: str) -> str:
    """Where the trials of a run are counted: beside its stop flag, to be forgotten with it."""
    return f"{STOPS_FOLDER}/{run}-trials"


@contextmanager
def trial(blobs: BlobStore, run: str, tile: Tile) -> Iterator[int]:
    """Around a trial of `tile`: gives how many earlier ones never came to an end.

    Where the store cannot be written nothing is counted: the tile itself tells of that.
    """
    key = f"{trials_folder(run)}/{tile[0]}-{tile[1]}"
    before = 0
    try:
        with suppress(NotFoundError):
            before = int(blobs.get(key))
        blobs.put(key, str(before + 1).encode())
    except (OSError, StoreUnavailableError) as error:
        logger.warning("A trial of tile %s is not counted: %s", tile, error)
    try:
        yield before
    finally:
        try:
            blobs.delete(key)
        except (OSError, StoreUnavailableError) as error:
            logger.warning("The trials of tile %s stay counted: %s", tile, error)
