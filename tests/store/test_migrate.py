from __future__ import annotations

import asyncio
import subprocess
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

import service
from service.errors import ConfigurationError
from service.store import migrate
from service.store.engine import open_engine
from service.store.partitions import DAYS_AHEAD
from service.store.tables import DEFAULT_PROJECT, PARTITIONED, metadata
from service.wire import ids
from tests.support.store import completed, intent, is_sqlite, open_store, query, sqlite_path


def with_parameter(url: str, parameter: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{parameter}"


def is_ours(name: str | None, kind: str, parents: Any) -> bool:
    """Partitions are no tables of the schema, and what is searched differs from one database to the other."""
    others = (*(f"{table}_" for table in PARTITIONED), "search_")
    return kind != "table" or not (name or "").startswith(others)


def differences(connection: Connection) -> list[Any]:
    options = {"compare_type": True, "include_name": is_ours}
    found: list[Any] = compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    return found


async def tables(url: str) -> set[str]:
    catalogue = (
        "SELECT name FROM sqlite_master WHERE type = 'table'"
        if is_sqlite(url)
        else "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    )
    return {name for (name,) in await query(url, catalogue)}


def test_the_newest_migration_is_the_one_the_code_expects() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(service.__file__).parent.parent / "migrations"))
    assert ScriptDirectory.from_config(config).get_heads() == [migrate.SCHEMA_REVISION]


