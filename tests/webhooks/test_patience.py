"""How long receivers that fail are told again: after pauses that grow to an hour, for a day."""

from __future__ import annotations

import asyncio

import pytest

from service.settings import Settings
from service.store.records import now
from service.wire import ids
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartGateway
from tests.support.receivers import Receiver
from tests.support.replies import Reply
from tests.support.store import literal, query
from tests.support.upstreams import Emulated
from tests.webhooks.hooking import QUICK, run

SECOND = 1_000_000
HOUR = 3_600
#: The pause after so many failures, in seconds: half of it and a part of the other half that chance decides.
PAUSES = {1: 5, 2: 10, 3: 20, 4: 40, 5: 80, 6: 160, 7: 320, 8: 640, 9: 1280, 10: 2560, 11: HOUR, 40: HOUR}


@pytest.fixture
async def gateway(start_gateway: StartGateway, upstream: Emulated) -> Gateway:
    """A service that is as patient as it is by default."""
    assert (Settings().webhook_retry_after, Settings().webhook_retry_for) == (5.0, 24 * HOUR)
    return await start_gateway(upstream, **(QUICK | {"webhook_retry_after": 5.0}))


async def change(gateway: Gateway, table: str, made: Reply, change: str) -> None:
    url = gateway.database.url
    column = "id" if table == "interactions" else "interaction_id"
    key = ids.from_text(made.id)
    assert key is not None
    await query(url, f"UPDATE {table} SET {change} WHERE {column} = {literal(url, key)}")


async def standing(gateway: Gateway) -> list[tuple[int, int | None, int | None]]:
    """Of each delivery how often it was tried, when it is due again, and when it was settled."""
    rows = await query(
        gateway.database.url, "SELECT tries, due_at, settled_at FROM webhooks ORDER BY interaction_id"
    )
    return [(tries, due_at, settled_at) for tries, due_at, settled_at in rows]


async def put_off(gateway: Gateway) -> dict[int, int]:
    """When each delivery is due again that was tried as often as it was to be, and that nobody is telling now."""
    rows = await query(
        gateway.database.url, "SELECT tries, due_at, lease_token FROM webhooks ORDER BY interaction_id"
    )
    return {
        tries: due_at
        for expected, (tries, due_at, token) in zip(PAUSES, rows, strict=True)
        if tries == expected and token is None
    }


async def test_pauses_double_up_to_an_hour_and_end_after_a_day(
    gateway: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    hook.answers = [500] * 100
    made = [await run(gateway, hook) for _ in PAUSES]
    for reply, tries in zip(made, PAUSES, strict=True):
        await change(gateway, "webhooks", reply, f"tries = {tries - 1}")
    began = now()
    upstream.clock.advance(10_000)
    await asyncio.gather(*(gateway.finished(reply.id) for reply in made))

    due: dict[int, int] = {}

    async def were_put_off() -> bool:
        # On a slow machine the first are tried once more before the last are.
        for tries, due_at in (await put_off(gateway)).items():
            due.setdefault(tries, due_at)
        return len(due) == len(PAUSES) and len(hook.told) >= len(made)

    await eventually(were_put_off)
    ended = now()
    for tries, due_at in due.items():
        assert began + PAUSES[tries] * SECOND // 2 <= due_at <= ended + PAUSES[tries] * SECOND, tries
    assert [settled_at for _, _, settled_at in await standing(gateway)] == [None] * len(made)
    # A day after the outcome nobody is told any more, and an hour and a half before that there is time for one more.
    patient, over = made[-2:]
    for reply, hours in ((patient, 22.5), (over, 24)):
        await change(gateway, "interactions", reply, f"completed_at = {now() - int(hours * HOUR * SECOND)}")
        await change(gateway, "webhooks", reply, "due_at = 1")

    async def is_over() -> bool:
        return (await standing(gateway))[-1][2] is not None

    async def is_put_off() -> bool:
        return (await standing(gateway))[-2][0] == 12

    await eventually(is_over)
    await eventually(is_put_off)
    assert (await standing(gateway))[-2][2] is None
    assert [tries for tries, _, _ in (await standing(gateway))[-2:]] == [12, 41]
