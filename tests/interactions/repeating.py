"""Creates with an idempotency key, and what makes answers the same."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

from aiohttp import web
from sqlalchemy import update

from service.store.engine import open_engine
from service.store.tables import idempotency_keys
from service.wire import ids
from tests.support.gateway import MODEL, STEPS, Gateway, eventually
from tests.support.pauses import rest
from tests.support.replies import Reply, Streamed
from tests.support.upstreams import Script, answering

KEY = '"8e03978e-40d5-43dd-bc93-6894a57f9324"'
REPLAYED = "idempotency-replayed"
#: What says where an answer comes from; all repeats of a create must agree on it.
_SAME = (
    "x-interaction-id",
    "x-upstream-interaction-id",
    "x-interactions-history",
    "x-interactions-history-links",
)


async def ask(
    gateway: Gateway,
    content: Any = "Hello",
    *,
    key: str = KEY,
    wish: str = "",
    fault: str = "",
    **members: Any,
) -> Reply:
    """A unary create with a key; `members` may replace the model."""
    sent = {"idempotency_key": key, **STEPS}
    if wish:
        sent["x_emulator_behavior"] = wish
    if fault:
        sent["x_emulator_fault"] = fault
    return await gateway.post({"model": MODEL, "input": content, **members}, **sent)


async def made(gateway: Gateway, content: Any = "Hello", *, key: str = KEY, **members: Any) -> Reply:
    """A unary create with a key that must succeed."""
    reply = await ask(gateway, content, key=key, **members)
    assert reply.status == 200, reply.raw
    return reply


def keyed(key: str = KEY) -> dict[str, str]:
    """The headers of a stream with a key."""
    return {"idempotency-key": key, **STEPS}


async def streamed(
    gateway: Gateway,
    content: Any = "Hello",
    *,
    key: str = KEY,
    wish: str = "",
    fault: str = "",
    **members: Any,
) -> Streamed:
    """A streaming create with a key, read to its end."""
    return await gateway.stream(content, headers=keyed(key), wish=wish, fault=fault, **members)


async def at_once(gateways: Sequence[Gateway], number: int, *, stream: bool) -> list[Reply | Streamed]:
    """So many identical creates at the same time, dealt to the gateways in turn."""
    make = streamed if stream else made
    return await asyncio.gather(*(make(gateways[place % len(gateways)]) for place in range(number)))


def assert_one_answer(replies: Sequence[Reply | Streamed]) -> None:
    """All are one answer, which one of them has made."""
    assert {reply.status for reply in replies} == {200}
    assert len({reply.raw for reply in replies}) == 1
    assert sorted(reply.headers.get(REPLAYED, "") for reply in replies) == [""] + ["true"] * (
        len(replies) - 1
    )
    assert len({reply.headers["x-interaction-id"] for reply in replies}) == 1


def assert_repeated(first: Reply | Streamed, again: Reply | Streamed) -> None:
    """The second is the first once more, and says so."""
    assert REPLAYED not in first.headers
    assert again.headers[REPLAYED] == "true"
    assert (again.status, again.raw) == (first.status, first.raw)
    assert [again.headers.get(name) for name in _SAME] == [first.headers.get(name) for name in _SAME]


def held(release: asyncio.Event) -> Script:
    """The script of an upstream that answers when it is let."""
    answer = answering(b'{"id":"v1_a","status":"completed","steps":[]}')

    async def script(request: web.Request) -> web.StreamResponse:
        await release.wait()
        return await answer(request)

    return script


async def done(tasks: Iterable[asyncio.Task[Reply]], number: int) -> list[Reply]:
    """The answers of those tasks that end first, as soon as there are so many."""
    ended = []
    for first in asyncio.as_completed(tasks):
        ended.append(await first)
        if len(ended) == number:
            break
    return ended


async def all_run(gateways: Sequence[Gateway], number: int) -> None:
    """Wait until so many creates run in these services, those that wait for another's answer among them."""

    async def reached() -> bool:
        told = [(await gateway.request("GET", "/metrics")).raw.splitlines() for gateway in gateways]
        running = [line for lines in told for line in lines if line.startswith(b"interactions_running ")]
        return sum(float(line.split()[1]) for line in running) == number

    await eventually(reached)
    # They count before they have found whom they wait for.
    await rest(0.5)


async def age_keys(gateway: Gateway, seconds: float) -> None:
    """Let so much time pass for all keys."""
    await _change(gateway, expires_at=idempotency_keys.c.expires_at - int(seconds * 1e6))


async def give_keys_away(gateway: Gateway) -> None:
    """Make all keys another project's."""
    await _change(gateway, project_id=ids.mint())


async def _change(gateway: Gateway, **values: Any) -> None:
    engine = open_engine(gateway.database.url)
    async with engine.begin() as connection:
        await connection.execute(update(idempotency_keys).values(values))
    await engine.dispose()
