"""Time limits of deployments and of callers: who is told what, and what comes of the interaction."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from aiohttp import web

from service.settings import DeploymentSettings
from service.store.records import USAGE_MISSING
from tests.support.database import Row
from tests.support.fleet import Fleet, fleet_of
from tests.support.gateway import MODEL, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway, StartScripted
from tests.support.raw_server import Connection, raw_server
from tests.support.upstreams import answering, deployment

#: Until the clock of the emulator is moved.
SLOW = "latency;seconds=3600"
#: As short as a limit may be that is to be exceeded, and long enough for what must happen before it.
SOON = 0.5
LEFT = "3"
WHOLE = 1e6


@pytest.fixture
async def fleet(start_emulator: StartEmulator, start_gateway: StartGateway) -> Fleet:
    return await fleet_of(start_emulator, start_gateway, "ab")


@pytest.mark.parametrize("header", ["x_timeout", "x_litellm_timeout"])
async def test_a_caller_that_stops_waiting_finds_the_answer_later(fleet: Fleet, header: str) -> None:
    fleet["a"].hold()
    gateway = await fleet.gateway("a")
    reply = await gateway.post({"model": MODEL, "input": "Hello"}, **{header: LEFT})
    assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
    assert (reply.headers["x-deployment"], reply.headers["x-attempts"]) == ("a", "1")
    name = reply.headers["x-interaction-id"]
    assert (await gateway.got(name)).body["status"] == "in_progress"
    fleet["a"].release()
    found = await gateway.finished(name)
    assert found.body["status"] == "completed"
    assert fleet.held == 1


async def test_a_stream_that_opens_too_late_is_recorded_all_the_same(fleet: Fleet) -> None:
    fleet["a"].hold()
    gateway = await fleet.gateway("a")
    reply = await gateway.post({"model": MODEL, "input": "Hello", "stream": True}, x_timeout=LEFT)
    assert reply.status == 504
    fleet["a"].release()
    name = reply.headers["x-interaction-id"]
    assert (await gateway.finished(name)).body["status"] == "completed"
    assert (await gateway.events(name)).done


async def test_a_stream_that_takes_too_long_goes_on_without_its_caller(slow: Fleet) -> None:
    gateway = await slow.gateway("a")
    streamed = await gateway.stream("Hello", headers={"x-timeout": "3"})
    assert streamed.broken
    assert streamed.events[-1]["error"]["code"] == "deadline_exceeded"
    slow["a"].clock.advance(WHOLE)
    name = streamed.headers["x-interaction-id"]
    assert (await gateway.finished(name)).body["status"] == "completed"
    whole = await gateway.events(name)
    assert whole.done
    assert whole.events[: len(streamed.events) - 1] == streamed.events[:-1]


@pytest.fixture
async def slow(start_emulator: StartEmulator, start_gateway: StartGateway) -> Fleet:
    """An emulator whose streams go on only when its clock is moved: one event a minute."""
    return Fleet({"a": await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)}, start_gateway)


@pytest.mark.parametrize(
    "limits",
    [
        {"stream_total_timeout": 3.0},
        {"stream_total_timeout": 60.0, "members": {"stream_total_timeout": 3.0}},
    ],
    ids=["router", "deployment"],
)
async def test_a_stream_has_a_limit_for_the_whole(slow: Fleet, limits: dict[str, Any]) -> None:
    gateway = await slow.gateway(**limits)
    streamed = await gateway.stream("Hello", headers={"x-timeout": "30", "idempotency-key": "one"})
    assert streamed.broken
    assert streamed.events[-1]["error"]["code"] == "deadline_exceeded"
    again = await gateway.stream("Hello", headers={"idempotency-key": "one"})
    assert again.broken
    assert again.events == streamed.events
    slow["a"].clock.advance(WHOLE)
    name = streamed.headers["x-interaction-id"]
    whole = await gateway.events(name)
    assert whole.done
    assert whole.events[: len(streamed.events) - 1] == streamed.events[:-1]
    # It was read on: nothing had to be asked for.
    assert slow["a"].calls("GET") == []
    assert (await gateway.database.row(name))["status"] == "completed"


async def test_a_stream_that_opens_after_its_whole_time_is_recorded(fleet: Fleet) -> None:
    fleet["a"].hold()
    gateway = await fleet.gateway("a", stream_total_timeout=1.0)
    reply = await gateway.post({"model": MODEL, "input": "Hello", "stream": True})
    assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
    fleet["a"].release()
    name = reply.headers["x-interaction-id"]
    assert (await gateway.finished(name)).body["status"] == "completed"
    # What is no stream has no such limit.
    assert (await gateway.ask("Hello")).body["status"] == "completed"


async def test_a_stream_that_never_ends_is_given_up(slow: Fleet) -> None:
    gateway = await slow.gateway(background_timeout=3.0)
    streamed = await gateway.stream("Hello")
    assert streamed.broken
    assert streamed.events[-1]["error"]["code"] == "deadline_exceeded"
    stored = await gateway.got(streamed.headers["x-interaction-id"])
    assert stored.body["status"] == "failed"


async def test_a_caller_that_is_answered_in_time_notices_nothing(fleet: Fleet) -> None:
    gateway = await fleet.gateway("a")
    reply = await gateway.post({"model": MODEL, "input": "Hello"}, x_timeout="20")
    assert reply.status == 200
    refused = await gateway.post({"model": MODEL, "input": "Hello", "nothing": 1}, x_timeout="20")
    assert refused.status == 400


async def test_what_a_caller_left_is_recorded_before_the_service_stops(fleet: Fleet) -> None:
    fleet["a"].hold()
    gateway = await fleet.gateway("a", drain_timeout=60.0)
    reply = await gateway.post({"model": MODEL, "input": "Hello"}, x_timeout=LEFT)
    await _stopped(gateway, fleet)
    row = await gateway.database.row(reply.headers["x-interaction-id"])
    assert row["status"] == "completed"


async def test_no_retry_begins_after_the_caller_has_left(fleet: Fleet) -> None:
    fleet["a"].behave(f"{SLOW},status;code=503")
    gateway = await fleet.gateway(members={"order": {"a": 1, "b": 2}})
    reply = await gateway.post({"model": MODEL, "input": "Hello"}, x_timeout=LEFT)
    assert reply.status == 504
    fleet["a"].release()
    assert (await gateway.finished(reply.headers["x-interaction-id"])).body["status"] == "failed"
    assert fleet.asked() == {"a": 1}


async def late(gateway: Gateway, *, key: str = "", **members: Any) -> str:
    """The id of a create whose answer does not come in time, as its caller is told."""
    headers = {"idempotency_key": key} if key else {}
    reply = await gateway.post({"model": MODEL, "input": "Hello", **members}, **headers)
    assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
    assert (reply.headers["x-deployment"], reply.headers["x-attempts"]) == ("a", "1")
    return reply.headers["x-interaction-id"]


@pytest.mark.parametrize(
    ("limits", "stream"),
    [
        (("timeout",), False),
        (("first_byte_timeout",), False),
        (("timeout", "first_byte_timeout"), False),
        (("first_byte_timeout",), True),
    ],
    ids=["unary", "first byte of unary", "both of unary", "first byte of stream"],
)
async def test_what_a_deployment_answers_too_late_is_recorded_and_made_nowhere_else(
    fleet: Fleet, limits: tuple[str, ...], stream: bool
) -> None:
    fleet["a"].hold()
    members = {"order": {"a": 1, "b": 2}, **{key: {"a": SOON, "b": 30.0} for key in limits}}
    gateway = await fleet.gateway(members=members, allowed_fails=0)
    name = await late(gateway, stream=stream, key="one")
    assert (await gateway.got(name)).body["status"] == "in_progress"
    # It is a failure of the deployment, which rests.
    assert (await gateway.ask("Again")).headers["x-deployment"] == "b"
    fleet["a"].release()
    found = await gateway.finished(name)
    assert found.body["status"] == "completed"
    assert fleet.asked() == {"a": 1, "b": 1}
    row = await gateway.database.row(name)
    (attempt,) = orjson.loads(row["attempts"])
    assert (attempt["status"], attempt["late"], row["total_tokens"] > 0) == (200, True, True)
    assert not {"code", "ambiguous"} & attempt.keys()
    if stream:
        assert (await gateway.events(name)).done
    else:
        body = {"model": MODEL, "input": "Hello", "stream": False}
        again = await gateway.post(body, idempotency_key="one")
        assert (again.id, again.headers["idempotency-replayed"]) == (name, "true")


@pytest.mark.parametrize(
    ("limits", "headers", "stream"),
    [
        ({"timeout": SOON}, {}, False),
        ({"first_byte_timeout": SOON}, {}, True),
        ({}, {"x_timeout": LEFT}, False),
        ({}, {"x_timeout": LEFT}, True),
    ],
    ids=["late", "late stream", "left", "left stream"],
)
async def test_what_was_deleted_before_upstream_answered_is_deleted_there_afterwards(
    fleet: Fleet, limits: dict[str, float], headers: dict[str, str], stream: bool
) -> None:
    fleet["a"].hold()
    gateway = await fleet.gateway("a", members=limits)
    reply = await gateway.post({"model": MODEL, "input": "Hello", "stream": stream}, **headers)
    name = reply.headers["x-interaction-id"]
    assert (await gateway.delete(name)).status == 200
    fleet["a"].release()

    async def is_gone_upstream() -> bool:
        return (await gateway.database.row(name))["upstream_gone_at"] is not None

    await eventually(is_gone_upstream)
    assert (fleet["a"].asked, fleet["a"].held) == (1, 0)


async def test_nobodys_place_is_taken_by_a_late_answer(fleet: Fleet) -> None:
    fleet["a"].fault(SLOW)
    members = {"timeout": 3.0, "max_parallel_requests": 1}
    gateway = await fleet.gateway("a", members=members, max_concurrent_requests=1)
    name = await late(gateway)
    assert (await gateway.ask("Again")).status == 200
    fleet["a"].release()
    assert (await gateway.finished(name)).body["status"] == "completed"


@pytest.mark.parametrize(
    ("fault", "code", "ambiguous"),
    [("status;code=429", "rate_limit_exceeded", False), ("reset_after", "bad_gateway", True)],
)
async def test_how_a_late_answer_fails_is_recorded(
    fleet: Fleet, fault: str, code: str, ambiguous: bool
) -> None:
    fleet["a"].behave(f"{SLOW},{fault}")
    members = {"order": {"a": 1, "b": 2}, "timeout": {"a": SOON, "b": 30.0}}
    gateway = await fleet.gateway(members=members, allowed_fails=0)
    name = await late(gateway, key="one")
    fleet["a"].release()
    assert (await gateway.finished(name)).body["status"] == "failed"
    row = await gateway.database.row(name)
    (attempt,) = orjson.loads(row["attempts"])
    assert (row["error_code"], attempt["code"], attempt.get("ambiguous", False)) == (code, code, ambiguous)
    assert fleet.asked() == {"a": 1}
    # What cannot have run leaves its key free.
    again = await gateway.post({"model": MODEL, "input": "Hello"}, idempotency_key="one")
    assert (again.headers["x-interaction-id"] == name) is ambiguous
    assert fleet.asked() == ({"a": 1} if ambiguous else {"a": 1, "b": 1})


async def test_an_answer_that_does_not_come_is_given_up(fleet: Fleet) -> None:
    fleet["a"].hold()
    gateway = await fleet.gateway("a", members={"timeout": SOON, "background_timeout": 4.0})
    name = await late(gateway)
    (attempt,) = orjson.loads((await _noted(gateway, name))["attempts"])
    assert (attempt["code"], attempt["ambiguous"]) == ("deadline_exceeded", True)
    assert (await gateway.finished(name)).body["status"] == "failed"
    row = await gateway.database.row(name)
    assert row["error_code"] == "deadline_exceeded"
    (attempt,) = orjson.loads(row["attempts"])
    assert attempt["ambiguous"] is True


async def hesitant(start_scripted: StartScripted) -> tuple[asyncio.Event, DeploymentSettings]:
    """A deployment that answers late, when the event says so; it names each interaction as it was asked for."""
    gate = asyncio.Event()

    async def hesitate(request: web.Request) -> web.StreamResponse:
        await gate.wait()
        name = (await request.json())["input"]
        return await answering(orjson.dumps({"id": name, "status": "completed", "steps": []}))(request)

    return gate, deployment(await start_scripted(hesitate), "slow", MODEL, id="a", timeout=SOON)


async def test_of_many_late_answers_the_latest_are_waited_for(
    fleet: Fleet, start_scripted: StartScripted
) -> None:
    gate, entry = await hesitant(start_scripted)
    gateway = await fleet.gateway("b", more=(entry,), max_concurrent_requests=4)
    names = [await late(gateway, model="slow") for _ in range(4)]
    ended = [(await gateway.finished(name)).body["status"] for name in names[:2]]
    assert ended == ["failed", "failed"]
    gate.set()
    ended = [(await gateway.finished(name)).body["status"] for name in names[2:]]
    assert ended == ["completed", "completed"]


@pytest.mark.parametrize("elsewhere", [False, True], ids=["here", "elsewhere"])
@pytest.mark.parametrize(
    "members",
    [{"stream": True}, {"background": True}, {"stream": True, "background": True}],
    ids=["stream", "background", "background stream"],
)
async def test_what_is_answered_late_can_be_cancelled(
    fleet: Fleet, members: dict[str, Any], elsewhere: bool
) -> None:
    fleet["a"].hold()
    gateway = await fleet.gateway("a", members={"timeout": SOON, "first_byte_timeout": SOON})
    name = await late(gateway, **members)
    asked = await fleet.gateway("a") if elsewhere else gateway
    reply = await asked.cancel(name)
    assert (reply.status, reply.body["status"]) == (200, "cancelled")
    row = await gateway.database.row(name)
    assert (row["status"], row["usage_state"]) == ("cancelled", USAGE_MISSING)
    (attempt,) = orjson.loads(row["attempts"])
    assert (attempt["code"], attempt["ambiguous"]) == ("deadline_exceeded", True)
    assert (await asked.cancel(name)).status == 400
    if "stream" in members:
        assert (await asked.events(name)).done


async def test_a_cancel_that_meets_a_late_answer_ends_it_one_way_or_the_other(
    fleet: Fleet, start_scripted: StartScripted
) -> None:
    gate, entry = await hesitant(start_scripted)
    gateway = await fleet.gateway("b", more=(entry,))
    names = [await late(gateway, model="slow", background=True, input=f"v1_{place}") for place in range(6)]

    async def cancelled(place: int) -> str:
        await asyncio.sleep(place * 0.002)
        reply = await gateway.cancel(names[place])
        if reply.status == 200:
            return str(reply.body["status"])
        assert reply.status == 400
        return "completed"

    early = asyncio.create_task(cancelled(0))
    gate.set()
    told = await asyncio.gather(early, *(cancelled(place) for place in range(1, len(names))))
    assert [(await gateway.got(name)).body["status"] for name in names] == told
    assert set(told) <= {"cancelled", "completed"}


async def test_a_late_answer_is_not_waited_for_where_it_may_be_made_again(fleet: Fleet) -> None:
    fleet["a"].behave(SLOW)
    gateway = await fleet.gateway(
        members={"order": {"a": 1, "b": 2}, "timeout": {"a": SOON, "b": 30.0}}, retry_ambiguous=True
    )
    reply = await gateway.ask("Hello")
    assert (reply.headers["x-deployment"], reply.headers["x-attempts"]) == ("b", "2")
    first, _ = orjson.loads((await gateway.database.row(reply.id))["attempts"])
    assert (first["code"], first["ambiguous"]) == ("deadline_exceeded", True)


async def test_a_late_answer_is_recorded_before_the_service_stops(fleet: Fleet) -> None:
    fleet["a"].hold()
    gateway = await fleet.gateway("a", members={"timeout": SOON}, drain_timeout=60.0)
    name = await late(gateway)
    await _stopped(gateway, fleet)
    assert (await gateway.database.row(name))["status"] == "completed"


@pytest.mark.parametrize("limits", [{"connect_timeout": 1.0}, {"members": {"connect_timeout": 1.0}}])
async def test_the_making_of_a_connection_has_a_limit_of_its_own(
    fleet: Fleet, limits: dict[str, Any]
) -> None:
    async def shake_no_hands(connection: Connection) -> None:
        await connection.reader.read(-1)

    async with raw_server(shake_no_hands) as server:
        url = server.url.replace("http:", "https:")
        more = (deployment(url, "deaf", MODEL, id="deaf", **limits.get("members", {})),)
        router = {name: value for name, value in limits.items() if name != "members"}
        gateway = await fleet.gateway("b", more=more, default_fallbacks=("fast",), num_retries=0, **router)
        # The connection to b is there already: the limit may be the router's.
        await gateway.ask(model="fast")
        reply = await gateway.refused(503, model="deaf", fallbacks=[])
        assert "within 1 s" in reply.error["message"]
        (attempt,) = orjson.loads((await _noted(gateway, reply.headers["x-interaction-id"]))["attempts"])
        assert "ambiguous" not in attempt
        # Nothing was sent, so it may go elsewhere.
        assert (await gateway.ask(model="deaf")).headers["x-deployment"] == "b"


async def test_a_late_answer_that_does_not_come_before_the_service_stops_is_given_a_verdict_by_the_next(
    fleet: Fleet,
) -> None:
    fleet["a"].hold()
    settings: dict[str, Any] = {"drain_timeout": 0.1, "claim_interval": 0.05}
    gateway = await fleet.gateway("a", members={"timeout": SOON}, **settings)
    name = await late(gateway, model="fast")
    await _noted(gateway, name)
    await gateway.stop()
    other = await fleet.gateway("a", **settings)
    found = await other.finished(name)
    assert [error["code"] for error in found.body["errors"]] == ["interrupted"]
    row = await other.database.row(name)
    assert (row["model"], row["model_requested"]) == (MODEL, "fast")
    (attempt,) = orjson.loads(row["attempts"])
    assert (attempt["code"], attempt["ambiguous"]) == ("deadline_exceeded", True)
    assert fleet["a"].asked == 1


async def test_the_first_byte_of_a_stream_has_a_limit_of_its_own(fleet: Fleet) -> None:
    gateway = await fleet.gateway("a", first_byte_timeout=3.0)
    # It takes longer than that, but begins in time.
    streamed = await gateway.stream("Hello", fault="trickle;bytes=4096;seconds=1")
    assert streamed.done


async def test_beyond_the_bound_a_create_is_refused_while_all_places_are_taken(
    fleet: Fleet, start_scripted: StartScripted
) -> None:
    release, begun = asyncio.Event(), asyncio.Semaphore(0)

    async def hang(request: web.Request) -> web.StreamResponse:
        begun.release()
        await release.wait()
        return await answering(b'{"id":"v1_a","status":"completed","steps":[]}')(request)

    hung = deployment(await start_scripted(hang), "hung", MODEL)
    gateway = await fleet.gateway("a", more=(hung,), max_concurrent_requests=3)
    hanging = [asyncio.create_task(gateway.create("Hello", model="hung")) for _ in range(3)]
    for _ in hanging:
        await begun.acquire()
    refused = await asyncio.gather(
        *(gateway.create("Hello", stream=number % 2 == 1, model="fast") for number in range(7))
    )
    # They were told while those that are in their way had no answer.
    assert not any(task.done() for task in hanging)
    for reply in refused:
        assert (reply.status, reply.error["code"]) == (503, "service_unavailable")
        assert (reply.headers["retry-after"], reply.headers["retry-after-ms"]) == ("1", "1000")
    assert await gateway.database.count() == 3
    assert fleet.asked() == {}
    release.set()
    assert {reply.status for reply in await asyncio.gather(*hanging)} == {200}
    assert (await gateway.ask("Hello", model="fast")).status == 200


async def test_a_stream_counts_until_it_ends(fleet: Fleet) -> None:
    gateway = await fleet.gateway("a", max_concurrent_requests=1, members={"max_parallel_requests": 1})
    async with gateway.live("Hello", fault="trickle;bytes=64;seconds=0.02") as live:
        await gateway.refused(503)
        await live.rest()
    assert (await gateway.ask("Hello")).status == 200


async def test_a_stream_that_opens_and_says_nothing_is_told_in_time(fleet: Fleet) -> None:
    gateway = await fleet.gateway("a", drain_timeout=0.1)
    body = {"model": MODEL, "input": "Hello", "stream": True}
    key = {"x_timeout": LEFT, "idempotency_key": "silent"}
    for _ in range(2):
        reply = await gateway.post(body, x_emulator_fault="stall;after=0", **key)
        assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
        assert reply.headers["x-interaction-id"]


async def _stopped(gateway: Gateway, fleet: Fleet) -> None:
    """The service has stopped; a answers when it has begun to."""
    stopping = asyncio.create_task(gateway.stop())
    done, _ = await asyncio.wait({stopping}, timeout=0.2)
    assert not done
    fleet["a"].release()
    await stopping


async def _noted(gateway: Gateway, name: str) -> Row:
    """The record, once it tells of an attempt."""

    async def is_noted() -> bool:
        return (await gateway.database.row(name))["attempts"] is not None

    await eventually(is_noted)
    return await gateway.database.row(name)
