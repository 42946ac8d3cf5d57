"""Terms for more of what interactions are: those that were derived from before are given them by and by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_progress = sa.table(
    "progress",
    sa.column("name", sa.Text()),
    sa.column("position", sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=False), "postgresql")),
)


def upgrade() -> None:
    """Mark that none has them yet, where there are any."""
    connection = op.get_bind()
    if connection.execute(sa.text("SELECT 1 FROM interactions LIMIT 1")).first() is not None:
        first = bytes(16) if connection.dialect.name == "sqlite" else "00000000-0000-0000-0000-000000000000"
        connection.execute(sa.insert(_progress).values(name="terms", position=first))


def downgrade() -> None:
    """Forget how far that is; terms that nobody asks for harm nothing."""
    op.execute("DELETE FROM progress WHERE name = 'terms'")
