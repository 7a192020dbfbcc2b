"""The tables of the catalog. A change here needs a migration (README.md); a test compares both."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    DateTime,
    Dialect,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    TypeDecorator,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from storage.catalog.states import JobState, Target


class UtcDateTime(TypeDecorator[datetime]):
    """Timezone-aware UTC datetimes, also on SQLite, which keeps no time zones."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    # Every constraint has a name that follows from its columns, so that migrations on both
    # databases can refer to it.
    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
        }
    )
    type_annotation_map = {  # noqa: RUF012 - read by SQLAlchemy, not an attribute of instances
        datetime: UtcDateTime(),
        int: BigInteger(),
        float: Float(53),
    }


Id = String(64)
JsonObject = JSON(none_as_null=True)
Digest = String(64)
Name = String(64)


class Dataset(Base):
    __tablename__ = "datasets"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    name: Mapped[str | None] = mapped_column(Text)
    info: Mapped[dict[str, Any]] = mapped_column(JsonObject)
    created_at: Mapped[datetime]

    __table_args__ = (Index("ix_datasets_created_at_id", "created_at", "id"),)


class Matrix(Base):
    __tablename__ = "matrices"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    kind: Mapped[str] = mapped_column(String(32))
    manifest: Mapped[dict[str, Any]] = mapped_column(JsonObject)
    state: Mapped[str] = mapped_column(String(16))
    digest: Mapped[str | None] = mapped_column(Digest)
    stored_bytes: Mapped[int | None]
    created_at: Mapped[datetime]
    sealed_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("state IN ('building', 'sealed')", name="state"),
        CheckConstraint("(state = 'sealed') = (digest IS NOT NULL)", name="sealed_has_digest"),
        Index("ix_matrices_created_at_id", "created_at", "id"),
    )


class MatrixInput(Base):
    """Data sets and matrices that a matrix was computed from. Input matrices may be gone."""

    __tablename__ = "matrix_inputs"

    matrix_id: Mapped[str] = mapped_column(
        ForeignKey("matrices.id", ondelete="CASCADE"), type_=Id, primary_key=True
    )
    input_id: Mapped[str] = mapped_column(Id, primary_key=True, index=True)


class Tile(Base):
    """One row per finished tile; up to millions, so the table is its own index on SQLite."""

    __tablename__ = "tiles"

    matrix_id: Mapped[str] = mapped_column(
        ForeignKey("matrices.id", ondelete="CASCADE"), type_=Id, primary_key=True
    )
    array: Mapped[str] = mapped_column(String(32), primary_key=True)
    i: Mapped[int] = mapped_column(Integer, primary_key=True)
    j: Mapped[int] = mapped_column(Integer, primary_key=True)
    digest: Mapped[bytes] = mapped_column(LargeBinary(32))
    seconds: Mapped[float]
    minimum: Mapped[float | None]
    maximum: Mapped[float | None]
    nonfinite: Mapped[int]
    stored_bytes: Mapped[int]

    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012


class Job(Base):
    __tablename__ = "jobs"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    # Who submitted it first; None: submitted before there were owners.
    owner: Mapped[str | None] = mapped_column(Name)
    task: Mapped[dict[str, Any]] = mapped_column(JsonObject)
    request_digest: Mapped[str] = mapped_column(Digest, index=True)
    body_digest: Mapped[str] = mapped_column(Digest)
    # No foreign key: the matrix appears when the job starts, and may be deleted after it ended.
    matrix_id: Mapped[str | None] = mapped_column(Id, index=True)
    state: Mapped[str] = mapped_column(String(16))
    target: Mapped[str] = mapped_column(String(16))
    attempts: Mapped[int] = mapped_column(Integer)
    event_count: Mapped[int]  # the last event number handed out
    estimate: Mapped[dict[str, Any] | None] = mapped_column(JsonObject)
    progress: Mapped[dict[str, Any] | None] = mapped_column(JsonObject)
    error: Mapped[dict[str, Any] | None] = mapped_column(JsonObject)
    result: Mapped[dict[str, Any] | None] = mapped_column(JsonObject)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    updated_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')", name="state"
        ),
        CheckConstraint("target IN ('run', 'cancel')", name="target"),
        Index("ix_jobs_created_at_id", "created_at", "id"),
        Index("ix_jobs_state_created_at_id", "state", "created_at", "id"),
        # At most one job that is wanted works on a request: two clients that post the same
        # request at once meet here, whatever their processes saw a moment earlier.
        Index(
            "uq_jobs_wanted_request",
            "request_digest",
            unique=True,
            sqlite_where=text("state IN ('queued', 'running') AND target = 'run'"),
            postgresql_where=text("state IN ('queued', 'running') AND target = 'run'"),
        ),
    )


