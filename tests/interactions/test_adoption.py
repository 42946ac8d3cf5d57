"""Interactions that the store has never seen are found at the upstreams, by their own project only (promise P6)."""

from __future__ import annotations

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from aiohttp import web

from service.store.records import USAGE_NONE
from service.wire import ids
from tests.interactions.conversations import assert_quotes
from tests.interactions.elsewhere import conversation, made
from tests.support.gateway import LEGACY, MODEL, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway, StartScripted
from tests.support.store import query
from tests.support.upstreams import KEY, Emulated, answering, deployment

UNKNOWN = "v1_nobody-has-ever-seen-this"


@pytest.fixture
async def gateway(start_gateway: StartGateway, upstream: Emulated) -> Gateway:
    """The service with one deployment, looking there for what it does not know."""
    return await start_gateway(upstream, adopt_unknown=True)


async def test_a_get_finds_what_was_made_elsewhere(gateway: Gateway, upstream: Emulated) -> None:
    answer = await made(upstream, "One apple")
    reply = await gateway.got(answer["id"])
    assert ids.from_text(reply.id) is not None
    assert reply.upstream_id == answer["id"]
    assert reply.steps == answer["steps"]
    assert reply.body["usage"] == answer["usage"]
    assert [seen["query"] for seen in upstream.calls("GET")] == ["include_input=true"]
    upstream.forget()
    assert (await gateway.got(answer["id"])).raw == reply.raw
    assert (await gateway.got(reply.id)).raw == reply.raw
    assert len(upstream.requests) == 1


async def test_its_row_says_where_it_comes_from_and_counts_nothing(
    gateway: Gateway, upstream: Emulated
) -> None:
    answer = await made(upstream, "One apple")
    reply = await gateway.got(answer["id"])
    row = await gateway.database.row(reply.id)
    created = datetime.fromisoformat(answer["created"]).timestamp() * 1_000_000
    assert (row["created_at"], row["status"], row["model"]) == (created, "completed", MODEL)
    assert (row["usage_state"], row["total_tokens"]) == (USAGE_NONE, None)
    assert (row["upstream_stored"], row["store"]) == (True, True)
    (attempt,) = orjson.loads(row["attempts"])
    assert attempt["deployment"] == row["deployment_id"]
    assert attempt["adopted"] >= created

    async def is_derived() -> bool:
        return bool((await gateway.database.row(reply.id))["derived_state"])

    await eventually(is_derived)
    await gateway.delete(reply.id)
    assert (await gateway.database.row(reply.id))["usage_detail"] is None


async def test_a_follow_up_goes_on_with_what_was_made_elsewhere(gateway: Gateway, upstream: Emulated) -> None:
    answer = await made(upstream, "One apple")
    second = await gateway.ask("Two pears", previous_interaction_id=answer["id"])
    assert_quotes(second, "One apple", "Two pears")
    assert upstream.creates[-1]["previous_interaction_id"] == answer["id"]
    first = await gateway.got(answer["id"])
    assert second.body["previous_interaction_id"] == first.id
    assert await gateway.database.count() == 2


async def test_its_events_are_replayed(gateway: Gateway, upstream: Emulated) -> None:
    answer = await made(upstream, "One apple")
    streamed = await gateway.events(answer["id"])
    assert streamed.final["status"] == "completed"
    assert streamed.final["id"] == (await gateway.got(answer["id"])).id


async def test_a_legacy_caller_finds_it_too(gateway: Gateway, upstream: Emulated) -> None:
    answer = await made(upstream, "One apple")
    reply = await gateway.got(answer["id"], headers=LEGACY)
    assert [output["type"] for output in reply.body["outputs"]] == ["thought", "text"]
    assert "steps" not in reply.body
    body = {"model": MODEL, "input": "Two pears", "previous_interaction_id": (await made(upstream))["id"]}
    follow_up = await gateway.post(body, **LEGACY)
    assert follow_up.status == 200
    assert "outputs" in follow_up.body


