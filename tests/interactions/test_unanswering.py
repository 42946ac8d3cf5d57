"""An upstream that accepts questions and does not answer them: only what depends on it waits."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest
from aiohttp import web

from service.store.tables import NOBODY
from tests.support.gateway import MODEL, eventually
from tests.support.gateways import StartEmulator, StartGateway, StartScripted
from tests.support.store import literal, query
from tests.support.upstreams import Script, Scripted, deployment

HASTY = {
    "poll_interval": 0.02,
    "poll_interval_max": 0.05,
    "claim_interval": 0.05,
    "usage_interval": 0.05,
    "supervisor_concurrency": 2,
    "drain_timeout": 0.1,
}


def answering_creates(status: str, asked: asyncio.Event) -> Script:
    numbers = count(1)

    async def script(request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            asked.set()
            await asyncio.Event().wait()
        steps: list[dict[str, Any]] = []
        body = {"id": f"v1_{next(numbers)}", "status": status, "model": MODEL, "steps": steps}
        return web.json_response(body)

    return script


@pytest.fixture
def asked() -> asyncio.Event:
    """Whether upstream was asked for anything by GET."""
    return asyncio.Event()


async def test_its_runs_leave_room_for_others_and_clients_are_told_what_is_known(
    start_scripted: StartScripted,
    start_emulator: StartEmulator,
    start_gateway: StartGateway,
    asked: asyncio.Event,
) -> None:
    hung: Scripted = await start_scripted(answering_creates("in_progress", asked))
    good = await start_emulator()
    gateway = await start_gateway(
        deployments=(deployment(hung, "hung"), deployment(good, "good", MODEL)), **HASTY
    )
    runs = [await gateway.ask(model="hung", background=True) for _ in range(3)]
    await asked.wait()
    made = await gateway.ask(model="good", background=True)
    good.clock.advance(100)

    async def is_completed() -> bool:
        return bool((await gateway.database.row(made.id))["status"] == "completed")

    await eventually(is_completed)
    told = await asyncio.gather(*(gateway.got(run.id) for run in runs))
    assert [reply.body["status"] for reply in told] == ["in_progress"] * 3


async def test_usage_that_it_owes_holds_up_nothing(
    start_scripted: StartScripted,
    start_emulator: StartEmulator,
    start_gateway: StartGateway,
    database_url: str,
    asked: asyncio.Event,
) -> None:
    hung: Scripted = await start_scripted(answering_creates("completed", asked))
    good = await start_emulator()
    gateway = await start_gateway(
        deployments=(deployment(hung, "hung"), deployment(good, "good", MODEL)), **HASTY
    )
    await gateway.ask(model="hung")
    await asked.wait()
    made = await gateway.ask(model="good", background=True, wish="background;queued=3600;running=3600")
    held = (await gateway.database.row(made.id))["owner_id"]
    nobody = literal(database_url, NOBODY)
    await query(database_url, f"UPDATE interactions SET owner_id = {nobody} WHERE completed_at IS NULL")

    async def is_held_again() -> bool:
        return bool((await gateway.database.row(made.id))["owner_id"] == held)

    await eventually(is_held_again)
