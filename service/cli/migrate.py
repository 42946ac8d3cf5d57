"""`interactions migrate`: brings the database to this version's schema, without serving."""

from __future__ import annotations

import asyncio
import os

import click

from service.errors import ConfigurationError, database_from
from service.settings import load, redact_url


@click.command()
@click.option("--config", metavar="FILE", help="The configuration, YAML.")
@click.option("--database-url", metavar="URL", help="The database.  [default: sqlite:///interactions.db]")
@click.option("--revision", metavar="REVISION", default="head", show_default=True, help="How far to migrate.")
def migrate(config: str | None, database_url: str | None, revision: str) -> None:
    """Migrate the database up to a revision."""
    if not revision:
        raise click.BadParameter("expected a revision, such as head or 0012", param_hint="--revision")
    settings = load(config, os.environ, {"database_url": database_url}).settings

    from service.store.migrate import RevisionRefused, upgrade

    try:
        with database_from(settings.database_url_source):
            reached = asyncio.run(upgrade(settings.database_url, revision))
    except RevisionRefused as error:
        raise ConfigurationError(f"--revision {revision}: {error}") from error
    click.echo(f"{redact_url(settings.database_url)} is at {reached}")