async def test_what_still_runs_is_watched_and_its_usage_is_not_counted(
    gateway: Gateway, upstream: Emulated
) -> None:
    answer = await made(upstream, "One apple", background=True)
    reply = await gateway.got(answer["id"])
    assert reply.body["status"] in ("queued", "in_progress")
    await gateway.refused(400, "Two", previous_interaction_id=answer["id"])
    upstream.clock.advance(100)
    finished = await gateway.finished(answer["id"])
    assert (finished.id, finished.body["status"]) == (reply.id, "completed")
    row = await gateway.database.row(reply.id)
    assert (row["status"], row["usage_state"], row["total_tokens"]) == ("completed", USAGE_NONE, None)
    upstream.forget()
    assert_quotes(await gateway.ask("Two", previous_interaction_id=reply.id), "One apple", "Two")


async def test_what_still_runs_can_be_cancelled(gateway: Gateway, upstream: Emulated) -> None:
    answer = await made(upstream, background=True)
    reply = await gateway.cancel(answer["id"])
    assert (reply.status, reply.body["status"]) == (200, "cancelled")
    assert (await gateway.database.row(reply.id))["status"] == "cancelled"


async def test_deleting_deletes_upstreams_copy(gateway: Gateway, upstream: Emulated) -> None:
    answer = await made(upstream)
    assert (await gateway.delete(answer["id"])).status == 200
    assert not upstream.holds(answer["id"])
    (row,) = await gateway.database.rows()
    assert await gateway.database.bodies(ids.to_text(row["id"])) == {}


async def test_without_the_setting_nothing_is_looked_for(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await start_gateway(upstream)
    answer = await made(upstream)
    assert (await gateway.get(answer["id"])).error["code"] == "not_found"
    await gateway.refused(404, "Two", previous_interaction_id=answer["id"])
    assert (await gateway.delete(answer["id"])).status == 404
    assert upstream.requests == []


@pytest.mark.parametrize(
    "reference",
    ["x", "v1_", "..%2F..%2Fmodels", "v1_with%20a%20blank", "v1_%C3%A9t%C3%A9", "v1_" + "a" * 600, "......."],
)
async def test_what_cannot_be_an_id_makes_no_call(
    gateway: Gateway, upstream: Emulated, reference: str
) -> None:
    reply = await gateway.request("GET", f"/v1beta/interactions/{reference}")
    assert reply.error["code"] == "not_found"
    assert upstream.requests == []


async def test_one_of_our_ids_makes_no_call(gateway: Gateway, upstream: Emulated) -> None:
    assert (await gateway.get(ids.to_text(ids.mint()))).status == 404
    assert upstream.requests == []


async def test_what_is_not_there_is_asked_for_once_in_a_while(gateway: Gateway, upstream: Emulated) -> None:
    for _ in range(3):
        assert (await gateway.get(UNKNOWN)).error["code"] == "not_found"
        reply = await gateway.refused(404, "Two", previous_interaction_id=UNKNOWN)
        assert UNKNOWN in reply.error["message"]
        assert "previous_interaction_id" in reply.error["message"]
    assert len(upstream.requests) == 1
    assert await gateway.database.count() == 0


@pytest.mark.parametrize("code", [400, 404, 410])
async def test_upstreams_ways_to_say_no_are_a_plain_404(
    gateway: Gateway, upstream: Emulated, code: int
) -> None:
    upstream.fault(f"status;code={code};message=Request contains an invalid argument.", method="GET")
    assert (await gateway.get(UNKNOWN)).error["code"] == "not_found"


@pytest.mark.parametrize(
    "fault",
    [
        "status;code=401",
        "status;code=403",
        "status;code=429",
        "status;code=500",
        "status;code=503",
        "status;code=400;message=API key not valid. Please pass a valid API key.",
        "reset_before",
        "html;code=502",
    ],
)
async def test_nobody_takes_an_outage_for_a_loss(gateway: Gateway, upstream: Emulated, fault: str) -> None:
    answer = await made(upstream, "One apple")
    upstream.fault(fault, count=2, method="GET")
    reply = await gateway.get(answer["id"])
    assert (reply.status, reply.error["code"]) == (503, "service_unavailable")
    assert "try again" in reply.error["message"]
    assert int(reply.headers["retry-after"]) > 0
    await gateway.refused(503, "Two", previous_interaction_id=answer["id"])
    assert await gateway.database.count() == 0
    assert_quotes(await gateway.ask("Two", previous_interaction_id=answer["id"]), "One apple", "Two")


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"id":"v1_another","status":"completed"}', b"<html>"])
async def test_an_answer_that_is_no_interaction_says_nothing(
    start_scripted: StartScripted, start_gateway: StartGateway, body: bytes
) -> None:
    upstream = await start_scripted(answering(body))
    gateway = await start_gateway(upstream, adopt_unknown=True)
    assert (await gateway.get(UNKNOWN)).status == 503
    assert await gateway.database.count() == 0


