"""What lasts: matrices on Zarr v3, data sets, the catalog of jobs. README.md is the map."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import zarr

__all__ = ["open_matrix"]


def open_matrix(root_url: str, matrix_id: str) -> zarr.Group:
    """A sealed matrix as a read-only zarr group; symmetric arrays appear whole.

    root_url: the service's store: the folder `store` in its data directory, as a path or `file://`
    URL, or the `s3://` URL that the service was given. A missing or damaged chunk raises
    MissingChunkError or CorruptChunkError when it is read; fill values are never made up. Raises
    NotFoundError, NotReadyError.
    """
    from storage.blobs import open_blobs
    from storage.view import open_group  # imports zarr, which most users of storage do not need

    return open_group(open_blobs(root_url), matrix_id)
