"""Lists of interactions: what is in them, in which order, and how they go on."""

from __future__ import annotations

from tests.support.gateway import MODEL, Gateway
from tests.support.replies import Json, Reply


async def listed(gateway: Gateway, query: str = "") -> Reply:
    reply = await gateway.request("GET", f"/api/interactions{query}")
    assert reply.status == 200, reply.raw
    return reply


def ids_of(reply: Reply) -> list[str]:
    found: list[Json] = reply.body["interactions"]
    return [summary["id"] for summary in found]


async def test_the_newest_come_first_and_pages_follow_one_another(gateway: Gateway) -> None:
    made = [(await gateway.ask(f"Hello {number}")).id for number in range(5)]
    first = await listed(gateway, "?limit=2")
    assert ids_of(first) == made[:2:-1]
    # What is written meanwhile moves nothing.
    await gateway.ask()
    second = await listed(gateway, f"?limit=2&cursor={first.body['next_cursor']}")
    third = await listed(gateway, f"?limit=2&cursor={second.body['next_cursor']}")
    assert ids_of(second) + ids_of(third) == made[2::-1]
    assert third.body["next_cursor"] is None
    assert ids_of(await listed(gateway, "?order=asc&limit=3")) == made[:3]
    assert ids_of(await listed(gateway, f"?model={MODEL}&min_total_tokens=1&order=asc&limit=3")) == made[:3]
