"""Idempotency-Key: the same request with the same key is the same interaction, made once."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import pytest
from aiohttp import ClientSession

from service.wire import ids
from tests.interactions.repeating import (
    KEY,
    REPLAYED,
    age_keys,
    all_run,
    ask,
    assert_one_answer,
    assert_repeated,
    at_once,
    done,
    give_keys_away,
    held,
    keyed,
    made,
    streamed,
)
from tests.support.gateway import LEGACY, MODEL, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway, StartScripted
from tests.support.replies import Reply
from tests.support.upstreams import Emulated, answering, deployment

WHOLE = 1e6


@pytest.fixture
async def slow(start_emulator: StartEmulator) -> Emulated:
    """An emulator whose streams go on only when its clock is moved: one event a minute."""
    return await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_fifty_identical_requests_at_once_are_one_create(
    start_emulator: StartEmulator, start_gateway: StartGateway, stream: bool
) -> None:
    upstream = await start_emulator(latency=0.2, token_delay=0.005)
    gateway = await start_gateway(upstream)
    assert_one_answer(await at_once([gateway], 50, stream=stream))
    assert len(upstream.creates) == 1
    assert await gateway.database.count() == 1


async def test_a_repeat_of_a_unary_create_gets_its_answer(gateway: Gateway, upstream: Emulated) -> None:
    first = await made(gateway)
    await upstream.close()
    assert_repeated(first, await made(gateway))


async def test_a_repeat_of_a_stream_gets_all_its_events(gateway: Gateway, upstream: Emulated) -> None:
    first = await streamed(gateway, wish="story")
    await upstream.close()
    again = await streamed(gateway)
    assert again.events[0]["event_type"] == "interaction.created"
    assert again.final["status"] == "completed"
    assert_repeated(first, again)


async def test_a_repeat_after_a_restart_gets_the_same(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    before = await start_gateway(upstream)
    unary, stream = await made(before), await streamed(before, key="stream")
    await before.stop()
    after = await start_gateway(upstream)
    assert_repeated(unary, await made(after))
    assert_repeated(stream, await streamed(after, key="stream"))
    assert len(upstream.creates) == 2


async def test_a_repeat_of_a_running_stream_listens_from_its_first_event(
    start_gateway: StartGateway, slow: Emulated
) -> None:
    gateway = await start_gateway(slow)
    async with (
        gateway.live(headers=keyed()) as first,
        gateway.live(headers=keyed()) as again,
    ):
        created = await first.next()
        assert created is not None
        assert await again.next() == created
        assert again.response.headers[REPLAYED] == "true"
        first.leave()
        slow.clock.advance(WHOLE)
        whole = await again.rest()
    assert whole.final["status"] == "completed"
    assert (await streamed(gateway)).raw == whole.raw
    assert len(slow.creates) == 1


async def test_another_body_is_refused_while_the_first_runs_and_after(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator()
    upstream.hold()
    gateway = await start_gateway(upstream)
    first = asyncio.create_task(made(gateway))
    await eventually(lambda: has_row(gateway))
    for other in (ask(gateway, "Other"), ask(gateway, stream=True)):
        refused = await other
        assert (refused.status, refused.error["code"]) == (422, "unprocessable_entity")
        assert "another body" in refused.error["message"]
    upstream.release()
    assert_repeated(await first, await made(gateway))
    assert (await ask(gateway, "Other")).status == 422
    assert len(upstream.creates) == 1


async def has_row(gateway: Gateway) -> bool:
    return bool(await gateway.database.rows())


async def test_a_body_is_the_same_however_it_is_written(gateway: Gateway, upstream: Emulated) -> None:
    texts = (
        b'{"model":"%b","input":"Hello"}' % MODEL.encode(),
        b'{ "input": "H\\u0065llo",\n  "model": "%b" }' % MODEL.encode(),
    )
    one, other = [await gateway.post(text, idempotency_key=KEY) for text in texts]
    assert_repeated(one, other)
    assert len(upstream.creates) == 1


async def test_quotation_marks_do_not_make_another_key(gateway: Gateway, upstream: Emulated) -> None:
    assert_repeated(await made(gateway, key='"one"'), await made(gateway, key="one"))
    assert REPLAYED not in (await made(gateway, key="two")).headers
    assert len(upstream.creates) == 2


@pytest.mark.parametrize("key", ['""', "two words", "k" * 256])
async def test_a_key_that_is_none_is_refused(gateway: Gateway, upstream: Emulated, key: str) -> None:
    refused = await ask(gateway, key=key)
    assert (refused.status, refused.error["code"]) == (400, "invalid_request")
    assert "'Idempotency-Key'" in refused.error["message"]
    assert upstream.creates == []


async def test_two_different_keys_in_one_request_are_refused(gateway: Gateway, upstream: Emulated) -> None:
    body = b'{"model":"%b","input":"Hello"}' % MODEL.encode()
    async with ClientSession(gateway.url) as session:
        for keys, status in ((("one", '"one"'), 200), (("one", "two"), 400)):
            headers = [("Idempotency-Key", key) for key in keys]
            async with session.post("/v1beta/interactions", data=body, headers=headers) as response:
                assert response.status == status
                refused = b"2 different values of 'Idempotency-Key'" in await response.read()
                assert refused is (status == 400)
    assert len(upstream.creates) == 1


async def test_each_caller_gets_the_repeat_in_its_own_revision(gateway: Gateway) -> None:
    first = await made(gateway)
    body = {"model": MODEL, "input": "Hello"}
    legacy = await gateway.post(body, idempotency_key=KEY, **LEGACY)
    assert legacy.id == first.id
    assert legacy.headers[REPLAYED] == "true"
    assert "steps" not in legacy.body
    assert legacy.body["outputs"][-1]["text"] == first.text
    stream = await streamed(gateway, key="stream")
    old = await gateway.stream(headers={"idempotency-key": "stream", **LEGACY})
    assert old.types[0] == "interaction.start"
    assert old.id == stream.id


@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_a_refusal_of_upstream_is_repeated(gateway: Gateway, upstream: Emulated, stream: bool) -> None:
    fault = "status;code=404;error=model_not_found;message=There is no such model."
    first = await ask(gateway, fault=fault, stream=stream)
    assert (first.status, first.error["message"]) == (404, "There is no such model.")
    assert_repeated(first, await ask(gateway, stream=stream))
    assert len(upstream.creates) == 1


@pytest.mark.parametrize("status", [401, 402, 403, 408, 409, 429, 503])
@pytest.mark.parametrize("stream", [False, True], ids=["unary", "stream"])
async def test_a_key_is_free_again_after_a_failure_that_may_be_repeated(
    gateway: Gateway, upstream: Emulated, status: int, stream: bool
) -> None:
    failed = await ask(gateway, fault=f"status;code={status}", stream=stream)
    assert failed.status == status
    if stream:
        assert (await streamed(gateway)).final["status"] == "completed"
        assert (await streamed(gateway)).headers[REPLAYED] == "true"
    else:
        again = await made(gateway, stream=False)
        assert again.id != failed.headers["x-interaction-id"]
        assert_repeated(again, await made(gateway, stream=False))
    assert len(upstream.creates) == 2


async def test_a_key_is_free_again_when_upstream_was_never_reached(
    start_gateway: StartGateway, start_emulator: StartEmulator, unused_tcp_port: int
) -> None:
    unreachable = deployment(f"http://127.0.0.1:{unused_tcp_port}", "lost", id="lost")
    upstream = await start_emulator()
    found = replace(unreachable, api_base=upstream.url, model=MODEL)
    before = await start_gateway(deployments=(unreachable,))
    failed = await ask(before, model="lost")
    assert failed.status == 503
    after = await start_gateway(deployments=(found,))
    again = await made(after, model="lost")
    assert again.id != failed.headers["x-interaction-id"]


async def test_a_key_is_free_again_when_upstreams_own_key_was_refused_as_a_bad_request(
    gateway: Gateway, upstream: Emulated
) -> None:
    assert (
        await ask(gateway, fault="status;code=400;message=API key not valid. Please pass one")
    ).status == 400
    assert REPLAYED not in (await made(gateway)).headers


@pytest.mark.parametrize(
    "fault", ["reset_after", "broken_json", "status;code=500", "status;code=502", "status;code=504"]
)
async def test_a_failure_after_which_the_request_may_have_run_is_repeated(
    gateway: Gateway, upstream: Emulated, fault: str
) -> None:
    first = await ask(gateway, fault=fault)
    assert first.status in (500, 502, 504)
    assert_repeated(first, await ask(gateway))
    assert len(upstream.creates) == 1


async def test_those_who_wait_for_a_failure_get_it_and_do_not_try_themselves(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator()
    gateway = await start_gateway(upstream)
    upstream.fault("latency;seconds=3600,status;code=429;message=Slow down")
    asking = asyncio.gather(*(ask(gateway) for _ in range(10)))
    await all_run([gateway], 10)
    upstream.release()
    replies = await asking
    assert {(reply.status, reply.error["message"]) for reply in replies} == {(429, "Slow down")}
    assert len(upstream.creates) == 1
    assert (await made(gateway)).headers.get(REPLAYED) is None


async def test_those_who_wait_count_as_running(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    release = asyncio.Event()
    upstream = await start_scripted(held(release))
    gateway = await start_gateway(upstream, max_concurrent_requests=3)
    asked = [asyncio.create_task(ask(gateway)) for _ in range(8)]
    shed = await done(asked, 5)
    assert {(reply.status, reply.headers["retry-after"]) for reply in shed} == {(503, "1")}
    release.set()
    assert Counter(reply.status for reply in await asyncio.gather(*asked)) == {200: 3, 503: 5}
    again = await asyncio.gather(*(ask(gateway) for _ in range(8)))
    assert {(reply.status, reply.headers[REPLAYED]) for reply in again} == {(200, "true")}
    assert len(upstream.bodies) == 1


async def test_what_fails_before_anything_is_sent_takes_no_key(gateway: Gateway, upstream: Emulated) -> None:
    unknown = ids.to_text(ids.mint())
    assert (await ask(gateway, "")).status == 400
    assert (await ask(gateway, "And?", previous_interaction_id=unknown)).status == 404
    async with gateway.database.outage():
        assert (await ask(gateway, "Anyone?")).status == 503
    assert REPLAYED not in (await made(gateway)).headers
    assert len(upstream.creates) == 1


async def test_what_is_not_to_be_stored_is_repeated_all_the_same(
    gateway: Gateway, upstream: Emulated
) -> None:
    unary = await made(gateway, store=False)
    assert_repeated(unary, await made(gateway, store=False))
    stream = await streamed(gateway, key="stream", store=False)
    assert_repeated(stream, await streamed(gateway, key="stream", store=False))
    assert (await gateway.get(unary.headers["x-interaction-id"])).status == 404
    assert len(upstream.creates) == 2


async def test_a_repeat_of_a_background_run_shows_how_it_stands(gateway: Gateway, upstream: Emulated) -> None:
    first = await made(gateway, background=True)
    assert first.body["status"] == "queued"
    running = await made(gateway, background=True)
    assert (running.id, running.body["status"]) == (first.id, "queued")
    upstream.clock.advance(100)
    ended = await gateway.finished(first.id)
    again = await made(gateway, background=True)
    assert again.headers[REPLAYED] == "true"
    assert (again.id, again.text) == (first.id, ended.text)
    assert len(upstream.creates) == 1


async def test_a_repeat_of_a_follow_up_says_how_its_history_was_given(
    gateway: Gateway, upstream: Emulated
) -> None:
    parent = await gateway.ask("One")
    for number in range(2):
        members = {"previous_interaction_id": parent.id, "key": f"key{number}"}
        first = await made(gateway, "Two", **members)
        assert first.headers["x-interactions-history"] == ("upstream", "rebuilt")[number]
        assert_repeated(first, await made(gateway, "Two", **members))
        upstream.forget()


async def test_a_stream_that_upstream_made_no_stream_of_is_repeated_so(
    start_scripted: StartScripted, start_gateway: StartGateway
) -> None:
    upstream = await start_scripted(answering(b'{"id":"v1_a","status":"completed","outputs":[]}'))
    gateway = await start_gateway(upstream)
    first = await ask(gateway, stream=True)
    assert first.body["status"] == "completed"
    assert_repeated(first, await ask(gateway, stream=True))
    assert len(upstream.bodies) == 1


async def test_a_stream_that_broke_is_repeated_with_what_came_after(
    gateway: Gateway, upstream: Emulated
) -> None:
    first = await streamed(gateway, fault="cut;after=3")
    assert first.final["status"] == "completed"
    assert_repeated(first, await streamed(gateway))
    assert len(upstream.creates) == 1


async def test_a_deleted_interaction_is_not_made_again(gateway: Gateway, upstream: Emulated) -> None:
    first = await made(gateway)
    await gateway.delete(first.id)
    gone = await ask(gateway)
    assert (gone.status, gone.error["code"]) == (404, "not_found")
    assert "was deleted" in gone.error["message"]
    assert len(upstream.creates) == 1


@pytest.mark.parametrize(
    ("settings", "kept"), [({}, 24 * 3600.0), ({"idempotency_retention": 3600.0}, 3600.0)]
)
async def test_a_key_is_forgotten_after_a_day_or_its_time(
    start_gateway: StartGateway, upstream: Emulated, settings: dict[str, float], kept: float
) -> None:
    gateway = await start_gateway(upstream, **settings)
    first = await made(gateway)
    await age_keys(gateway, kept - 100.0)
    assert_repeated(first, await made(gateway))
    await age_keys(gateway, 100.0)
    other = await made(gateway)
    assert other.id != first.id
    assert REPLAYED not in other.headers
    assert_repeated(other, await made(gateway))


async def test_a_key_of_another_project_is_another_key(gateway: Gateway, upstream: Emulated) -> None:
    first = await made(gateway)
    await give_keys_away(gateway)
    other = await made(gateway)
    assert other.id != first.id
    assert len(upstream.creates) == 2


async def test_a_first_that_takes_too_long_is_not_waited_for(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator()
    upstream.hold()
    patient = replace(deployment(upstream), timeout=30.0)
    gateway = await start_gateway(default_deployment=patient, request_timeout=0.2)
    first = asyncio.create_task(made(gateway))
    await eventually(lambda: has_row(gateway))
    refused = await ask(gateway)
    assert (refused.status, refused.error["code"]) == (409, "aborted")
    assert refused.headers["retry-after"] == "1"
    upstream.release()
    assert_repeated(await first, await made(gateway))
    assert len(upstream.creates) == 1


async def test_a_client_that_leaves_finds_its_answer_under_its_key(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator()
    upstream.hold()
    gateway = await start_gateway(upstream)
    impatient: asyncio.Task[Reply] = asyncio.create_task(made(gateway))
    await eventually(lambda: has_row(gateway))
    impatient.cancel()
    repeating = asyncio.create_task(made(gateway))
    await all_run([gateway], 2)
    upstream.release()
    again = await repeating
    assert again.headers[REPLAYED] == "true"
    assert again.body["status"] == "completed"
    assert len(upstream.creates) == 1
