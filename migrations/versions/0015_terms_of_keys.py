"""Terms for what was asked with a key: those that were derived from before are given them by and by.

As in 0013, under a name that processes of the version before know nothing of: they go on with their own marks, which
say nothing of these terms.
"""

from __future__ import annotations

import uuid
from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_KEY = sa.LargeBinary(16).with_variant(postgresql.UUID(as_uuid=True), "postgresql")
_progress = sa.table("progress", sa.column("name", sa.Text()), sa.column("position", _KEY))
_leases = sa.table("leases", sa.column("interaction_id", _KEY), sa.column("kind", sa.Text()))


def upgrade() -> None:
    """Mark that none has them yet, where there are any, and who may go on to derive without them."""
    connection = op.get_bind()
    first: Any = bytes(16)
    behind: Any = b"\xff" * 8 + bytes(8)
    if connection.dialect.name != "sqlite":
        first, behind = uuid.UUID(bytes=first), uuid.UUID(bytes=behind)
    # Behind them come those who hold what was brought in open, and do nothing.
    chosen = sa.select(_leases.c.interaction_id).where(
        _leases.c.kind == "process", _leases.c.interaction_id < behind
    )
    processes = [key for (key,) in connection.execute(chosen)]
    some = connection.execute(sa.text("SELECT 1 FROM interactions LIMIT 1")).first()
    if some is None and not processes:
        return
    marks = [{"name": "terms of keys", "position": first}]
    marks += [
        {"name": f"terms of keys beside {number}", "position": key} for number, key in enumerate(processes, 1)
    ]
    connection.execute(sa.insert(_progress), marks)


def downgrade() -> None:
    """Forget how far that is; terms that nobody asks for harm nothing."""
    op.execute("DELETE FROM progress WHERE name LIKE 'terms of keys%'")
