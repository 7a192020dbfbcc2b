"""The name of the catalog itself, by which a store knows whose it is.

Revision: r0004

A catalog without one gets it when it is asked.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "r0004"
down_revision = "r0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "identity",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_identity")),
        sa.CheckConstraint("id = 1", name=op.f("ck_identity_one_row")),
    )


def downgrade() -> None:
    op.drop_table("identity")
