"""Whatever is asked of upstream about an interaction goes to its own deployment, with the key that has made it.

Both deployments are at one address, so that nothing but the key tells them apart: with another one the emulator knows
of no such interaction.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from service.settings.model import RouterSettings
from tests.support.database import Row
from tests.support.gateway import MODEL, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Json
from tests.support.upstreams import Emulated, deployment

KEYS = {"a": "a key that ends in aaaa", "b": "a key that ends in bbbb"}
ENDLESS = "background;queued=3600;running=3600"
HASTY = {"poll_interval": 0.02, "poll_interval_max": 0.05, "claim_interval": 0.05}
#: Where the least was used: so creates go to both in turn, and a follow-up would not go where its parent is by itself.
IN_TURN = RouterSettings(
    routing_strategy="usage-based-routing", num_retries=0, allowed_fails=0, cooldown_time=600.0
)


@pytest.fixture
async def upstream(start_emulator: StartEmulator) -> Emulated:
    return await start_emulator()


async def started(start_gateway: StartGateway, upstream: Emulated, **settings: Any) -> Gateway:
    entries = tuple(deployment(upstream, "fast", MODEL, key, id=name) for name, key in KEYS.items())
    return await start_gateway(deployments=entries, router=IN_TURN, **HASTY, **settings)


def about(upstream: Emulated, row: Row) -> list[Json]:
    """What was asked of upstream that names an interaction, its parent, or both."""
    name = row["upstream_id"]
    return [
        seen
        for seen in upstream.requests
        if name in seen["path"] or (seen["body"] or {}).get("previous_interaction_id") == name
    ]


async def assert_own_keys(gateway: Gateway, upstream: Emulated, *methods: str) -> None:
    """Each interaction was asked about by these methods, and by its own key alone; both keys have some."""
    rows = await gateway.database.rows()
    assert set(Counter(row["deployment_id"] for row in rows)) == set(KEYS)
    for row in rows:
        seen = about(upstream, row)
        assert {one["key"] for one in seen} == {KEYS[row["deployment_id"]][-4:]}
        assert {one["status"] for one in seen} == {200}
        assert set(methods) <= {one["method"] for one in seen}


async def test_what_runs_is_asked_for_and_cancelled_by_its_own(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await started(start_gateway, upstream, background_streams=0)
    runs = [await gateway.ask(f"Run {number}", background=True, wish=ENDLESS) for number in range(4)]
    # A deployment that rests is asked about what it has all the same.
    upstream.fault("status;code=503", count=0, contains='"input"', key=KEYS["b"])
    while (await gateway.create()).status == 200:
        pass
    shown = (await gateway.request("GET", "/api/deployments")).body["deployments"]
    assert {one["id"]: one["state"] for one in shown} == {"a": "closed", "b": "open"}
    upstream.calm()
    upstream.clear()
    told = await asyncio.gather(*(gateway.got(run.id) for run in runs))
    assert {reply.body["status"] for reply in told} == {"queued"}

    async def are_asked_for() -> bool:
        return len({seen["path"] for seen in upstream.calls("GET")}) == len(runs)

    await eventually(are_asked_for)
    cancelled = await asyncio.gather(*(gateway.cancel(run.id) for run in runs))
    assert {reply.body["status"] for reply in cancelled} == {"cancelled"}
    rows = [row for row in await gateway.database.rows() if row["status"] == "cancelled"]
    assert Counter(row["deployment_id"] for row in rows) == {"a": 2, "b": 2}
    for row in rows:
        seen = about(upstream, row)
        assert {one["key"] for one in seen} == {KEYS[row["deployment_id"]][-4:]}
        assert {one["method"] for one in seen} == {"GET", "POST"}
        assert {one["status"] for one in seen} == {200}


async def test_streams_that_broke_are_taken_up_by_their_own(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await started(start_gateway, upstream)
    for fault, wish in (("cut;after=6", "event_ids"), ("cut;after=6", ""), ("missing_usage;gets=1", "")):
        streamed = [await gateway.stream("Hello", fault=fault, wish=wish) for _ in range(2)]
        assert all(stream.done for stream in streamed)
    await assert_own_keys(gateway, upstream, "GET")
    resumed = [seen for seen in upstream.requests if "last_event_id" in seen["query"]]
    assert {seen["key"] for seen in resumed} == {key[-4:] for key in KEYS.values()}


async def test_what_another_process_has_begun_is_ended_by_its_own(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    first = await started(start_gateway, upstream)
    runs = [await first.ask(f"Run {number}", background=True, wish=ENDLESS) for number in range(4)]
    await first.stop()
    upstream.clear()
    upstream.clock.advance(1e4)
    second = await started(start_gateway, upstream)
    ended = await asyncio.gather(*(second.finished(run.id) for run in runs))
    assert {reply.body["status"] for reply in ended} == {"completed"}
    await assert_own_keys(second, upstream, "GET")


async def test_a_conversation_goes_on_and_is_deleted_by_its_own(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await started(start_gateway, upstream)
    made = [await gateway.ask(f"First {number}") for number in range(4)]
    for reply in list(made):
        again = await gateway.ask("Second", previous_interaction_id=reply.id)
        assert again.headers["x-deployment"] == reply.headers["x-deployment"]
        assert again.headers["x-interactions-history"] == "upstream"
        made.append(again)
    for reply in made:
        assert (await gateway.delete(reply.id)).status == 200

    async def is_deleted() -> bool:
        return upstream.held == 0

    await eventually(is_deleted)
    deletes = Counter(seen["key"] for seen in upstream.calls("DELETE"))
    assert deletes == {key[-4:]: 4 for key in KEYS.values()}
    assert {seen["status"] for seen in upstream.calls("DELETE")} == {200}
