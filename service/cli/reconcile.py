"""`interactions reconcile`: whether what the store has fits itself; exit status 1 when it does not."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import click

from service.cli.api import key_headers
from service.cli.target import Target, check_file, targeted
from service.errors import ConfigurationError, DatabaseUnusable, ServiceError, database_from
from service.settings import Settings, load

_MISMATCHES = 1


@click.command()
@targeted
@click.option("--from", "start", metavar="TIME", help="A time, or how long ago: 24h, 7d.  [default: 24h]")
@click.option("--to", "end", metavar="TIME", help="A time, or how long ago.  [default: now]")
@click.option("--interval", type=click.Choice(["minute", "hour", "day"]), help="What is counted together.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
@click.pass_context
def reconcile(
    ctx: click.Context,
    target: Target,
    start: str | None,
    end: str | None,
    interval: str | None,
    as_json: bool,
) -> None:
    """Compare requests, attempts, outcomes, usage and events, and name what does not fit."""
    asked = {"from": start, "to": end, "interval": interval}
    try:
        if target.url is not None:
            report = asyncio.run(_of_service(target.url.rstrip("/"), target.key, asked))
        else:
            settings = load(target.config, os.environ, {"database_url": target.database_url}).settings
            with database_from(settings.database_url_source):
                report = asyncio.run(_of_database(settings, asked))
    except ServiceError as error:
        raise ConfigurationError(error.message) from error
    if as_json:
        from service.wire import codec

        click.echo(codec.dumps(report).decode())
    else:
        _show(report)
    ctx.exit(_MISMATCHES if report["mismatches"] else 0)


async def _of_database(settings: Settings, asked: dict[str, str | None]) -> dict[str, Any]:
    from service.audit.reconcile import Reconciliation
    from service.audit.spans import span
    from service.store.backend import StoreUnavailable
    from service.store.codec import Codec
    from service.store.engine import open_backend

    chosen = span(asked["from"], asked["to"], asked["interval"])
    check_file(settings)
    codec = Codec()
    backend = open_backend(settings.database_url, codec, pool_limit=1)
    await backend.start()
    try:
        return (await Reconciliation(backend.fetch, codec).report(chosen)).shown()
    except StoreUnavailable as error:
        raise DatabaseUnusable(
            f"the database cannot be read ({error}); `interactions migrate` brings it to this version's schema"
        ) from error
    finally:
        await backend.close()


async def _of_service(url: str, key: str | None, asked: dict[str, str | None]) -> dict[str, Any]:
    from aiohttp import ClientError, ClientSession, ClientTimeout

    headers = key_headers(key)
    parameters = {name: value for name, value in asked.items() if value is not None}
    timeout = ClientTimeout(total=None, sock_connect=10)
    try:
        async with (
            ClientSession(timeout=timeout) as session,
            session.get(f"{url}/api/reconcile", params=parameters, headers=headers) as response,
        ):
            body = await response.json(content_type=None)
    except (ClientError, OSError, ValueError) as error:
        raise ConfigurationError(f"--url {url}: cannot be asked ({error}); check the address") from error
    if response.status != 200:
        told = body.get("error", {}).get("message", "") if isinstance(body, dict) else ""
        raise ConfigurationError(f"--url {url}: refused with {response.status}: {told}")
    report: dict[str, Any] = body
    return report


def _show(report: dict[str, Any]) -> None:
    from rich.console import Console

    from service.cli.tables import figures_table, mismatches_table

    # Where nobody looks at it, lines are for other programs: none is cut at the edge of a screen.
    console = Console() if sys.stdout.isatty() else Console(width=400)
    console.print(figures_table(report))
    if report["mismatches"]:
        console.print(mismatches_table(report))
    console.print(f"{len(report['mismatches'])} mismatches")
