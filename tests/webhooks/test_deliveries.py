"""Outcomes of background runs are told to the receivers that their creates named: signed, repeated, at least once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from aiohttp import web

from service.store.records import now
from tests.support.gateway import LEGACY, MODEL, Gateway, eventually
from tests.support.gateways import StartGateway
from tests.support.receivers import HANG, Receiver, receiver
from tests.support.reconciling import reconciled
from tests.support.store import query
from tests.support.upstreams import Emulated, deployment
from tests.webhooks.hooking import BRISK, QUICK, SLOW, run, secret_of


@pytest.fixture
async def brisk(start_gateway: StartGateway, upstream: Emulated) -> Gateway:
    """The service, which does not wait long for a receiver that hangs."""
    return await start_gateway(upstream, **BRISK)


async def webhooks_of(gateway: Gateway) -> list[tuple[Any, ...]]:
    """How the deliveries stand: whether one is due, whether it is settled, and what the last try came to."""
    return await query(
        gateway.database.url,
        "SELECT due_at IS NOT NULL, settled_at IS NOT NULL, tries, http_status, error FROM webhooks ORDER BY place",
    )


async def settled(gateway: Gateway) -> None:
    async def all_settled() -> bool:
        return all(row[1] for row in await webhooks_of(gateway))

    await eventually(all_settled)


async def test_a_receiver_is_told_of_the_end_under_our_id(
    gateway: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    made = await run(gateway, hook, user_metadata={"job": "42"})
    assert made.body["webhook_config"] == {"uris": [hook.url], "user_metadata": {"job": "42"}}
    upstream.clock.advance(10_000)
    ended = await gateway.finished(made.id)
    assert ended.body["webhook_config"] == made.body["webhook_config"]
    await hook.has(1)
    (told,) = hook.told
    body = told.verified(await secret_of(gateway))
    assert body["type"] == "interaction.completed"
    assert body["data"] == {"id": made.id, "status": "completed", "user_metadata": {"job": "42"}}
    assert made.upstream_id.encode() not in told.raw
    assert told.headers["content-type"] == "application/json"
    await settled(gateway)
    assert await webhooks_of(gateway) == [(0, 1, 1, 204, None)]
    assert len(hook.told) == 1


async def test_upstream_learns_of_no_receiver(gateway: Gateway, upstream: Emulated, hook: Receiver) -> None:
    await run(gateway, hook)
    (seen,) = upstream.creates
    assert seen == {"model": seen["model"], "input": "Work", "background": True}


async def test_a_stream_shows_the_configuration_where_upstream_would(
    gateway: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    config = {"uris": [hook.url]}
    async with gateway.live("Work", background=True, wish=SLOW, webhook_config=config) as live:
        created = await live.next()
        assert created is not None
        assert created["interaction"]["webhook_config"] == config
        upstream.clock.advance(500)
        assert (await gateway.cancel(live.id)).body["webhook_config"] == config
        assert (await live.rest()).final["webhook_config"] == config
    await hook.has(1)
    assert hook.told[0].body["type"] == "interaction.cancelled"


@pytest.mark.parametrize(
    ("wish", "status", "event"),
    [
        ("failed;code=api_error;message=It broke", "failed", "interaction.failed"),
        ("incomplete", "incomplete", "interaction.completed"),
        ("budget_exceeded", "budget_exceeded", "interaction.failed"),
        ("", "requires_action", "interaction.requires_action"),
    ],
)
async def test_every_end_is_told(
    gateway: Gateway, upstream: Emulated, hook: Receiver, wish: str, status: str, event: str
) -> None:
    tools = [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}}]
    members: dict[str, Any] = {"tools": tools} if status == "requires_action" else {}
    made = await gateway.ask(
        "Work", background=True, webhook_config={"uris": [hook.url]}, wish=wish, **members
    )
    upstream.clock.advance(10_000)
    assert (await gateway.finished(made.id)).body["status"] == status
    await hook.has(1)
    body = hook.told[0].body
    assert (body["type"], body["data"]) == (event, {"id": made.id, "status": status})


async def test_a_receiver_that_fails_is_told_again_under_the_same_id(
    gateway: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    hook.answers = [500, 429, 204]
    await run(gateway, hook)
    upstream.clock.advance(10_000)
    await hook.has(3)
    assert len({told.id for told in hook.told}) == 1
    assert len({told.raw for told in hook.told}) == 1
    secret = await secret_of(gateway)
    for told in hook.told:
        told.verified(secret)
    await settled(gateway)
    assert await webhooks_of(gateway) == [(0, 1, 3, 204, None)]


async def test_a_receiver_that_hangs_holds_up_nobody_and_is_told_again(
    brisk: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    hook.answers = [HANG]
    async with receiver() as other:
        made = await run(brisk, hook, other)
        upstream.clock.advance(10_000)
        await brisk.finished(made.id)
        await other.has(1)
        await hook.has(2)
        await settled(brisk)
        assert {told.id for told in hook.told} == {other.told[0].id}


async def test_many_runs_behind_a_receiver_that_hangs_leave_room_for_others(
    brisk: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    hook.hanging = True
    async with receiver() as other:
        made = [await run(brisk, one) for one in [hook] * 40 + [other]]
        upstream.clock.advance(10_000)
        await asyncio.gather(*(brisk.finished(one.id) for one in made))
        await other.has(1)


async def test_a_redirect_is_not_followed(gateway: Gateway, upstream: Emulated, hook: Receiver) -> None:
    async with receiver() as inside:
        hook.answers = [web.Response(status=307, headers={"Location": inside.url})]
        made = await run(gateway, hook)
        upstream.clock.advance(10_000)
        await gateway.finished(made.id)
        await hook.has(2)
        assert inside.told == []


async def test_an_answer_without_end_is_an_answer(
    gateway: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    hook.answers = [web.Response(status=200, body=bytes(5_000_000))]
    await run(gateway, hook)
    upstream.clock.advance(10_000)
    await hook.has(1)
    await settled(gateway)
    assert await webhooks_of(gateway) == [(0, 1, 1, 200, None)]


async def test_a_receiver_that_is_gone_is_told_once(
    gateway: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    hook.answers = [410]
    made = await run(gateway, hook)
    upstream.clock.advance(10_000)
    await gateway.finished(made.id)
    await settled(gateway)
    ((_, _, tries, http_status, error),) = await webhooks_of(gateway)
    assert (tries, http_status, error) == (1, 410, "answered 410")
    assert len(hook.told) == 1


async def test_a_receiver_that_never_takes_it_is_given_up_in_the_end(
    start_gateway: StartGateway, upstream: Emulated, hook: Receiver
) -> None:
    gateway = await start_gateway(upstream, **QUICK, webhook_retry_for=3.0)
    hook.answers = [500] * 100
    made = await run(gateway, hook)
    upstream.clock.advance(10_000)
    await gateway.finished(made.id)
    await settled(gateway)
    ((_, _, tries, http_status, _),) = await webhooks_of(gateway)
    assert http_status == 500
    assert tries == len(hook.told) > 1


async def test_what_one_process_was_telling_another_tells_at_once(
    brisk: Gateway, start_gateway: StartGateway, upstream: Emulated, hook: Receiver
) -> None:
    hook.answers = [HANG]
    await run(brisk, hook, user_metadata={"job": "42"})
    upstream.clock.advance(10_000)
    await hook.has(1)
    await brisk.stop()
    other = await start_gateway(upstream, **BRISK)
    await hook.has(2)
    await settled(other)
    assert len({told.id for told in hook.told}) == 1
    hook.told[1].verified(await secret_of(other))


async def test_what_a_process_was_telling_when_it_died_is_told_when_its_claim_ends(
    brisk: Gateway, start_gateway: StartGateway, upstream: Emulated, hook: Receiver
) -> None:
    hook.answers = [HANG]
    await run(brisk, hook)
    upstream.clock.advance(10_000)
    await hook.has(1)
    await brisk.stop()
    # As a process leaves it that has no time to hand it back.
    token = "randomblob(16)" if brisk.database.is_sqlite else "gen_random_uuid()"
    soon = now() + 200_000
    await query(brisk.database.url, f"UPDATE webhooks SET lease_token = {token}, due_at = {soon}")
    await start_gateway(upstream, **BRISK)
    await hook.has(2)
    assert now() >= soon
    assert len({told.id for told in hook.told}) == 1


async def test_the_deleted_is_told_to_nobody(gateway: Gateway, upstream: Emulated, hook: Receiver) -> None:
    deleted = await run(gateway, hook, user_metadata={"secret": "words"})
    await gateway.delete(deleted.id)
    kept = await run(gateway, hook)
    upstream.clock.advance(10_000)
    await gateway.finished(kept.id)
    await hook.has(1)
    assert [told.body["data"]["id"] for told in hook.told] == [kept.id]
    assert len(await webhooks_of(gateway)) == 1


async def test_a_delete_takes_away_what_is_still_to_be_told(
    gateway: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    hook.answers = [500] * 100
    made = await run(gateway, hook)
    upstream.clock.advance(10_000)
    await hook.has(2)
    await gateway.delete(made.id)
    assert await webhooks_of(gateway) == []


async def test_what_upstream_refuses_is_told_to_its_caller_only(
    gateway: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    config = {"uris": [hook.url]}
    await gateway.refused(429, background=True, webhook_config=config, fault="status;code=429")
    assert await webhooks_of(gateway) == []
    made = await run(gateway, hook)
    upstream.clock.advance(10_000)
    await hook.has(1)
    assert [told.body["data"]["id"] for told in hook.told] == [made.id]


@pytest.mark.parametrize(("limits", "headers"), [({"timeout": 0.5}, {}), ({}, {"x_timeout": "3"})])
async def test_a_failure_that_comes_after_its_caller_has_left_is_told(
    start_gateway: StartGateway,
    upstream: Emulated,
    hook: Receiver,
    limits: dict[str, Any],
    headers: dict[str, str],
) -> None:
    upstream.behave("latency;seconds=3600,status;code=429")
    gateway = await start_gateway(deployments=(deployment(upstream, "fast", MODEL, **limits),), **QUICK)
    config = {"uris": [hook.url]}
    body = {"model": MODEL, "input": "Work", "background": True, "webhook_config": config}
    reply = await gateway.post(body, **headers)
    assert (reply.status, reply.error["code"]) == (504, "deadline_exceeded")
    upstream.release()
    await hook.has(1)
    told = hook.told[0].body
    assert told["type"] == "interaction.failed"
    assert told["data"]["id"] == reply.headers["x-interaction-id"]


async def test_private_addresses_are_refused_with_the_request(
    start_gateway: StartGateway, upstream: Emulated, hook: Receiver
) -> None:
    gateway = await start_gateway(upstream)
    for uri in (hook.url, "http://localhost/hook", "http://[::ffff:10.0.0.1]/", "http://2130706433/"):
        reply = await gateway.refused(
            400, background=True, webhook_config={"uris": ["https://example.com/", uri]}
        )
        assert "webhook_config.uris[1]" in reply.error["message"]
    assert upstream.requests == []


async def test_legacy_callers_may_name_receivers_too(
    gateway: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    reply = await gateway.post(
        {
            "model": "gemini-2.5-flash",
            "input": "Work",
            "background": True,
            "webhook_config": {"uris": [hook.url]},
        },
        **LEGACY,
    )
    upstream.clock.advance(10_000)
    await gateway.finished(reply.id)
    await hook.has(1)
    assert hook.told[0].body["data"]["id"] == reply.id


async def test_a_request_that_is_sent_again_tells_once(
    gateway: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    body = {
        "model": "gemini-2.5-flash",
        "input": "Work",
        "background": True,
        "webhook_config": {"uris": [hook.url]},
    }
    key = {"idempotency_key": '"one"', "x_emulator_behavior": SLOW}
    made = await asyncio.gather(*(gateway.post(body, **key) for _ in range(4)))
    assert len({reply.id for reply in made}) == 1
    assert len(await webhooks_of(gateway)) == 1
    upstream.clock.advance(10_000)
    await gateway.finished(made[0].id)
    await settled(gateway)
    assert [told.body["data"]["id"] for told in hook.told] == [made[0].id]
    assert (await reconciled(gateway.database.url, grace=60)).mismatches == []
