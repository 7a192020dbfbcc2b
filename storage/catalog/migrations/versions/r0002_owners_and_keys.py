"""API keys, owners and readers, the audit log.

Revision: r0002

What was there before has no owner: only administrators (and an open service) see it.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0002"
down_revision = "r0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "api_keys",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("scope", sa.String(16), nullable=False),
        sa.Column("note", sa.Text()),
        sa.Column("max_open_jobs", sa.BigInteger()),
        sa.Column("max_stored_bytes", sa.BigInteger()),
        sa.Column("max_matrix_rows", sa.BigInteger()),
        sa.Column("max_requests_per_minute", sa.BigInteger()),
        sa.Column("created_by", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True)),
        sa.Column("revoked_at", sa.DateTime(timezone=True)),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("digest", name=op.f("uq_api_keys_digest")),
        sa.CheckConstraint("scope IN ('read', 'submit', 'admin')", name=op.f("ck_api_keys_scope")),
    )
    op.create_index(op.f("ix_api_keys_owner"), "api_keys", ["owner"])
    op.create_index("ix_api_keys_created_at_id", "api_keys", ["created_at", "id"])

    op.create_table(
        "grants",
        sa.Column("thing_id", sa.String(64), nullable=False),
        sa.Column("grantee", sa.String(64), nullable=False),
        sa.Column("role", sa.String(16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("thing_id", "grantee", name=op.f("pk_grants")),
        sa.CheckConstraint("role IN ('owner', 'reader')", name=op.f("ck_grants_role")),
    )
    op.create_index("ix_grants_grantee_role", "grants", ["grantee", "role"])

    op.create_table(
        "audit",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("key_id", sa.String(64), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("thing", sa.Text(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_created_at_id", "audit", ["created_at", "id"])
    op.create_index("ix_audit_owner_created_at_id", "audit", ["owner", "created_at", "id"])

    # Both databases add a nullable column in place; no row is rewritten.
    op.add_column("jobs", sa.Column("owner", sa.String(64)))


def downgrade() -> None:
    # SQLite drops a column in place too (3.35 and newer), which keeps the rows that refer to jobs.
    op.drop_column("jobs", "owner")
    for table in ("audit", "grants", "api_keys"):
        op.drop_table(table)
