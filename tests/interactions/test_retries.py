"""Creates that fail on one deployment and are answered by another: what the caller gets, and what the record says."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import orjson
import pytest

from tests.interactions.conversations import assert_quotes
from tests.support.fleet import Fleet, fleet_of
from tests.support.gateway import MODEL, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Json, Reply
from tests.support.upstreams import deployment

#: Refusals that a caller need not see while another deployment serves.
SAFE = [
    "status;code=408",
    "status;code=409",
    "status;code=429",
    "status;code=500",
    "status;code=502;shape=classic",
    "status;code=503",
    "status;code=504",
    "html;code=502",
]


@pytest.fixture
async def fleet(start_emulator: StartEmulator, start_gateway: StartGateway) -> Fleet:
    return await fleet_of(start_emulator, start_gateway, "ab")


async def attempts_of(gateway: Gateway, reply: Reply) -> list[Json]:
    row = await gateway.database.row(reply.headers["x-interaction-id"])
    attempts: list[Json] = orjson.loads(row["attempts"])
    return attempts


FIRST: dict[str, Any] = {"members": {"order": {"a": 1, "b": 2}}}


@pytest.mark.parametrize("fault", SAFE)
async def test_a_refusal_is_repeated_elsewhere(fleet: Fleet, fault: str) -> None:
    fleet["a"].behave(fault)
    gateway = await fleet.gateway(**FIRST)
    reply = await gateway.ask("Hello")
    assert (reply.headers["x-deployment"], reply.headers["x-attempts"]) == ("b", "2")
    assert fleet.asked() == {"a": 1, "b": 1}
    first, second = await attempts_of(gateway, reply)
    assert (first["deployment"], second["deployment"], second["status"]) == ("a", "b", 200)
    assert second["after"] == first["code"]
    assert first.get("ambiguous", False) is (first["status"] in (500, 502, 504))
    row = await gateway.database.row(reply.id)
    assert (row["deployment_id"], row["status"], row["model"]) == ("b", "completed", MODEL)


@pytest.mark.parametrize(
    ("status", "message"),
    [(401, "No"), (402, "No"), (403, "No"), (400, "API key not valid. Please pass one")],
)
async def test_a_key_that_is_refused_is_nobodys_but_its_deployments(
    fleet: Fleet, status: int, message: str
) -> None:
    fleet["a"].behave(f"status;code={status};shape=classic;message={message}")
    gateway = await fleet.gateway(**FIRST, allowed_fails=0)
    reply = await gateway.ask("Hello")
    assert (reply.headers["x-deployment"], reply.headers["x-attempts"]) == ("b", "2")
    assert (await gateway.ask("Hello")).headers["x-attempts"] == "1"
    alone = await fleet.gateway("a")
    assert (await alone.refused(status)).headers["x-attempts"] == "1"


async def test_what_is_forbidden_to_every_key_is_asked_of_two(fleet: Fleet) -> None:
    for name in "ab":
        fleet[name].behave("status;code=403")
    gateway = await fleet.gateway(**FIRST, allowed_fails=0)
    for _ in range(2):
        reply = await gateway.refused(403)
        assert (reply.headers["x-deployment"], reply.headers["x-attempts"]) == ("b", "2")


async def test_a_stream_is_repeated_before_its_first_byte(fleet: Fleet) -> None:
    fleet["a"].behave("status;code=503")
    gateway = await fleet.gateway(**FIRST)
    streamed = await gateway.stream("Hello")
    assert streamed.done
    assert (streamed.headers["x-deployment"], streamed.headers["x-attempts"]) == ("b", "2")


async def test_a_stream_that_broke_is_never_begun_anew(fleet: Fleet) -> None:
    fleet["a"].behave("cut;after=3,forget")
    gateway = await fleet.gateway(**FIRST)
    streamed = await gateway.stream("Hello")
    assert streamed.broken
    assert fleet.asked() == {"a": 1}


async def test_a_connection_that_is_not_made_is_made_elsewhere(fleet: Fleet) -> None:
    gateway = await fleet.gateway(**FIRST)
    await fleet["a"].close()
    reply = await gateway.ask("Hello")
    first, _ = await attempts_of(gateway, reply)
    assert (first["deployment"], first["status"], first["code"]) == ("a", 503, "service_unavailable")
    assert "ambiguous" not in first
    assert reply.headers["x-deployment"] == "b"


@pytest.mark.parametrize("fault", ["reset_before", "reset_after", "broken_json", "empty"])
async def test_a_lost_answer_is_the_callers_to_decide_on(fleet: Fleet, fault: str) -> None:
    fleet["a"].behave(fault)
    gateway = await fleet.gateway(**FIRST)
    reply = await gateway.refused(502)
    assert (reply.headers["x-deployment"], reply.headers["x-attempts"]) == ("a", "1")
    (only,) = await attempts_of(gateway, reply)
    assert only["ambiguous"] is True
    assert fleet["b"].requests == []
    row = await gateway.database.row(reply.headers["x-interaction-id"])
    assert (row["status"], row["error_code"]) == ("failed", "bad_gateway")


async def test_a_lost_answer_is_repeated_where_the_configuration_says_so(fleet: Fleet) -> None:
    fleet["a"].behave("reset_after")
    gateway = await fleet.gateway(**FIRST, retry_ambiguous=True)
    reply = await gateway.ask("Hello")
    first, second = await attempts_of(gateway, reply)
    assert (first["ambiguous"], second["deployment"]) == (True, "b")
    assert fleet.held == 2


async def test_what_was_carried_out_and_refused_is_made_twice_unless_that_is_forbidden(fleet: Fleet) -> None:
    fleet["a"].behave("status;code=504;done=1")
    gateway = await fleet.gateway(**FIRST)
    reply = await gateway.ask("Hello")
    first, second = await attempts_of(gateway, reply)
    assert (first["ambiguous"], second["status"]) == (True, 200)
    assert fleet.held == 2
    careful = await fleet.gateway(**FIRST, retry_policy={"InternalServerErrorRetries": 0})
    refused = await careful.refused(504)
    assert refused.headers["x-attempts"] == "1"
    (only,) = await attempts_of(careful, refused)
    assert only["ambiguous"] is True
    assert fleet.held == 3
    # What cannot have run goes elsewhere all the same.
    await fleet["a"].close()
    assert (await careful.ask("Hello")).headers["x-attempts"] == "2"


async def test_a_request_that_is_wrong_is_not_repeated(fleet: Fleet) -> None:
    gateway = await fleet.gateway(**FIRST)
    await gateway.refused(400, "Hello", no_such_parameter=1)
    assert fleet.asked() == {"a": 1}


async def test_the_same_deployment_is_asked_again_after_what_it_asks_for(fleet: Fleet) -> None:
    fleet["a"].fault("status;code=429;retry_after=0.2")
    gateway = await fleet.gateway("a")
    reply = await gateway.ask("Hello")
    first, second = await attempts_of(gateway, reply)
    assert second["started"] - first["started"] - first["us"] >= 200_000


@pytest.mark.parametrize(
    "fault", ["status;code=429;retry_after=40", "status;code=429;shape=classic;retry_delay=40s"]
)
async def test_a_long_wait_is_left_to_the_caller(fleet: Fleet, fault: str) -> None:
    fleet["a"].fault(fault)
    gateway = await fleet.gateway("a")
    reply = await gateway.refused(429)
    assert reply.headers["retry-after"] == "40"
    assert reply.headers["x-attempts"] == "1"


async def test_a_caller_may_ask_for_fewer_retries(fleet: Fleet) -> None:
    fleet["a"].behave("status;code=503")
    gateway = await fleet.gateway(**FIRST)
    for name in ("x_num_retries", "x_litellm_num_retries"):
        reply = await gateway.post({"model": MODEL, "input": "Hello"}, **{name: "0"})
        assert (reply.status, reply.headers["x-attempts"]) == (503, "1")
    assert fleet["b"].requests == []


@pytest.mark.parametrize(
    ("headers", "named"),
    [
        ({"x_timeout": "soon"}, "x-timeout"),
        ({"x_timeout": "0"}, "x-timeout"),
        ({"x_litellm_timeout": "nan"}, "x-litellm-timeout"),
        ({"x_num_retries": "-1"}, "x-num-retries"),
        ({"x_num_retries": "11"}, "x-num-retries"),
        ({"x_fallbacks": "nothing"}, "fallbacks"),
    ],
)
async def test_wishes_that_cannot_be_met_are_named(fleet: Fleet, headers: dict[str, str], named: str) -> None:
    gateway = await fleet.gateway()
    reply = await gateway.post({"model": MODEL, "input": "Hello"}, **headers)
    assert reply.status == 400
    assert named in reply.error["message"]
    assert fleet.asked() == {}


async def test_the_change_of_deployment_is_committed_before_anything_is_sent_there(fleet: Fleet) -> None:
    fleet["a"].behave("status;code=503")
    fleet["b"].hold()
    gateway = await fleet.gateway(**FIRST)
    asking = asyncio.create_task(gateway.ask("Hello"))

    async def sent() -> bool:
        return fleet["b"].asked == 1

    await eventually(sent)
    (row,) = await gateway.database.rows()
    assert (row["deployment_id"], row["status"]) == ("b", "in_progress")
    (first,) = orjson.loads(row["attempts"])
    assert (first["deployment"], first["status"]) == ("a", 503)
    fleet["b"].release()
    await asking


async def test_nothing_is_sent_elsewhere_that_cannot_be_committed(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fleet["a"].behave("latency;seconds=3600,status;code=503")
    gateway = await fleet.gateway(**FIRST)
    asking = asyncio.create_task(gateway.create("Hello"))

    async def sent() -> bool:
        return fleet["a"].asked == 1

    async def given_up() -> bool:
        return "an attempt on a is the last one" in caplog.text

    await eventually(sent)
    async with gateway.database.outage():
        fleet["a"].release()
        await eventually(given_up)
    reply = await asking
    assert reply.status == 503
    assert fleet["b"].requests == []


async def test_a_fallback_answers_and_is_named(fleet: Fleet) -> None:
    fleet["a"].behave("status;code=503")
    more = (deployment(fleet["b"], "clever", "gemini-2.5-pro", id="pro"),)
    gateway = await fleet.gateway("a", more=more, fallbacks={MODEL: ("clever",)}, num_retries=0)
    reply = await gateway.ask("Hello")
    assert reply.body["model"] == "gemini-2.5-pro"
    assert (reply.headers["x-deployment"], reply.headers["x-attempts"]) == ("pro", "2")
    _, second = await attempts_of(gateway, reply)
    assert second["fallback"] == "clever"
    row = await gateway.database.row(reply.id)
    assert (row["model_requested"], row["model"], row["deployment_id"]) == (MODEL, "gemini-2.5-pro", "pro")
    (body,) = fleet["b"].creates
    assert body == {"model": "gemini-2.5-pro", "input": "Hello"}


@pytest.mark.parametrize(
    ("headers", "members"),
    [
        ({"x_fallbacks": "clever"}, {}),
        ({}, {"fallbacks": ["clever"]}),
        ({}, {"fallbacks": [{MODEL: ["clever"]}]}),
    ],
)
async def test_a_caller_may_name_fallbacks_and_upstream_never_sees_them(
    fleet: Fleet, headers: dict[str, str], members: Json
) -> None:
    more = (deployment(fleet["b"], "clever", "gemini-2.5-pro", id="pro"),)
    gateway = await fleet.gateway("a", more=more, num_retries=0)
    body = {"model": MODEL, "input": "Hello", **members}
    assert (await gateway.post(body, **headers)).headers["x-deployment"] == "a"
    fleet["a"].behave("status;code=503")
    reply = await gateway.post(body, **headers)
    assert (reply.status, reply.headers["x-deployment"]) == (200, "pro")
    assert all("fallbacks" not in seen for name in "ab" for seen in fleet[name].creates)


async def test_fallbacks_of_null_leave_it_to_the_configuration(fleet: Fleet) -> None:
    more = (deployment(fleet["b"], "clever", "gemini-2.5-pro", id="pro"),)
    gateway = await fleet.gateway("a", more=more, default_fallbacks=("clever",), num_retries=0)
    fleet["a"].behave("status;code=503")
    reply = await gateway.create(fallbacks=None)
    assert (reply.status, reply.headers["x-deployment"]) == (200, "pro")


async def test_a_follow_up_on_a_fallback_carries_the_conversation(fleet: Fleet) -> None:
    more = (deployment(fleet["b"], "clever", "gemini-2.5-pro", id="pro"),)
    gateway = await fleet.gateway("a", more=more, default_fallbacks=("clever",), num_retries=0)
    first = await gateway.ask("One")
    fleet["a"].behave("status;code=503")
    reply = await gateway.ask("Two", previous_interaction_id=first.id)
    assert reply.headers["x-interactions-history"] == "rebuilt"
    assert_quotes(reply, "One", "Two")


async def test_an_unknown_model_is_told_with_those_that_exist(fleet: Fleet) -> None:
    gateway = await fleet.gateway()
    reply = await gateway.refused(404, model="gemini-9")
    assert reply.error["code"] == "model_not_found"
    assert "fast" in reply.error["message"]
