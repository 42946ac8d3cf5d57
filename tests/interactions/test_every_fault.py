"""Each fault that the emulator knows, under load, at one of three deployments: nobody notices, or is told honestly."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from service.emulator.directives import FAULTS
from tests.interactions.conversations import assert_quotes
from tests.interactions.test_faults_under_load import (
    AMBIGUOUS,
    CLIENTS,
    COOLDOWN,
    HEADLESS,
    loaded,
    serves_again,
)
from tests.interactions.test_retries import SAFE
from tests.support.database import Row
from tests.support.fleet import Fleet, fleet_of
from tests.support.gateways import StartEmulator, StartGateway

#: Refusals of what was carried out all the same.
DONE = ("status;code=500;done=1", "status;code=504;done=1", "html;code=502;done=1")
#: Oddities of an answer that is whole.
ODD = (
    "latency;seconds=0.02",
    "trickle;bytes=512;seconds=0.001",
    "missing_usage;gets=1",
    "not_found_after_create;gets=1",
    "forget",
    "flat_outputs",
)
#: The ways in which upstream may say that it has lost the conversation.
STALE = ("stale;code=404", "stale;code=410", "stale;code=400")

#: Ways in which a stream breaks whose interaction goes on, and in which one is odd.
BREAKS = (
    "cut;after=8",
    "cut;after=8;partial=1",
    "cut;after=8;reset=1",
    "cut;after=6,not_found_after_create;gets=1",
    "end;after=8",
    "stall;after=8",
    "malformed_tail;after=8",
    "error_event;after=8",
    "limit;seconds=0.5,trickle;bytes=64;seconds=0.02",
    "limit;seconds=0.5;tail=abort,trickle;bytes=64;seconds=0.02",
    "missing_usage;gets=1",
    "missing_event_type",
    "crlf",
    "comments",
    "no_done",
    "trickle;bytes=512;seconds=0.001",
    "latency;seconds=0.02",
    "forget",
)


@pytest.fixture
async def fleet(start_emulator: StartEmulator, start_gateway: StartGateway) -> Fleet:
    return await fleet_of(start_emulator, start_gateway, "abc")


def test_every_fault_of_the_emulator_is_met() -> None:
    met = {
        directive.partition(";")[0]
        for fault in (*SAFE, *AMBIGUOUS, HEADLESS, *DONE, *ODD, *STALE, *BREAKS)
        for directive in fault.split(",")
    }
    assert met == set(FAULTS)


async def test_nobody_who_listens_notices_either(fleet: Fleet) -> None:
    members = {"weight": {"a": 1.0, "b": 1.0, "c": 4.0}, "stream_timeout": 1.5}
    # No traffic before has earned the retries of the first two.
    gateway = await fleet.gateway(cooldown_time=COOLDOWN, members=members, retry_allowance=24)
    for fault in ("status;code=429", "html;code=502", *BREAKS):
        asked = fleet["c"].asked
        fleet["c"].behave(fault)
        streamed = await asyncio.gather(*(gateway.stream(f"question {number}") for number in range(12)))
        fleet["c"].calm()
        assert fleet["c"].asked > asked, fault
        assert all(stream.done and not stream.broken for stream in streamed), fault
        assert {stream.final["status"] for stream in streamed} == {"completed"}, fault
        await serves_again(fleet, gateway, "c")
    rows = await gateway.database.rows()
    # What it forgets it has told all of.
    assert len({row["upstream_id"] for row in rows}) == len(rows)
    assert fleet.asked().total() - len(rows) == sum(_repeated(row) for row in rows)


async def test_nobody_notices_what_is_odd(fleet: Fleet) -> None:
    gateway = await fleet.gateway(members={"weight": {"a": 1.0, "b": 1.0, "c": 4.0}})
    asked = 0
    for fault in ODD:
        fleet["c"].behave(fault)
        replies = await loaded(gateway, each=2)
        asked += len(replies)
        fleet["c"].calm()
        assert {reply.status for reply in replies} == {200}, fault
        again = await asyncio.gather(*(gateway.got(reply.id) for reply in replies))
        assert [one.text for one in again] == [reply.text for reply in replies], fault
    assert fleet.asked().total() == asked == await gateway.database.count()


async def test_conversations_go_on_where_their_deployment_has_lost_them(fleet: Fleet) -> None:
    gateway = await fleet.gateway()
    for fault in STALE:
        firsts = await asyncio.gather(*(gateway.ask(f"first {number}") for number in range(CLIENTS)))
        for method in ("POST", "GET"):
            fleet["c"].fault(fault, count=0, method=method)
        seconds = await asyncio.gather(
            *(gateway.ask("second", previous_interaction_id=first.id) for first in firsts)
        )
        fleet["c"].calm()
        for number, second in enumerate(seconds):
            assert_quotes(second, f"first {number}", "second")
    rows = await gateway.database.rows()
    assert len({row["upstream_id"] for row in rows}) == fleet.held == len(rows)


async def test_what_was_carried_out_and_refused_is_told_of_in_the_record(fleet: Fleet) -> None:
    gateway = await fleet.gateway(cooldown_time=COOLDOWN, retry_allowance=36)
    for fault in DONE:
        fleet["c"].behave(fault)
        replies = await loaded(gateway, each=3)
        assert {reply.status for reply in replies} == {200}
        fleet["c"].calm()
        await serves_again(fleet, gateway, "c")
    rows = await gateway.database.rows()
    ambiguous = sum(row["attempts"].count('"ambiguous":true') for row in rows)
    assert fleet.held == len(rows) + ambiguous
    assert ambiguous >= len(DONE)


@pytest.mark.parametrize("fault", AMBIGUOUS)
async def test_a_stream_that_may_have_run_is_never_run_twice(fleet: Fleet, fault: str) -> None:
    # All at once are dealt to all in turn.
    gateway = await fleet.gateway(routing_strategy="least-busy")
    fleet["c"].behave(fault)
    replies = await asyncio.gather(*(gateway.create("Hello", stream=True) for _ in range(CLIENTS)))
    assert {reply.status for reply in replies} == {200, 502}
    assert fleet.asked().total() <= len(replies) == await gateway.database.count()


async def test_a_stream_of_which_nothing_has_come_is_never_run_twice(fleet: Fleet) -> None:
    gateway = await fleet.gateway(members={"weight": {"a": 1.0, "b": 1.0, "c": 4.0}})
    fleet["c"].behave(HEADLESS)
    streamed = await asyncio.gather(*(gateway.stream("Hello") for _ in range(CLIENTS)))
    lost = [stream for stream in streamed if stream.broken]
    assert {stream.headers["x-deployment"] for stream in lost} == {"c"}
    assert {stream.events[-1]["error"]["code"] for stream in lost} == {"bad_gateway"}
    rows = await gateway.database.rows()
    assert fleet.asked().total() == CLIENTS == len(rows)
    assert sum(row["status"] == "failed" for row in rows) == len(lost)


def _repeated(row: Row) -> int:
    """How many attempts were made after the first."""
    return len(orjson.loads(row["attempts"])) - 1
