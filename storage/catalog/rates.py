"""Measured speeds, from which estimates are made."""

from __future__ import annotations

import math

import sqlalchemy as sa

from storage.catalog.database import Database
from storage.catalog.paging import now
from storage.catalog.tables import Rate


class Rates:
    _database: Database

    def record_rate(self, key: str, seconds_per_pair: float, pairs: int) -> None:
        """Add a measurement to those of `key` (kernel digest, features, dtype, device, ...)."""
        if pairs < 1 or not (math.isfinite(seconds_per_pair) and seconds_per_pair >= 0):
            raise ValueError(f"{seconds_per_pair} seconds per pair over {pairs} pairs")
        row = {
            "key": key,
            "seconds": seconds_per_pair * pairs,
            "pairs": pairs,
            "updated_at": now(),
        }
        statement = self._database.upsert(Rate, replace=["updated_at"], add=["seconds", "pairs"])
        with self._database.write() as session:
            session.execute(statement, [row])

    def rate(self, key: str) -> float | None:
        """Seconds per pair, averaged over all measured pairs; None if nothing was measured."""
        query = sa.select(Rate.seconds, Rate.pairs).where(Rate.key == key)
        with self._database.read() as session:
            row = session.execute(query).one_or_none()
        return None if row is None else float(row.seconds / row.pairs)