class Lease(Base):
    """Who may work on a job, or do what only one service may, for now (leases.py).

    `name`: the id of an open job, or a word. No foreign key: words are no jobs. The row of a job
    goes when the job ends.
    """

    __tablename__ = "leases"

    name: Mapped[str] = mapped_column(Id, primary_key=True)
    holder: Mapped[str] = mapped_column(Name)
    generation: Mapped[int]  # how many times it was taken
    expires_at: Mapped[datetime]


class JobInput(Base):
    """Data sets and matrices that a job reads. Inputs of ended jobs may be gone."""

    __tablename__ = "job_inputs"

    job_id: Mapped[str] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), type_=Id, primary_key=True
    )
    input_id: Mapped[str] = mapped_column(Id, primary_key=True, index=True)


class IdempotencyKey(Base):
    """Which job answered the first request that carried a key."""

    __tablename__ = "idempotency_keys"

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    body_digest: Mapped[str] = mapped_column(Digest)
    job_id: Mapped[str] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), type_=Id, index=True
    )
    created_at: Mapped[datetime]


class Event(Base):
    __tablename__ = "events"

    job_id: Mapped[str] = mapped_column(
        ForeignKey("jobs.id", ondelete="CASCADE"), type_=Id, primary_key=True
    )
    sequence: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    type: Mapped[str] = mapped_column(String(64))
    data: Mapped[dict[str, Any]] = mapped_column(JsonObject)
    created_at: Mapped[datetime]


class Identity(Base):
    """One row: what this catalog is called (identity.py)."""

    __tablename__ = "identity"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Name)

    __table_args__ = (CheckConstraint("id = 1", name="one_row"),)


class Rate(Base):
    """Measured speed of a kernel: total seconds over total pairs, per key."""

    __tablename__ = "rates"

    key: Mapped[str] = mapped_column(Text, primary_key=True)
    seconds: Mapped[float]
    pairs: Mapped[int]
    updated_at: Mapped[datetime]


class ApiKey(Base):
    """A key by its SHA-256. Revoked and expired keys stay: what they did is in the audit log."""

    __tablename__ = "api_keys"

    id: Mapped[str] = mapped_column(Id, primary_key=True)  # the public beginning of the key
    digest: Mapped[str] = mapped_column(Digest, unique=True)
    owner: Mapped[str] = mapped_column(Name, index=True)
    scope: Mapped[str] = mapped_column(String(16))
    note: Mapped[str | None] = mapped_column(Text)
    # Quotas; NULL: only the limits of the service.
    max_open_jobs: Mapped[int | None]
    max_stored_bytes: Mapped[int | None]
    max_matrix_rows: Mapped[int | None]
    max_requests_per_minute: Mapped[int | None]
    created_by: Mapped[str] = mapped_column(Name)
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    __table_args__ = (
        CheckConstraint("scope IN ('read', 'submit', 'admin')", name="scope"),
        Index("ix_api_keys_created_at_id", "created_at", "id"),
    )


class Grant(Base):
    """Who owns or may read a data set, a job or a matrix.

    No foreign key: the thing is in one of three tables, and a matrix has owners before it has a
    row. Whoever deletes a thing deletes its grants in the same transaction.
    """

    __tablename__ = "grants"

    thing_id: Mapped[str] = mapped_column(Id, primary_key=True)
    grantee: Mapped[str] = mapped_column(Name, primary_key=True)  # a name, or * for everybody
    role: Mapped[str] = mapped_column(String(16))
    created_at: Mapped[datetime]

    __table_args__ = (
        CheckConstraint("role IN ('owner', 'reader')", name="role"),
        Index("ix_grants_grantee_role", "grantee", "role"),
    )


class AuditEntry(Base):
    """One thing that somebody did, or was forbidden to do."""

    __tablename__ = "audit"

    id: Mapped[str] = mapped_column(Id, primary_key=True)
    created_at: Mapped[datetime]
    owner: Mapped[str] = mapped_column(Name)
    key_id: Mapped[str] = mapped_column(Id)
    action: Mapped[str] = mapped_column(Text)  # method and route template
    thing: Mapped[str] = mapped_column(Text)  # path of what it was done to, or what it made
    status: Mapped[int] = mapped_column(Integer)
    request_id: Mapped[str] = mapped_column(Text)

    __table_args__ = (
        Index("ix_audit_created_at_id", "created_at", "id"),
        Index("ix_audit_owner_created_at_id", "owner", "created_at", "id"),
    )


OPEN_STATES = (JobState.QUEUED.value, JobState.RUNNING.value)
WANTED = Target.RUN.value
