"""What signs webhooks, in the tables: one row for each project that has a secret.

Whoever rotates says which secret is to be replaced, so that two who rotate at the same time do not take away what the
other has just handed out.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import Executable, FromClause, bindparam, null, select, update

from service.store.statement import BatchStatement, Particulars, Query, columns_of, insert_rows
from service.store.tables import Key, webhook_secrets

_KEPT = columns_of(webhook_secrets, "project_id secret created_at")
_ROTATED = columns_of(webhook_secrets, "project_id secret created_at previous_secret previous_until")
_RETIRED = columns_of(webhook_secrets, "project_id previous_secret")


def _keep(rows: FromClause, database: Particulars) -> Executable:
    return insert_rows(webhook_secrets, _KEPT, rows, database)


def _rotate(rows: FromClause, database: Particulars) -> Executable:
    new = ("secret", "created_at", "previous_secret", "previous_until")
    return (
        update(webhook_secrets)
        .values({name: rows.c[name] for name in new})
        .where(
            webhook_secrets.c.project_id == rows.c.project_id,
            webhook_secrets.c.secret == rows.c.previous_secret,
        )
    )


def _retire(rows: FromClause, database: Particulars) -> Executable:
    return (
        update(webhook_secrets)
        .values(previous_secret=null(), previous_until=null())
        .where(
            webhook_secrets.c.project_id == rows.c.project_id,
            webhook_secrets.c.previous_secret == rows.c.previous_secret,
        )
    )


KEEP_SECRET = BatchStatement("keep webhook secret", _KEPT, _keep)
ROTATE_SECRET = BatchStatement("rotate webhook secret", _ROTATED, _rotate)
RETIRE_SECRET = BatchStatement("retire webhook secret", _RETIRED, _retire)
SIGNING: Final = (KEEP_SECRET, ROTATE_SECRET, RETIRE_SECRET)

SECRET = Query(
    "webhook secret",
    select(
        webhook_secrets.c.secret,
        webhook_secrets.c.created_at,
        webhook_secrets.c.previous_secret,
        webhook_secrets.c.previous_until,
    ).where(webhook_secrets.c.project_id == bindparam("project_id", type_=Key)),
)
