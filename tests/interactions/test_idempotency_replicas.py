"""Idempotency-Key across replicas: they share nothing but the database, and a key still makes one interaction."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack
from random import Random

import pytest

from tests.interactions.repeating import (
    REPLAYED,
    all_run,
    ask,
    assert_one_answer,
    assert_repeated,
    at_once,
    done,
    held,
    keyed,
    made,
    streamed,
)
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway, StartScripted, gateway_starter
from tests.support.pauses import rest
from tests.support.replies import Reply
from tests.support.upstreams import Emulated

REPLICAS = 2


@pytest.fixture
def start_gateway(running: AsyncExitStack, postgres_url: str) -> StartGateway:
    """Start replicas on one database."""
    return gateway_starter(running, postgres_url)


@pytest.fixture
async def patient(start_emulator: StartEmulator) -> Emulated:
    """An emulator that takes its time."""
    return await start_emulator(latency=0.3, token_delay=0.005)


@pytest.fixture
async def replicas(start_gateway: StartGateway, patient: Emulated) -> list[Gateway]:
    """Two replicas before that emulator."""
    return [await start_gateway(patient) for _ in range(REPLICAS)]


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_fifty_identical_requests_to_two_replicas_are_one_create(
    replicas: list[Gateway], patient: Emulated, stream: bool
) -> None:
    assert_one_answer(await at_once(replicas, 50, stream=stream))
    assert len(patient.creates) == 1
    assert await replicas[0].database.count() == 1


async def test_many_keys_at_once_are_one_create_each(replicas: list[Gateway], patient: Emulated) -> None:
    keys = [f"key-{number % 20}" for number in range(80)]
    replies = await asyncio.gather(
        *(made(replicas[number // 20 % REPLICAS], key, key=key) for number, key in enumerate(keys))
    )
    assert len(patient.creates) == 20
    for number in range(20):
        assert_one_answer(replies[number::20])


async def test_a_repeat_listens_to_the_stream_that_another_replica_reads(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)
    one, other = [await start_gateway(upstream) for _ in range(REPLICAS)]
    async with one.live(headers=keyed()) as first, other.live(headers=keyed()) as again:
        created = await first.next()
        assert await again.next() == created
        assert again.response.headers[REPLAYED] == "true"
        upstream.clock.advance(1e6)
        first_whole, again_whole = await first.rest(), await again.rest()
    assert again_whole.final["status"] == "completed"
    assert again_whole.raw == first_whole.raw
    assert len(upstream.creates) == 1


async def test_those_who_wait_for_another_replica_count_as_running(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    release = asyncio.Event()
    upstream = await start_scripted(held(release))
    one = await start_gateway(upstream)
    other = await start_gateway(upstream, max_concurrent_requests=2)
    first = asyncio.create_task(ask(one))

    async def has_row() -> bool:
        return bool(await other.database.rows())

    await eventually(has_row)
    asked = [asyncio.create_task(ask(other)) for _ in range(6)]
    assert {reply.status for reply in await done(asked, 4)} == {503}
    release.set()
    replies = await asyncio.gather(*asked)
    assert {reply.raw for reply in replies if reply.status == 200} == {(await first).raw}
    assert len(upstream.bodies) == 1


async def test_another_body_is_refused_by_every_replica(replicas: list[Gateway], patient: Emulated) -> None:
    one, other = replicas
    patient.hold()
    first = asyncio.create_task(made(one))

    async def has_row() -> bool:
        return bool(await other.database.rows())

    await eventually(has_row)
    assert (await ask(other, "Other")).status == 422
    patient.release()
    assert_repeated(await first, await made(other))
    assert len(patient.creates) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_whoever_waits_for_another_replicas_failure_gets_it(
    replicas: list[Gateway], patient: Emulated, stream: bool
) -> None:
    patient.fault("latency;seconds=3600,status;code=429;message=Slow down")
    asking = asyncio.gather(*(ask(replicas[number % REPLICAS], stream=stream) for number in range(10)))
    await all_run(replicas, 10)
    # They have found it in the database.
    await rest(0.3)
    patient.release()
    replies = await asking
    assert {(reply.status, reply.error["message"]) for reply in replies} == {(429, "Slow down")}
    assert len(patient.creates) == 1
    if stream:
        assert REPLAYED not in (await streamed(replicas[1])).headers
    else:
        assert REPLAYED not in (await made(replicas[1], stream=False)).headers


async def test_whatever_fails_no_key_has_two_ends(replicas: list[Gateway], patient: Emulated) -> None:
    # Some of these leave the key free, others bind it; the first to be sent decides.
    faults = ("", "status;code=429", "status;code=503", "status;code=404", "status;code=500", "reset_after")
    random = Random(17)
    asked = [f"key-{number % 12}" for number in range(160)]
    random.shuffle(asked)

    async def answer(place: int, key: str) -> Reply:
        await asyncio.sleep(random.uniform(0.0, 2.0))
        return await ask(replicas[place % REPLICAS], key, key=key, fault=random.choice(faults))

    replies = await asyncio.gather(*(answer(place, key) for place, key in enumerate(asked)))
    created = Counter(body["input"] for body in patient.creates)
    for key in set(asked):
        answers = [reply for reply, wanted in zip(replies, asked, strict=True) if wanted == key]
        told = {reply.headers["x-interaction-id"]: reply.raw for reply in answers}
        assert len(told) == created[key], "one create for each interaction"
        for reply in answers:
            assert reply.raw == told[reply.headers["x-interaction-id"]], "one answer for each interaction"
        ends = {reply.headers["x-interaction-id"]: reply for reply in answers if is_bound(reply)}
        assert len(ends) <= 1
        for end in ends.values():
            again = await ask(replicas[0], key, key=key)
            assert (again.status, again.raw) == (end.status, end.raw)
    assert await replicas[0].database.count() == len(patient.creates) == created.total()


def is_bound(reply: Reply) -> bool:
    """Whether an answer is an end that its key is bound to."""
    return reply.status not in (429, 503)
