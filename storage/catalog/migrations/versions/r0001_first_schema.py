"""First schema: data sets, jobs and their events, matrices, tiles, rates.

Revision: r0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0001"
down_revision = None
branch_labels = None
depends_on = None

_WANTED = "state IN ('queued', 'running') AND target = 'run'"


def upgrade() -> None:
    op.create_table(
        "datasets",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("name", sa.Text()),
        sa.Column("info", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_datasets")),
    )
    op.create_index("ix_datasets_created_at_id", "datasets", ["created_at", "id"])

    op.create_table(
        "matrices",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("manifest", sa.JSON(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("digest", sa.String(64)),
        sa.Column("stored_bytes", sa.BigInteger()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("sealed_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_matrices")),
        sa.CheckConstraint("state IN ('building', 'sealed')", name=op.f("ck_matrices_state")),
        sa.CheckConstraint(
            "(state = 'sealed') = (digest IS NOT NULL)", name=op.f("ck_matrices_sealed_has_digest")
        ),
    )
    op.create_index("ix_matrices_created_at_id", "matrices", ["created_at", "id"])

    op.create_table(
        "matrix_inputs",
        sa.Column("matrix_id", sa.String(64), nullable=False),
        sa.Column("input_id", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("matrix_id", "input_id", name=op.f("pk_matrix_inputs")),
        _owned_by("matrix_inputs", "matrix_id", "matrices"),
    )
    op.create_index(op.f("ix_matrix_inputs_input_id"), "matrix_inputs", ["input_id"])

    op.create_table(
        "tiles",
        sa.Column("matrix_id", sa.String(64), nullable=False),
        sa.Column("array", sa.String(32), nullable=False),
        sa.Column("i", sa.Integer(), nullable=False),
        sa.Column("j", sa.Integer(), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("minimum", sa.Float(53)),
        sa.Column("maximum", sa.Float(53)),
        sa.Column("nonfinite", sa.BigInteger(), nullable=False),
        sa.Column("stored_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("matrix_id", "array", "i", "j", name=op.f("pk_tiles")),
        _owned_by("tiles", "matrix_id", "matrices"),
        sqlite_with_rowid=False,
    )

    op.create_table(
        "jobs",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("task", sa.JSON(), nullable=False),
        sa.Column("request_digest", sa.String(64), nullable=False),
        sa.Column("body_digest", sa.String(64), nullable=False),
        sa.Column("matrix_id", sa.String(64)),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("target", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("event_count", sa.BigInteger(), nullable=False),
        sa.Column("estimate", sa.JSON()),
        sa.Column("progress", sa.JSON()),
        sa.Column("error", sa.JSON()),
        sa.Column("result", sa.JSON()),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True)),
        sa.Column("finished_at", sa.DateTime(timezone=True)),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
        sa.CheckConstraint(
            "state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')",
            name=op.f("ck_jobs_state"),
        ),
        sa.CheckConstraint("target IN ('run', 'cancel')", name=op.f("ck_jobs_target")),
    )
    op.create_index(op.f("ix_jobs_request_digest"), "jobs", ["request_digest"])
    op.create_index(op.f("ix_jobs_matrix_id"), "jobs", ["matrix_id"])
    op.create_index("ix_jobs_created_at_id", "jobs", ["created_at", "id"])
    op.create_index("ix_jobs_state_created_at_id", "jobs", ["state", "created_at", "id"])
    op.create_index(
        "uq_jobs_wanted_request",
        "jobs",
        ["request_digest"],
        unique=True,
        sqlite_where=sa.text(_WANTED),
        postgresql_where=sa.text(_WANTED),
    )

    op.create_table(
        "job_inputs",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("input_id", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "input_id", name=op.f("pk_job_inputs")),
        _owned_by("job_inputs", "job_id", "jobs"),
    )
    op.create_index(op.f("ix_job_inputs_input_id"), "job_inputs", ["input_id"])

    op.create_table(
        "idempotency_keys",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body_digest", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_idempotency_keys")),
        _owned_by("idempotency_keys", "job_id", "jobs"),
    )
    op.create_index(op.f("ix_idempotency_keys_job_id"), "idempotency_keys", ["job_id"])

    op.create_table(
        "events",
        sa.Column("job_id", sa.String(64), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("type", sa.String(64), nullable=False),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job_id", "sequence", name=op.f("pk_events")),
        _owned_by("events", "job_id", "jobs"),
    )

    op.create_table(
        "rates",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("seconds", sa.Float(53), nullable=False),
        sa.Column("pairs", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_rates")),
    )


def downgrade() -> None:
    # Rows that refer to others first.
    for table in (
        "rates",
        "events",
        "idempotency_keys",
        "job_inputs",
        "jobs",
        "tiles",
        "matrix_inputs",
        "matrices",
        "datasets",
    ):
        op.drop_table(table)


def _owned_by(table: str, column: str, owner: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        [column], [f"{owner}.id"], name=op.f(f"fk_{table}_{column}"), ondelete="CASCADE"
    )
