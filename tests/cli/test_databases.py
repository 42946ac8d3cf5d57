"""Commands on a database whose service is configured otherwise: they do to it what they are asked to, and no more."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from service.audit.indexer import Indexer
from service.cli.main import commands
from service.settings import DeploymentSettings
from service.store import migrate
from service.store.migrate import SCHEMA_REVISION
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartGateway
from tests.support.receivers import receiver
from tests.support.store import query
from tests.support.upstreams import Emulated, deployment

#: What a service does of its own accord, before a command may do it in its place.
STATE: Final = (
    "SELECT id, status, derived_state, cost_nanos, usage_state, updated_at FROM interactions ORDER BY id",
    "SELECT interaction_id, kind, due_at, tries FROM leases WHERE kind <> 'process' ORDER BY kind",
    "SELECT interaction_id, due_at, tries, settled_at, error FROM webhooks",
    "SELECT count(*) FROM webhook_secrets",
    "SELECT count(*) FROM search_documents",
)


def dear(upstream: Emulated) -> DeploymentSettings:
    """A dollar a token."""
    return deployment(upstream, "gemini-2.5-flash", input_cost_per_token=1.0, output_cost_per_token=1.0)


async def command(url: str, *arguments: str, status: int = 0) -> str:
    """Run a command that knows nothing but the URL of the database; what it prints, errors included."""
    hidden = {name: None for name in os.environ if name.startswith(("INTERACTIONS_", "GEMINI_", "GOOGLE_"))}
    asked = (*arguments, "--database-url", url)
    done = await asyncio.to_thread(CliRunner().invoke, commands, asked, env=hidden)
    assert done.exit_code == status, (done.output, done.exception)
    return done.output


async def with_work_left(start: StartGateway, upstream: Emulated) -> Gateway:
    """A service that has stopped with everything still to be done: deliver, derive, fetch usage and media, follow."""
    serving = (dear(upstream),)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Indexer, "start", lambda _: None)
        gateway = await start(
            deployments=serving,
            usage_interval=3600.0,
            webhook_retry_after=3600.0,
            webhook_allow_private=True,
        )
    await gateway.ask("Owes its usage", fault="missing_usage")
    await gateway.ask("Runs on", background=True, wish="background;queued=3600;running=3600")
    async with receiver() as refusing:
        refusing.answers = [503]
        made = await gateway.ask("Tells", background=True, webhook_config={"uris": [refusing.url]})
        upstream.clock.advance(100)
        await gateway.finished(made.id)
        await eventually(lambda: was_tried(gateway))
    await gateway.stop()
    for table in ("webhooks", "leases"):
        await query(gateway.database.url, f"UPDATE {table} SET due_at = 1")
    return gateway


async def was_tried(gateway: Gateway) -> bool:
    return bool(await query(gateway.database.url, "SELECT 1 FROM webhooks WHERE tries = 1"))


async def state(gateway: Gateway) -> list[list[tuple[object, ...]]]:
    return [await query(gateway.database.url, one) for one in STATE]


async def test_who_reads_leaves_everything_else_to_the_service(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await with_work_left(start_gateway, upstream)
    left = await state(gateway)
    assert [len(rows) for rows in left] == [3, 1, 1, 1, 1]
    for arguments in (
        ("logs",),
        ("search", "tells"),
        ("usage",),
        ("retention", "holds"),
        ("retention", "run"),
    ):
        await command(gateway.database.url, *arguments)
    # What it costs depends on a configuration that is not known here.
    (told,) = (
        await command(gateway.database.url, "logs", "--status", "completed", "-n", "1", "--json")
    ).splitlines()
    assert json.loads(told)["cost"] is None
    assert await state(gateway) == left


async def test_what_a_service_has_left_to_be_priced_is_left_to_it_by_an_import_as_well(
    start_gateway: StartGateway, upstream: Emulated, tmp_path: Path
) -> None:
    gateway = await with_work_left(start_gateway, upstream)
    left = await state(gateway)
    lines = tmp_path / "lines.jsonl"
    await command(gateway.database.url, "export", "--output", str(lines))
    told = await command(gateway.database.url, "import", str(lines))
    assert "when the service of this database has run" in told
    assert await state(gateway) == left


async def test_who_replays_leaves_what_it_cannot_do_to_the_service(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await with_work_left(start_gateway, upstream)
    left = await state(gateway)
    assert "0 replays" in await command(gateway.database.url, "replay", "--label", "no=such")
    assert await state(gateway) == left


async def test_what_is_brought_in_keeps_its_price_where_its_deployment_is_unknown(
    start_gateway: StartGateway, upstream: Emulated, tmp_path: Path
) -> None:
    serving = (dear(upstream),)
    gateway = await start_gateway(deployments=serving, index_interval=0.02)
    name = (await gateway.ask("How dear is this?")).id

    async def is_priced() -> bool:
        return bool((await gateway.database.row(name))["cost_nanos"])

    await eventually(is_priced)
    await gateway.stop()
    dollars = (await gateway.database.row(name))["total_tokens"]
    lines = tmp_path / "lines.jsonl"
    await command(gateway.database.url, "export", "--output", str(lines))
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    await command(elsewhere, "import", str(lines))
    assert await query(elsewhere, "SELECT cost_nanos FROM interactions") == [(dollars * 1_000_000_000,)]
    assert json.loads(await command(elsewhere, "usage", "--json"))["groups"][0]["cost"] == dollars


async def test_what_is_brought_in_is_found_and_summed_up_though_no_service_ever_runs(
    start_gateway: StartGateway, upstream: Emulated, tmp_path: Path
) -> None:
    gateway = await start_gateway(deployments=(dear(upstream),), index_interval=3600.0)
    await asyncio.sleep(0.2)
    for number in range(80):
        await gateway.ask(f"Lighthouse number {number}")
    await gateway.stop()
    lines = tmp_path / "lines.jsonl"
    await command(gateway.database.url, "export", "--output", str(lines))
    elsewhere = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    await command(elsewhere, "import", str(lines))
    found = await command(elsewhere, "search", "lighthouse", "--limit", "100", "--json")
    assert len(found.splitlines()) == 80
    assert await query(elsewhere, "SELECT count(*) FROM interactions WHERE derived_state = 0") == [(0,)]


async def test_a_database_of_another_version_is_refused_and_left_as_it_is(
    sqlite_url: str, tmp_path: Path
) -> None:
    await migrate.downgrade(sqlite_url, "0015")
    for arguments in (("logs",), ("replay", "--label", "a=b"), ("retention", "run")):
        told = await command(sqlite_url, *arguments, status=2)
        assert f"schema is at 0015, and this version's at {SCHEMA_REVISION}" in told
        assert "interactions migrate" in told
    assert await query(sqlite_url, "SELECT version_num FROM alembic_version") == [("0015",)]