async def test_an_interaction_without_dates_is_taken_in_as_well(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    body = {"id": UNKNOWN, "status": "completed", "created": "yesterday", "steps": [], "labels": {"a": "b"}}
    gateway = await start_gateway(await start_scripted(answering(orjson.dumps(body))), adopt_unknown=True)
    replies = await asyncio.gather(*(gateway.got(UNKNOWN) for _ in range(3)))
    assert len({reply.id for reply in replies}) == 1
    assert await gateway.database.count() == 1


async def two_keys(start_gateway: StartGateway, upstream: Emulated, **settings: Any) -> Gateway:
    entries = (
        deployment(upstream, "first", "gemini-2.5-flash", key="key-1"),
        deployment(upstream, "second", "gemini-2.5-pro", key="key-2"),
        deployment(upstream, "third", "gemini-2.5-flash", key="key-2"),
    )
    return await start_gateway(deployments=entries, adopt_unknown=True, **settings)


async def test_every_upstream_is_asked_once_and_the_one_that_has_it_is_used(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await two_keys(start_gateway, upstream)
    answer = await made(upstream, "One apple", key="key-2")
    reply = await gateway.got(answer["id"])
    assert (await gateway.database.row(reply.id))["deployment_id"] == "deployment-third"
    second = await gateway.ask("Two pears", model="third", previous_interaction_id=reply.id)
    assert_quotes(second, "One apple", "Two pears")
    assert upstream.creates[-1]["previous_interaction_id"] == answer["id"]
    upstream.clear()
    assert (await gateway.get(UNKNOWN)).status == 404
    assert len(upstream.requests) == 2


async def test_what_one_upstream_has_needs_no_other(start_gateway: StartGateway, upstream: Emulated) -> None:
    gateway = await two_keys(start_gateway, upstream)
    upstream.fault("status;code=503", count=0, method="GET", key="key-1")
    answer = await made(upstream, key="key-2")
    assert (await gateway.got(answer["id"])).steps == answer["steps"]
    assert (await gateway.get(UNKNOWN)).status == 503


async def test_another_projects_interaction_is_not_found(gateway: Gateway, upstream: Emulated) -> None:
    answers = await conversation(upstream, "One apple", "Two pears")
    await gateway.database.give_away((await gateway.got(answers[0]["id"])).id)
    upstream.clear()
    # Neither is what follows on it: the model would tell what was said before.
    for answer in answers:
        assert (await gateway.get(answer["id"])).error["code"] == "not_found"
        await gateway.refused(404, "Go on", previous_interaction_id=answer["id"])
        assert (await gateway.delete(answer["id"])).status == 404
        assert upstream.holds(answer["id"])
    assert await gateway.database.count() == 1


async def test_an_outage_does_not_tell_a_foreign_id_from_a_missing_one(
    gateway: Gateway, upstream: Emulated
) -> None:
    foreign = await gateway.ask("One apple")
    await gateway.database.give_away(foreign.id)
    upstream.fault("status;code=503", count=0, method="GET")
    replies = [await gateway.get(name) for name in (foreign.upstream_id, UNKNOWN)]
    messages = [
        reply.error["message"].replace(foreign.upstream_id, UNKNOWN)
        for reply in replies
        if reply.status == 503
    ]
    assert len(messages) == 2
    assert len(set(messages)) == 1


@pytest.mark.parametrize("native", [True, False])
async def test_what_was_deleted_here_is_not_found_again(
    start_emulator: StartEmulator, start_gateway: StartGateway, native: bool
) -> None:
    upstream = await start_emulator(delete_supported=False)
    gateway = await start_gateway(upstream, adopt_unknown=True)
    name = (await gateway.ask()).upstream_id if native else (await made(upstream))["id"]
    assert (await gateway.delete(name)).status == 200
    assert upstream.holds(name)
    upstream.clear()
    for _ in range(2):
        assert (await gateway.get(name)).error["code"] == "not_found"
    assert upstream.requests == []
    (row,) = await gateway.database.rows()
    assert await gateway.database.bodies(ids.to_text(row["id"])) == {}


async def test_a_stream_that_runs_here_is_not_taken_for_somebody_elses(
    gateway: Gateway, upstream: Emulated
) -> None:
    async with gateway.live(wish="trickle;bytes=40;seconds=0.01") as live:
        name = live.response.headers["x-upstream-interaction-id"]
        reply = await gateway.got(name)
        assert reply.id == live.id
        await live.rest()
    assert upstream.calls("GET") == []
    assert await gateway.database.count() == 1


async def test_a_client_that_leaves_does_not_stop_an_adoption(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator()
    gateway = await start_gateway(upstream, adopt_unknown=True)
    answer = await made(upstream)
    asking = asyncio.create_task(gateway.get(answer["id"]))

    async def asked() -> bool:
        return bool(upstream.requests)

    await eventually(asked)
    asking.cancel()

    async def taken_in() -> bool:
        return await gateway.database.count() == 1

    await eventually(taken_in)


async def test_an_adoption_ends_with_the_service(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    silence = asyncio.Event()

    async def script(request: Any) -> Any:
        await silence.wait()
        raise AssertionError

    upstream = await start_scripted(script)
    gateway = await start_gateway(upstream, adopt_unknown=True, drain_timeout=0.1)
    asking = asyncio.create_task(gateway.get(UNKNOWN))

    async def asked() -> bool:
        return bool(upstream.bodies)

    await eventually(asked)
    await gateway.stop()
    await asyncio.wait((asking,))
    assert asking.exception() is not None or asking.result().status >= 500


async def test_a_database_that_stops_loses_nothing(gateway: Gateway, upstream: Emulated) -> None:
    answers = await conversation(upstream, "One apple", "Two pears", "Three plums")
    async with gateway.database.outage():
        assert (await gateway.get(answers[-1]["id"])).status == 503
    await eventually(lambda: found(gateway, answers[-1]["id"]))
    assert await gateway.database.count() == 3


async def test_its_media_are_kept_where_media_are(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        if "/files/" in request.path:
            return web.Response(body=b"a picture", content_type="image/png")
        picture = {
            "type": "image",
            "uri": f"http://{request.host}/v1beta/files/abc",
            "mime_type": "image/png",
        }
        shown = [{"type": "user_input", "content": [picture]}, {"type": "model_output", "content": []}]
        return web.json_response({"id": UNKNOWN, "status": "completed", "steps": shown})

    upstream = await start_scripted(script)
    gateway = await start_gateway(upstream, adopt_unknown=True, keep_media=True)
    reply = await gateway.got(UNKNOWN)

    async def kept() -> bool:
        rows = await query(gateway.database.url, "SELECT interaction_id FROM media")
        return [key.bytes if isinstance(key, UUID) else key for (key,) in rows] == [ids.from_text(reply.id)]

    await eventually(kept)


async def found(gateway: Gateway, name: str) -> bool:
    return (await gateway.get(name)).status == 200


async def test_the_key_of_the_deployment_is_used(gateway: Gateway, upstream: Emulated) -> None:
    await gateway.got((await made(upstream))["id"])
    assert {seen["key"] for seen in upstream.requests} == {KEY[-4:]}
