from __future__ import annotations

from pathlib import Path

import pytest

from service.errors import ConfigurationError
from service.store.codec import Codec
from service.store.engine import normalised_url, open_backend
from service.store.postgres import PostgresBackend
from service.store.records import storable
from service.store.sqlite import SqliteBackend
from tests.support.store import open_store


@pytest.mark.parametrize(
    ("given", "driver"),
    [
        ("sqlite:///file.db", "sqlite+aiosqlite"),
        ("sqlite+aiosqlite:////absolute/file.db", "sqlite+aiosqlite"),
        ("postgres://u:p@host/db", "postgresql+asyncpg"),
        ("postgresql://u:p@host/db", "postgresql+asyncpg"),
        ("postgresql+asyncpg://u:p@host/db", "postgresql+asyncpg"),
    ],
)
def test_a_url_gets_the_driver_of_this_service(given: str, driver: str) -> None:
    assert normalised_url(given).drivername == driver


@pytest.mark.parametrize("given", ["", "nonsense", "mysql://host/db", "sqlite://", "sqlite:///:memory:"])
def test_any_other_url_is_refused_with_a_remedy(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"database_url: .*write sqlite:///FILE"):
        normalised_url(given)


def test_the_url_chooses_the_backend() -> None:
    assert isinstance(open_backend("sqlite:///file.db", Codec(), pool_limit=1), SqliteBackend)
    assert isinstance(open_backend("postgres://host/db", Codec(), pool_limit=1), PostgresBackend)


async def test_a_sqlite_file_that_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="SQLite cannot use the file"):
        async with open_store(f"sqlite:///{tmp_path / 'missing' / 'interactions.db'}"):
            pass


async def test_a_postgres_server_that_is_not_there_is_refused(unused_tcp_port: int) -> None:
    with pytest.raises(ConfigurationError, match="PostgreSQL cannot be used"):
        async with open_store(f"postgresql://user@127.0.0.1:{unused_tcp_port}/missing"):
            pass


@pytest.mark.parametrize(
    ("given", "kept"),
    [(None, None), ("", ""), ("plain", "plain"), ("\0a\0", "\ufffda\ufffd"), ("é😀", "é😀")],
)
def test_text_is_kept_as_both_databases_take_it(given: str | None, kept: str | None) -> None:
    assert storable(given) == kept