async def test_the_migrated_schema_is_the_one_the_code_uses(database_url: str) -> None:
    await migrate.upgrade(database_url)
    engine = open_engine(database_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


async def test_migrations_run_up_down_and_up_again(database_url: str) -> None:
    for _ in range(2):
        await migrate.upgrade(database_url)
        async with open_store(database_url) as opened:
            key = await completed(opened.store, response=b"answer")
            assert await opened.store.find(DEFAULT_PROJECT, key) is not None
        assert await query(database_url, "SELECT count(*) FROM interactions") == [(1,)]
        assert await query(database_url, "SELECT name FROM projects") == [("default",)]
        await migrate.downgrade(database_url, "base")
        assert await tables(database_url) <= {"alembic_version"}


async def test_leases_are_kept_and_used_by_whoever_runs_while_their_columns_come_and_go(
    database_url: str,
) -> None:
    await migrate.upgrade(database_url)
    me, minute = ids.mint(), 60_000_000
    async with open_store(database_url) as opened:
        held = opened.store.held
        await held.enter(me, 0)
        begun = [intent(owner_id=me) for _ in range(3)]
        for one in begun:
            await opened.store.begin(one, b"{}")
        wished = [one.id for one in begun]
        for name, revision in zip(wished, ("0011", "0012", "0011"), strict=True):
            assert await held.beat(me, minute) is not None
            await opened.store.events.wish_cancel(name)
            if revision == "0011":
                await migrate.downgrade(database_url, revision)
            else:
                await migrate.upgrade(database_url, revision)
        assert await opened.store.events.to_cancel() == set(wished)
        assert await held.is_alive(me, await held.clock())
    assert await query(database_url, "SELECT count(*) FROM leases WHERE lease_owner IS NULL") == [(5,)]
    await migrate.upgrade(database_url)
    assert await query(database_url, "SELECT count(*) FROM leases") == [(5,)]


async def test_texts_are_found_as_well_as_their_version_can_while_versions_come_and_go(
    sqlite_url: str,
) -> None:
    await migrate.downgrade(sqlite_url, "0015")

    async def add(number: int, columns: str, *told: str) -> None:
        values = ", ".join(f"'{text}'" for text in told)
        await query(
            sqlite_url,
            f"INSERT INTO search_documents (number, interaction_id, {columns}) "
            f"VALUES ({number}, x'{number:032x}', {values})",
        )

    async def found(word: str) -> list[int]:
        sql = f"SELECT rowid FROM search_index WHERE search_index MATCH '{word}' ORDER BY rowid"
        return [number for (number,) in await query(sqlite_url, sql)]

    await add(1, "input, output", "Straße", "tea")
    await migrate.upgrade(sqlite_url)
    await add(2, "input, output, folded_input", "Straße", "tea", "strasse")
    await add(3, "input, output", "Straße", "tea")
    await add(4, "input, output, folded_input", "Gasse Straße", "tea", "gasse strasse")
    assert await found("strasse") == [2, 4]
    await query(sqlite_url, "DELETE FROM search_documents WHERE number = 4")
    assert (await found("gasse"), await found("strasse"), await found("straße")) == ([], [2], [1, 3])
    assert await found("tea") == [1, 2, 3]
    await migrate.downgrade(sqlite_url, "0015")
    assert (await found("straße"), await found("strasse"), await found("tea")) == ([1, 2, 3], [], [1, 2, 3])
    compare = "INSERT INTO search_index (search_index, rank) VALUES ('integrity-check', 1)"
    await query(sqlite_url, compare)
    await query(sqlite_url, "DELETE FROM search_documents")
    await query(sqlite_url, compare)
    assert await found("tea") == []


async def test_a_database_that_is_up_to_date_keeps_its_rows(database_url: str) -> None:
    await migrate.upgrade(database_url)
    async with open_store(database_url) as opened:
        key = await completed(opened.store, response=b"answer")
    before = await tables(database_url)
    await migrate.upgrade(database_url)
    await migrate.upgrade(database_url, migrate.SCHEMA_REVISION)
    await migrate.maintain(database_url)
    assert await tables(database_url) == before
    async with open_store(database_url) as opened:
        record = await opened.store.find(DEFAULT_PROJECT, key)
    assert record is not None
    assert record.response == b"answer"


@pytest.mark.parametrize("way", ["upgrade", "check", "maintain"])
def test_a_database_that_is_up_to_date_is_told_so_without_loading_an_orm(store_url: str, way: str) -> None:
    # On the next day a partition is missing of what was made for all tests before.
    asyncio.run(migrate.upgrade(store_url))
    program = (
        "import asyncio, sys\nfrom service.store import migrate\n"
        f"asyncio.run(migrate.{way}(sys.argv[1]))\n"
        "print('sqlalchemy.orm' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, store_url], check=True, capture_output=True, text=True
    )
    assert told.stdout.strip() == "False"


async def test_a_downgrade_erases_what_was_kept_of_deleted_interactions(database_url: str) -> None:
    await migrate.upgrade(database_url)
    async with open_store(database_url) as opened:
        kept = await completed(opened.store, response=b"secret answer")
        child = await completed(opened.store, response=b"answer", previous_id=kept)
        gone = await completed(opened.store, response=b"secret answer")
        for key in (kept, gone):
            await opened.store.delete(key, 7, None)
        assert [link.response for link in await opened.store.chain(DEFAULT_PROJECT, child)] == [
            b"secret answer",
            b"answer",
        ]
    assert await query(database_url, "SELECT count(*) FROM payloads") == [(4,)]
    await migrate.downgrade(database_url, "0001")
    assert await query(database_url, "SELECT count(*) FROM payloads") == [(2,)]
    await migrate.upgrade(database_url)
    rows = await query(database_url, "SELECT deleted_at, erased_at FROM interactions ORDER BY id")
    assert rows == [(7, 7), (None, None), (7, 7)]
    async with open_store(database_url) as opened:
        links = await opened.store.chain(DEFAULT_PROJECT, child)
    assert [(link.deleted, link.response) for link in links] == [(True, None), (False, b"answer")]


async def condition(url: str, index: str) -> str:
    """Which rows an index has."""
    catalogue = (
        f"SELECT sql FROM sqlite_master WHERE name = '{index}'"
        if is_sqlite(url)
        else f"SELECT indexdef FROM pg_indexes WHERE indexname = '{index}'"
    )
    ((definition,),) = await query(url, catalogue)
    return str(definition).partition(" WHERE ")[2].replace("(", "").replace(")", "")


async def test_children_are_indexed_until_they_are_erased(database_url: str) -> None:
    index, present = "ix_interactions_previous_id", "previous_id IS NOT NULL"
    for _ in range(2):
        await migrate.upgrade(database_url)
        assert await condition(database_url, index) == f"{present} AND erased_at IS NULL"
        await migrate.downgrade(database_url, "0001")
        assert await condition(database_url, index) == present


async def test_a_downgrade_overwrites_what_it_erases(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as opened:
        kept = await completed(opened.store, response=b"secret")
        await completed(opened.store, previous_id=kept)
        await opened.store.delete(kept, 7, None)
    await migrate.downgrade(sqlite_url, "0001")
    assert b"secret" not in await asyncio.to_thread(Path(sqlite_path(sqlite_url)).read_bytes)


async def test_a_database_of_a_newer_version_is_refused(database_url: str) -> None:
    await migrate.upgrade(database_url)
    await query(database_url, "UPDATE alembic_version SET version_num = '9999'")
    before = await tables(database_url)
    with pytest.raises(
        ConfigurationError, match=r"database_url: .*does not fit this version.*'9999'.*newer one"
    ):
        await migrate.upgrade(database_url)
    assert await tables(database_url) == before
    assert await query(database_url, "SELECT version_num FROM alembic_version") == [("9999",)]


async def test_a_database_beyond_a_revision_stays_where_it_is(database_url: str) -> None:
    assert await migrate.upgrade(database_url) == migrate.SCHEMA_REVISION
    for revision in ("0010", "base"):
        with pytest.raises(migrate.RevisionRefused, match="going down loses data"):
            await migrate.upgrade(database_url, revision)
    with pytest.raises(migrate.RevisionRefused, match="no such revision"):
        await migrate.upgrade(database_url, "nope")
    await query(database_url, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="does not fit this version"):
        await migrate.upgrade(database_url, "0010")


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database, " * 500)
    with pytest.raises(ConfigurationError, match="not a database"):
        await migrate.upgrade(f"sqlite:///{path}")


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="unable to open database file"):
        await migrate.upgrade(f"sqlite:///{tmp_path / 'missing' / 'interactions.db'}")


@pytest.mark.parametrize("parameter", ["sslmode=disable", "sslmode=prefer", "application_name=tests"])
async def test_postgres_urls_take_the_parameters_of_libpq(own_postgres_url: str, parameter: str) -> None:
    url = with_parameter(own_postgres_url, parameter)
    await migrate.upgrade(url, "head")
    await migrate.maintain(url)
    async with open_store(url) as opened:
        await completed(opened.store)


async def test_a_parameter_that_makes_no_sense_is_refused(own_postgres_url: str) -> None:
    url = with_parameter(own_postgres_url, "sslmode=nonsense")
    with pytest.raises(ConfigurationError, match="sslmode"):
        await migrate.upgrade(url)


async def test_a_postgres_database_that_is_not_there_is_refused(own_postgres_url: str) -> None:
    missing = own_postgres_url.replace("/s", "/missing", 1)
    with pytest.raises(ConfigurationError, match="does not exist"):
        await migrate.upgrade(missing)


async def test_a_postgres_server_that_is_not_there_is_refused(unused_tcp_port: int) -> None:
    with pytest.raises(ConfigurationError, match="database cannot be used"):
        await migrate.upgrade(f"postgresql://user@127.0.0.1:{unused_tcp_port}/missing")


#: A process that migrates, and dies before the statement that is named first.
_DYING = """
import asyncio, os, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from service.store import migrate

@event.listens_for(Engine, "before_cursor_execute")
def die(connection, cursor, statement, *rest):
    if sys.argv[1] in statement:
        os._exit(9)

asyncio.run(getattr(migrate, sys.argv[2])(*sys.argv[3:]))
"""


def die_before(statement: str, *call: str) -> None:
    done = subprocess.run([sys.executable, "-c", _DYING, statement, *call], check=False, timeout=60)
    assert done.returncode == 9


@pytest.mark.parametrize(
    "statement", ["CREATE TABLE payloads", "CREATE INDEX ix_leases_due", "INSERT INTO alembic"]
)
async def test_migrations_that_are_killed_leave_nothing(database_url: str, statement: str) -> None:
    die_before(statement, "upgrade", database_url, migrate.SCHEMA_REVISION)
    assert await tables(database_url) == set()
    await migrate.upgrade(database_url)
    async with open_store(database_url) as opened:
        await completed(opened.store)


async def test_a_downgrade_that_is_killed_changes_nothing(database_url: str) -> None:
    await migrate.upgrade(database_url)
    async with open_store(database_url) as opened:
        key = await completed(opened.store, response=b"answer")
    die_before("DROP TABLE payloads", "downgrade", database_url, "base")
    async with open_store(database_url) as opened:
        record = await opened.store.find(DEFAULT_PROJECT, key)
    assert record is not None
    assert record.response == b"answer"


async def test_the_command_of_alembic_migrates_in_one_transaction_too(database_url: str) -> None:
    path = Path(service.__file__).parent.parent / "migrations"
    config = Config(cmd_opts=Namespace(x=[f"url={database_url}"]))
    config.set_main_option("script_location", str(path))
    await asyncio.to_thread(command.upgrade, config, "head")
    async with open_store(database_url) as opened:
        await completed(opened.store)


def test_processes_that_start_at_once_migrate_once(database_url: str) -> None:
    migrating = [sys.executable, "-m", "service", "migrate", "--database-url", database_url]
    running = [subprocess.Popen(migrating, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    endings = [(process.communicate(timeout=60)[1], process.returncode) for process in running]
    assert [status for _, status in endings] == [0] * 4, endings
    assert asyncio.run(query(database_url, "SELECT count(*) FROM projects")) == [(1,)]


async def drop_partitions(url: str, table: str) -> None:
    names = [name for name in await tables(url) if name.startswith(f"{table}_2")]
    await query(url, f"DROP TABLE {', '.join(names)}")


async def test_processes_that_start_at_once_share_the_making_of_partitions(own_postgres_url: str) -> None:
    for table in PARTITIONED:
        await drop_partitions(own_postgres_url, table)
    await asyncio.gather(*(migrate.upgrade(own_postgres_url) for _ in range(6)))
    made = [name for name in await tables(own_postgres_url) if name.startswith("payloads_2")]
    assert len(made) == DAYS_AHEAD + 1


async def test_partitions_are_made_while_others_write_and_read(own_postgres_url: str) -> None:
    stop = asyncio.Event()

    async def work() -> int:
        done = 0
        async with open_store(own_postgres_url) as opened:
            while not stop.is_set():
                key = await completed(opened.store, response=b"answer")
                assert await opened.store.find(DEFAULT_PROJECT, key) is not None
                await opened.store.delete(key, 1, None)
                done += 1
            # Only what was on its way to a partition that changes at that moment is tried again.
            assert opened.writer.statistics.retries <= 3
            assert opened.writer.statistics.refused == 0
        return done

    async with asyncio.TaskGroup() as group:
        workers = [group.create_task(work()) for _ in range(2)]
        for _ in range(3):
            await drop_partitions(own_postgres_url, "payloads")
            await migrate.maintain(own_postgres_url)
        stop.set()
    assert all(worker.result() for worker in workers)
