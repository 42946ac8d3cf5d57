"""Sums over fractions of hours, for time zones whose hours begin within those of UTC: which hours have them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

#: The grain of fewest series, which every interaction is counted in, and the roll-ups of whole hours.
_GRAIN = 1
_HOUR = 3_600_000_000


def _key() -> sa.types.TypeEngine[Any]:
    return sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")


def upgrade() -> None:
    """Add the table, with every hour that there is something of: all are to be split by and by."""
    op.create_table(
        "split_hours",
        sa.Column("project_id", _key(), primary_key=True),
        sa.Column("start", sa.BigInteger(), primary_key=True, autoincrement=False),
        sa.Column("requests", sa.BigInteger()),
        sa.Column("unmeasured", sa.BigInteger()),
        sqlite_with_rowid=False,
    )
    due = sa.text("requests IS NULL")
    op.create_index("ix_split_hours_due", "split_hours", ["start"], sqlite_where=due, postgresql_where=due)
    op.execute(
        "INSERT INTO split_hours (project_id, start) SELECT DISTINCT project_id, start FROM rollups "  # noqa: S608
        f"WHERE grain = {_GRAIN} AND span = {_HOUR}"
    )


def downgrade() -> None:
    """Remove the table, and the sums that nobody knows the use of without it."""
    op.execute(f"DELETE FROM rollups WHERE span < {_HOUR}")  # noqa: S608
    op.drop_table("split_hours")
