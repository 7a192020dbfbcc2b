"""How many bytes on the disk the catalog accounts for."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from storage.catalog.database import Database
from storage.catalog.tables import Dataset, Matrix, Tile


class Space:
    _database: Database

    def stored_bytes(self) -> int:
        """Bytes of all data sets and of all matrices, complete or not, without their previews."""
        with self._database.read() as session:
            datasets = session.scalar(sa.select(sa.func.sum(dataset_bytes())))
            matrices = session.scalar(sa.select(sa.func.sum(matrix_bytes())))
        # PostgreSQL sums bigint as numeric, which arrives as Decimal.
        return int(datasets or 0) + int(matrices or 0)


def dataset_bytes() -> sa.ColumnElement[int]:
    """Bytes of each row of `Dataset`."""
    # As text first: PostgreSQL would cast a JSON number to an integer of 32 bits.
    return sa.cast(Dataset.info["stored_bytes"].as_string(), sa.BigInteger)


def matrix_bytes() -> sa.ColumnElement[Any]:
    """Bytes of each row of `Matrix`: of all tiles once it is sealed, until then of those there."""
    tiles = (
        sa.select(sa.func.coalesce(sa.func.sum(Tile.stored_bytes), 0))
        .where(Tile.matrix_id == Matrix.id)
        .scalar_subquery()
    )
    return sa.func.coalesce(Matrix.stored_bytes, tiles)
