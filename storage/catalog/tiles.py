"""One record per finished tile: the truth about progress. Sized for millions of tiles."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.catalog.database import Database, affected_rows
from storage.catalog.matrices import lock
from storage.catalog.records import MatrixState, TileRecord, TileSummary
from storage.catalog.tables import Tile
from storage.errors import ConflictError

DEFAULT_BATCH_ROWS = 5000

_VALUES = ("digest", "seconds", "minimum", "maximum", "nonfinite", "stored_bytes")
# Bound by SQLite's number of parameters per statement.
_COMPARE_ROWS = 200


class Tiles:
    _database: Database

    def add_tiles(self, matrix_id: str, tiles: Iterable[TileRecord]) -> None:
        """Record finished tiles, all or none; a tile recorded before is overwritten.

        Raises NotFoundError without such a matrix. On a sealed matrix, tiles that are recorded
        with the same digests are accepted (a late retry) and others raise ConflictError.
        """
        # Sorted, so that two transactions which overwrite the same tiles cannot deadlock.
        rows = [_row(matrix_id, tile) for tile in sorted(tiles, key=_key)]
        if not rows:
            return
        with self._database.write() as session:
            # Shared: batches of one matrix may be recorded side by side, but not while it seals.
            matrix = lock(session, matrix_id, shared=True)
            if matrix.state == MatrixState.SEALED:
                _refuse_changes(session, matrix_id, rows)
                return
            session.execute(self._database.upsert(Tile, replace=_VALUES), rows)

    def tiles(
        self,
        matrix_id: str,
        array: str | None = None,
        *,
        batch_rows: int = DEFAULT_BATCH_ROWS,
    ) -> Iterator[TileRecord]:
        """The recorded tiles, one by one, ordered by (array, i, j), in memory for `batch_rows`.

        Each batch is a transaction of its own, so a slow consumer holds no snapshot open; tiles
        that are recorded during the iteration may or may not appear.
        """
        query: sa.Select[Any] = sa.select(*_COLUMNS).where(Tile.matrix_id == matrix_id)
        # What equality fixes must not also be in the row comparison: SQLite would then search by
        # the equality alone and skip the earlier tiles one by one.
        position: tuple[Any, ...] = (Tile.array, Tile.i, Tile.j)
        if array is not None:
            query = query.where(Tile.array == array)
            position = (Tile.i, Tile.j)
        query = query.order_by(Tile.array, Tile.i, Tile.j).limit(batch_rows)
        following = query
        while True:
            with self._database.read() as session:
                batch = [_tile(row) for row in session.execute(following)]
            yield from batch
            if len(batch) < batch_rows:
                return
            last = _key(batch[-1])[-len(position) :]
            following = query.where(sa.tuple_(*position) > sa.tuple_(*map(sa.literal, last)))

    def tile_count(self, matrix_id: str, array: str | None = None) -> int:
        query = sa.select(sa.func.count()).where(Tile.matrix_id == matrix_id)
        if array is not None:
            query = query.where(Tile.array == array)
        with self._database.read() as session:
            return session.scalar(query) or 0

    def tile_groups(
        self, matrix_id: str, array: str, tiles_per_group: int
    ) -> list[tuple[int, int, int, float]]:
        """Recorded tiles in square groups: row and column of the group, number, and seconds.

        The database counts: a million tiles take it a second, and groups without tiles are left
        out.
        """
        row, column = Tile.i // tiles_per_group, Tile.j // tiles_per_group
        query = (
            sa.select(row, column, sa.func.count(), sa.func.sum(Tile.seconds))
            .where(Tile.matrix_id == matrix_id, Tile.array == array)
            .group_by(row, column)
        )
        with self._database.read() as session:
            return [
                (int(i), int(j), int(count), float(seconds))
                for i, j, count, seconds in session.execute(query)
            ]

    def tile_summary(self, matrix_id: str, array: str | None = None) -> TileSummary:
        """Totals over the recorded tiles, computed by the database."""
        query = sa.select(
            sa.func.count(),
            sa.func.sum(Tile.stored_bytes),
            sa.func.sum(Tile.nonfinite),
            sa.func.sum(Tile.seconds),
            sa.func.min(Tile.minimum),
            sa.func.max(Tile.maximum),
        ).where(Tile.matrix_id == matrix_id)
        if array is not None:
            query = query.where(Tile.array == array)
        with self._database.read() as session:
            count, stored, nonfinite, seconds, minimum, maximum = session.execute(query).one()
        return TileSummary(
            tiles=count,
            # PostgreSQL sums bigint as numeric, which arrives as Decimal.
            stored_bytes=int(stored or 0),
            nonfinite=int(nonfinite or 0),
            seconds=float(seconds or 0.0),
            minimum=minimum,
            maximum=maximum,
        )

    def delete_tiles(self, matrix_id: str, array: str | None = None) -> int:
        """Forget the tiles of a matrix that is not sealed; the number deleted.

        Raises NotFoundError, ConflictError.
        """
        statement = sa.delete(Tile).where(Tile.matrix_id == matrix_id)
        if array is not None:
            statement = statement.where(Tile.array == array)
        with self._database.write() as session:
            if lock(session, matrix_id).state == MatrixState.SEALED:
                raise _sealed(matrix_id)
            gone = session.execute(statement.execution_options(synchronize_session=False))
            return affected_rows(gone)


# Columns of the plain table: the ORM would double the cost of a million rows.
_COLUMNS = tuple(Tile.__table__.c[field.name] for field in fields(TileRecord))


def _key(tile: TileRecord) -> tuple[str, int, int]:
    return tile.array, tile.i, tile.j


def _row(matrix_id: str, tile: TileRecord) -> dict[str, Any]:
    if len(tile.digest) != 32:
        raise ValueError(f"a tile digest of {len(tile.digest)} bytes; 32 are needed")
    return {
        "matrix_id": matrix_id,
        "array": tile.array,
        "i": int(tile.i),
        "j": int(tile.j),
        "digest": bytes(tile.digest),
        "seconds": float(tile.seconds),
        # SQLite stores NaN as NULL and PostgreSQL sorts it above all numbers; as NULL on both,
        # a tile without finite values does not take part in the minimum and the maximum.
        "minimum": None if math.isnan(tile.minimum) else float(tile.minimum),
        "maximum": None if math.isnan(tile.maximum) else float(tile.maximum),
        "nonfinite": int(tile.nonfinite),
        "stored_bytes": int(tile.stored_bytes),
    }


def _tile(row: Sequence[Any]) -> TileRecord:
    array, i, j, digest, seconds, minimum, maximum, nonfinite, stored_bytes = row
    return TileRecord(
        array=array,
        i=i,
        j=j,
        digest=digest,
        seconds=seconds,
        minimum=math.nan if minimum is None else minimum,
        maximum=math.nan if maximum is None else maximum,
        nonfinite=nonfinite,
        stored_bytes=stored_bytes,
    )


def _refuse_changes(session: Session, matrix_id: str, rows: list[dict[str, Any]]) -> None:
    for start in range(0, len(rows), _COMPARE_ROWS):
        part = rows[start : start + _COMPARE_ROWS]
        keys = [(row["array"], row["i"], row["j"]) for row in part]
        query = sa.select(Tile.array, Tile.i, Tile.j, Tile.digest).where(
            Tile.matrix_id == matrix_id, sa.tuple_(Tile.array, Tile.i, Tile.j).in_(keys)
        )
        stored = {(array, i, j): digest for array, i, j, digest in session.execute(query)}
        for row, key in zip(part, keys, strict=True):
            if stored.get(key) != row["digest"]:
                raise _sealed(matrix_id, array=key[0], i=key[1], j=key[2])


def _sealed(matrix_id: str, **details: Any) -> ConflictError:
    return ConflictError(
        f"Matrix {matrix_id} is sealed: its tiles cannot change.",
        advice="Delete the matrix to build it anew.",
        **details,
    )
