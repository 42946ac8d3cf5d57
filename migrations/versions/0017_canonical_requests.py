"""Digests of requests are made anew: the ids of tools upstream and ``fallbacks`` count no more.

Processes of a version before, where some still run, make digests in its form of what comes meanwhile.
"""

from __future__ import annotations

from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Forget them: whoever asks for a recorded answer has them made."""
    _forget()


def downgrade() -> None:
    """Forget those of this form."""
    _forget()


def _forget() -> None:
    op.execute("DELETE FROM recordings")
    op.execute("DELETE FROM progress WHERE name = 'recordings'")
