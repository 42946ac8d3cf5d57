"""What signs webhooks: one secret for each project, and while it is rotated also the one before."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest
from standardwebhooks import WebhookVerificationError

from service.settings import Secret
from service.webhooks import secrets
from tests.support.gateway import Gateway
from tests.support.gateways import StartGateway
from tests.support.receivers import Receiver
from tests.support.replies import Json, Reply
from tests.support.store import query
from tests.support.upstreams import Emulated
from tests.webhooks.hooking import QUICK, SECRET, run, secret_of


async def rotated(gateway: Gateway, **members: Any) -> Json:
    reply = await rotation(gateway, **members)
    assert reply.status == 200, reply.raw
    return reply.body


async def rotation(gateway: Gateway, **members: Any) -> Reply:
    return await gateway.request("POST", f"{SECRET}/rotate", data=orjson.dumps(members))


async def test_while_a_secret_is_rotated_both_sign(
    gateway: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    old = await secret_of(gateway)
    told = await rotated(gateway)
    new = told["webhook_secret"]
    assert (told["previous_secret"], new != old, secrets.is_secret(new)) == (old, True, True)
    assert told["previous_until"] is not None
    await run(gateway, hook)
    upstream.clock.advance(10_000)
    await hook.has(1)
    signatures = hook.told[0].headers["webhook-signature"].split(" ")
    assert [signature[:3] for signature in signatures] == ["v1,", "v1,"]
    assert hook.told[0].verified(new) == hook.told[0].verified(old)
    with pytest.raises(WebhookVerificationError):
        hook.told[0].verified(secrets.generate())


async def test_a_secret_whose_time_is_over_signs_no_more(
    gateway: Gateway, upstream: Emulated, hook: Receiver
) -> None:
    leaked = await secret_of(gateway)
    told = await rotated(gateway, keep_seconds=0)
    assert (told["previous_secret"], told["previous_until"]) == (None, None)
    await run(gateway, hook)
    upstream.clock.advance(10_000)
    await hook.has(1)
    hook.told[0].verified(told["webhook_secret"])
    with pytest.raises(WebhookVerificationError):
        hook.told[0].verified(leaked)


async def test_a_rotation_is_ended_by_retiring_and_not_by_another(gateway: Gateway) -> None:
    first = await secret_of(gateway)
    second = (await rotated(gateway, keep_seconds=3600))["webhook_secret"]
    refused = await rotation(gateway)
    assert (refused.status, refused.error["code"]) == (409, "aborted")
    assert "retire" in refused.error["message"]
    retired = await gateway.request("DELETE", f"{SECRET}/previous")
    assert (retired.body["webhook_secret"], retired.body["previous_secret"]) == (second, None)
    again = await gateway.request("DELETE", f"{SECRET}/previous")
    assert (again.status, again.error["code"]) == (400, "failed_precondition")
    third = await rotated(gateway)
    assert third["previous_secret"] == second
    assert len({first, second, third["webhook_secret"]}) == 3


async def test_rotations_at_the_same_moment_take_nothing_away_from_each_other(
    gateway: Gateway, start_gateway: StartGateway, upstream: Emulated
) -> None:
    other = await start_gateway(upstream)
    old = await secret_of(gateway)
    replies = await asyncio.gather(*(rotation(one) for one in (gateway, other) * 4))
    assert sorted(reply.status for reply in replies) == [200] + [409] * 7
    (won,) = (reply.body for reply in replies if reply.status == 200)
    assert (won["previous_secret"], await secret_of(other)) == (old, won["webhook_secret"])


async def test_the_first_secret_is_made_once(
    gateway: Gateway, start_gateway: StartGateway, upstream: Emulated
) -> None:
    other = await start_gateway(upstream)
    replies = await asyncio.gather(*(one.request("POST", SECRET) for one in (gateway, other) * 3))
    assert sorted(reply.status for reply in replies) == [200] + [409] * 5
    (made,) = (reply.body["webhook_secret"] for reply in replies if reply.status == 200)
    assert await secret_of(other) == made


async def test_processes_make_one_secret_for_a_project(
    gateway: Gateway, start_gateway: StartGateway, upstream: Emulated
) -> None:
    other = await start_gateway(upstream)
    made = await asyncio.gather(*(secret_of(one) for one in (gateway, other) * 4))
    assert len(set(made)) == 1
    assert secrets.is_secret(made[0])


async def test_configured_secrets_sign_for_all_and_are_rotated_where_they_stand(
    start_gateway: StartGateway, upstream: Emulated, hook: Receiver
) -> None:
    new, old = secrets.generate(), secrets.generate()
    gateway = await start_gateway(upstream, **QUICK, webhook_secret=(Secret(new), Secret(old)))
    shown = (await gateway.request("GET", SECRET)).body
    assert (shown["webhook_secret"], shown["previous_secret"], shown["previous_until"]) == (new, old, None)
    await run(gateway, hook)
    upstream.clock.advance(10_000)
    await hook.has(1)
    assert hook.told[0].verified(new) == hook.told[0].verified(old)
    for method, action in (("POST", ""), ("POST", "/rotate"), ("DELETE", "/previous")):
        refused = await gateway.request(method, SECRET + action)
        assert (refused.status, refused.error["code"]) == (400, "failed_precondition")
        assert "general_settings.webhook_secret" in refused.error["message"]


async def test_each_project_has_a_secret_of_its_own(
    start_gateway: StartGateway, upstream: Emulated, hook: Receiver
) -> None:
    gateway = await start_gateway(upstream, **QUICK, background_streams=0)
    first = await secret_of(gateway)
    mine, other = await run(gateway, hook), await run(gateway, hook)
    await gateway.database.give_away(other.id)
    project = (await gateway.database.row(other.id))["project_id"]
    upstream.clock.advance(10_000)
    await hook.has(2)
    rows = await query(gateway.database.url, "SELECT project_id, secret FROM webhook_secrets")
    secrets_of = {getattr(key, "bytes", key): secret for key, secret in rows}
    assert len(secrets_of) == 2
    second = secrets_of[project]
    told = {one.body["data"]["id"]: one for one in hook.told}
    for name, own, foreign in ((mine.id, first, second), (other.id, second, first)):
        assert told[name].verified(own)["data"]["id"] == name
        with pytest.raises(WebhookVerificationError):
            told[name].verified(foreign)


@pytest.mark.parametrize(
    ("members", "named"),
    [
        ({"keep_seconds": -1}, "keep_seconds"),
        ({"keep_seconds": True}, "keep_seconds"),
        ({"keep_seconds": 1e12}, "keep_seconds"),
        ({"keep": 1}, "keep"),
    ],
)
async def test_what_cannot_be_used_is_named(gateway: Gateway, members: Json, named: str) -> None:
    reply = await rotation(gateway, **members)
    assert reply.status == 400
    assert f"'{named}'" in reply.error["message"]


async def test_there_is_no_secret_of_a_project_that_is_not_there(gateway: Gateway) -> None:
    for method, action in (("GET", ""), ("POST", ""), ("POST", "/rotate"), ("DELETE", "/previous")):
        reply = await gateway.request(method, f"/api/projects/other/webhook-secret{action}")
        assert (reply.status, reply.error["code"]) == (404, "not_found")
