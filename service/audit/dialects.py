"""Which database it is that a report reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sqlalchemy.dialects import postgresql, sqlite

from service.audit.dialect import Dialect
from service.audit.postgres import documents as postgres_documents
from service.audit.postgres import finding as postgres_finding
from service.audit.postgres import given_keys as postgres_keys
from service.audit.postgres import pages as postgres_pages
from service.audit.sqlite import documents as sqlite_documents
from service.audit.sqlite import finding as sqlite_finding
from service.audit.sqlite import given_keys as sqlite_keys
from service.audit.sqlite import pages as sqlite_pages
from service.store.reports import Reading

_DIALECTS: Final[Mapping[str, Dialect]] = {
    "sqlite": Dialect(
        insert=sqlite.insert,
        document=sqlite_documents.document,
        by_keys=sqlite_keys.by_keys,
        keys=sqlite_keys.keys_of,
        page=sqlite_pages.page,
        found=sqlite_finding.found,
        ranked=sqlite_finding.ranked,
        tidying=sqlite_documents.tidying,
        within=sqlite_keys.within,
    ),
    "postgresql": Dialect(
        insert=postgresql.insert,
        document=postgres_documents.document,
        by_keys=postgres_keys.by_keys,
        keys=postgres_keys.keys_of,
        page=postgres_pages.page,
        found=postgres_finding.found,
        ranked=postgres_finding.ranked,
    ),
}


def dialect_of(reading: Reading) -> Dialect:
    """The ways of the database that is read."""
    return _DIALECTS[reading.dialect]
