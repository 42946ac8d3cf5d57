"""Runs migrations on the connection that ``service.store.migrate`` hands in, or on ``-x url=...`` of a command."""

from __future__ import annotations

import asyncio

from alembic import context
from sqlalchemy import Connection

from service.store.engine import open_engine
from service.store.partitions import lock_schema
from service.store.tables import metadata


def run_on(connection: Connection) -> None:
    """Run the migrations inside the transaction of this connection."""
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    with context.begin_transaction():
        context.run_migrations()


def run_alone_on(connection: Connection) -> None:
    """Run the migrations while nobody else changes the schema."""
    lock_schema(connection)
    run_on(connection)


async def run_on_url(url: str) -> None:
    """Open the database only for the migrations."""
    engine = open_engine(url)
    async with engine.begin() as connection:
        await connection.run_sync(run_alone_on)
    await engine.dispose()


given = context.config.attributes.get("connection")
if given is not None:
    run_on(given)
else:
    asyncio.run(
        run_on_url(
            context.get_x_argument(as_dictionary=True).get("url", "sqlite+aiosqlite:///interactions.db")
        )
    )
