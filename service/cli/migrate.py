"""`interactions migrate`: brings the database to this version's schema, without serving."""

from __future__ import annotations

import asyncio
import os

import click

from service.settings import load, redact_url


@click.command()
@click.option("--config", metavar="FILE", help="The configuration, YAML.")
@click.option("--database-url", metavar="URL", help="The database.  [default: sqlite:///interactions.db]")
@click.option("--revision", metavar="REVISION", default="head", show_default=True, help="How far to migrate.")
def migrate(config: str | None, database_url: str | None, revision: str) -> None:
    """Migrate the database up to a revision."""
    if not revision:
        raise click.BadParameter("expected a revision, such as head or 0012", param_hint="--revision")
    url = load(config, os.environ, {"database_url": database_url}).settings.database_url

    from service.store.migrate import upgrade

    asyncio.run(upgrade(url, revision))
    click.echo(f"{redact_url(url)} is at {revision}")
