"""DELETE of an interaction that others build on: hidden at once, kept for them, and gone with the last of them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from service.wire import ids
from tests.interactions.conversations import (
    CHECKPOINT,
    assert_quotes,
    assert_rebuilt,
    checkpoint_of,
    gone_on_with,
    said,
    talk,
)
from tests.support.gateway import MODEL, STEPS, Gateway, eventually
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Reply
from tests.support.store import literal, query
from tests.support.upstreams import Emulated


async def deleted(gateway: Gateway, *replies: Reply) -> None:
    for reply in replies:
        assert (await gateway.delete(reply.id)).status == 200


async def kept(gateway: Gateway, *replies: Reply) -> list[bool]:
    """Of which of these the content is still in the database."""
    found = []
    for reply in replies:
        bodies = await gateway.database.bodies(reply.id)
        row = await gateway.database.row(reply.id)
        assert (row["erased_at"] is None) == bool(bodies)
        found.append(bool(bodies))
    return found


async def test_a_kept_interaction_is_hidden_from_everything(gateway: Gateway, upstream: Emulated) -> None:
    parent, child = await talk(gateway, "A secret", "Two pears")
    await deleted(gateway, parent)
    assert await kept(gateway, parent) == [True]
    requests = len(upstream.requests)
    for name in (parent.id, parent.upstream_id):
        for reply in (
            await gateway.get(name),
            await gateway.get(name, stream="true"),
            await gateway.get(name, include_input="true"),
            await gateway.cancel(name),
            await gateway.delete(name),
            await gateway.create(previous_interaction_id=name),
        ):
            assert (reply.status, reply.error["code"]) == (404, "not_found")
            assert b"secret" not in reply.raw
    assert len(upstream.requests) == requests
    assert (await gateway.got(child.id)).body == child.body


async def test_a_conversation_is_rebuilt_with_its_deleted_links(gateway: Gateway, upstream: Emulated) -> None:
    texts = ["One apple", "Two pears", "Three plums"]
    told = await talk(gateway, *texts)
    await deleted(gateway, *told[:2])
    upstream.forget()
    last = await gateway.ask("Four figs", previous_interaction_id=told[2].id)
    assert_quotes(last, *texts, "Four figs")
    assert_rebuilt(upstream.creates[-1], list(zip(texts, told, strict=True)), "Four figs")


async def test_the_last_of_a_conversation_takes_all_of_it(gateway: Gateway, upstream: Emulated) -> None:
    first, second, third = await talk(gateway, "One apple", "Two pears", "Three plums")
    await deleted(gateway, first)
    upstream.forget()
    fourth = await gateway.ask("Four figs", previous_interaction_id=third.id)
    await deleted(gateway, second, third)
    assert await kept(gateway, first, second, third) == [True, True, True]
    await deleted(gateway, fourth)
    assert await kept(gateway, first, second, third, fourth) == [False] * 4


async def test_each_branch_has_the_trunk_until_it_is_deleted(gateway: Gateway, upstream: Emulated) -> None:
    root = await gateway.ask("The root")
    left = await gateway.ask("To the left", previous_interaction_id=root.id)
    right = await gateway.ask("To the right", previous_interaction_id=root.id)
    await deleted(gateway, root, left)
    assert await kept(gateway, root, left, right) == [True, False, True]
    upstream.forget()
    after = await gateway.ask("On", previous_interaction_id=right.id)
    assert_quotes(after, "The root", "To the right", "On")
    await deleted(gateway, right)
    assert await kept(gateway, root, right, after) == [True, True, True]
    await deleted(gateway, after)
    assert await kept(gateway, root, left, right, after) == [False] * 4


async def test_a_follow_up_that_failed_keeps_nothing(gateway: Gateway, upstream: Emulated) -> None:
    parent = await gateway.ask("A secret")
    await gateway.refused(500, "Two", previous_interaction_id=parent.id, fault="status;code=500")
    await deleted(gateway, parent)
    assert await kept(gateway, parent) == [False]


async def test_a_background_follow_up_keeps_its_parent_while_it_runs(
    gateway: Gateway, upstream: Emulated
) -> None:
    parent = await gateway.ask("One apple")
    running = await gateway.ask("Two pears", background=True, previous_interaction_id=parent.id)
    await deleted(gateway, parent)
    assert await kept(gateway, parent) == [True]
    upstream.clock.advance(100)
    assert_quotes(await gateway.finished(running.id), "One apple", "Two pears")
    upstream.forget()
    after = await gateway.ask("Three plums", previous_interaction_id=running.id)
    assert_quotes(after, "One apple", "Two pears", "Three plums")


@pytest.mark.parametrize("history", ["upstream", "local"])
async def test_a_follow_up_on_a_parent_that_is_deleted_meanwhile_has_it_for_ever_or_is_refused(
    gateway: Gateway, upstream: Emulated, history: str
) -> None:
    for _ in range(5):
        root, parent = await talk(gateway, "The root", "One apple")
        await deleted(gateway, root)
        *children, gone = await asyncio.gather(
            *(
                gateway.post(
                    {"model": "gemini-2.5-flash", "input": f"Two {n}", "previous_interaction_id": parent.id},
                    x_interactions_history=history,
                )
                for n in range(12)
            ),
            gateway.delete(parent.id),
        )
        assert gone.status == 200
        upstream.forget()
        for n, child in enumerate(children):
            if child.status == 200:
                grandchild = await gateway.ask("Three plums", previous_interaction_id=child.id)
                assert_quotes(grandchild, "The root", "One apple", f"Two {n}", "Three plums")
            else:
                assert child.status == 404
                assert parent.id in child.error["message"]


async def test_what_a_refused_follow_up_was_the_last_to_need_is_erased(
    gateway: Gateway, upstream: Emulated
) -> None:
    for _ in range(5):
        parent = await gateway.ask("A secret")
        replies = await asyncio.gather(
            gateway.create("Two", previous_interaction_id=parent.id),
            gateway.delete(parent.id),
            gateway.create("Two", previous_interaction_id=parent.id),
        )
        await deleted(gateway, *(replies[n] for n in (0, 2) if replies[n].status == 200))
        assert await kept(gateway, parent) == [False]


async def test_a_delete_that_a_crash_cut_short_is_ended_at_the_next_start(
    gateway: Gateway, start_gateway: StartGateway, upstream: Emulated
) -> None:
    alone = await gateway.ask("A secret")
    first, second, third = await talk(gateway, "One apple", "Two pears", "Three plums")
    for reply in (alone, first, second):
        await gateway.database.tombstone(reply.id)
    again = await start_gateway(upstream)

    async def swept() -> bool:
        return await again.database.bodies(alone.id) == {}

    await eventually(swept)
    assert await kept(again, alone, first, second, third) == [False, True, True, True]
    await deleted(again, third)
    assert await kept(again, first, second, third) == [False, False, False]


async def test_two_services_delete_one_conversation(
    gateway: Gateway, start_gateway: StartGateway, upstream: Emulated
) -> None:
    other = await start_gateway(upstream)
    root = await gateway.ask("The root")
    left = await gateway.ask("To the left", previous_interaction_id=root.id)
    right = await other.ask("To the right", previous_interaction_id=root.id)
    await deleted(other, root)
    assert (await gateway.get(root.id)).status == 404
    upstream.forget()
    after = await gateway.ask("On", previous_interaction_id=left.id)
    assert_quotes(after, "The root", "To the left", "On")
    await deleted(gateway, left, after)
    assert await kept(gateway, root) == [True]
    await deleted(other, right)
    assert await kept(gateway, root, left, right, after) == [False] * 4


async def test_of_a_deleted_link_the_conversation_has_what_was_told_before_the_checkpoint(
    gateway: Gateway, upstream: Emulated
) -> None:
    parent, told, hop = await gone_on_with(gateway)
    assert (await gateway.delete(parent)).status == 200
    ways: list[dict[str, Any]] = [{"stream": "true"}, {"stream": "true", "last_event_id": "evt_3"}, {}]
    for way in ways:
        assert (await gateway.get(parent, **way)).error["code"] == "not_found"
    upstream.forget()
    after = await gateway.ask("And then?", previous_interaction_id=hop.id)
    assert upstream.creates[-1]["input"] == [said("A long story"), *told, *hop.steps, said("And then?")]
    assert_quotes(after, "A long story", "And then?")
    await deleted(gateway, hop)
    upstream.forget()
    last = await gateway.ask("At last?", previous_interaction_id=after.id)
    assert upstream.creates[-1]["input"][: len(told) + 1] == [said("A long story"), *told]
    await deleted(gateway, after)
    assert await gateway.database.log(parent)
    await deleted(gateway, last)
    assert await gateway.database.log(parent) == []
    assert await gateway.database.bodies(parent) == {}


@pytest.mark.parametrize("flush", [0.05, 60.0], ids=["logged", "not logged yet"])
async def test_a_link_that_is_deleted_while_it_runs_is_kept_up_to_its_checkpoint(
    start_emulator: StartEmulator, start_gateway: StartGateway, flush: float
) -> None:
    upstream = await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)
    gateway = await start_gateway(upstream, event_flush_interval=flush)
    async with gateway.live("A long story", headers=STEPS, wish=CHECKPOINT) as live:
        await live.next()
        upstream.clock.advance(600)
        while "continuation_token" not in await live.until("interaction.status_update"):
            pass
        found = checkpoint_of(live.events)
        assert found is not None
        token, told = found
        body = {"model": MODEL, "continuation_token": token, "previous_interaction_id": live.id}
        hop = await gateway.post(body, **STEPS)
        assert hop.status == 200, hop.raw

        async def logged() -> bool:
            return any(token.encode() in frames for *_, frames in await gateway.database.log(live.id))

        if flush < 1:
            await eventually(logged)
        else:
            assert not await logged()
        assert (await gateway.delete(live.id)).status == 200
        upstream.clock.advance(1e6)
        await live.rest()
    upstream.forget()
    await gateway.ask("And then?", previous_interaction_id=hop.id)
    assert upstream.creates[-1]["input"] == [said("A long story"), *told, *hop.steps, said("And then?")]


async def test_a_link_whose_log_is_lost_is_refused_and_never_told_twice(
    gateway: Gateway, upstream: Emulated
) -> None:
    parent, _, hop = await gone_on_with(gateway)
    assert (await gateway.delete(parent)).status == 200
    key = literal(gateway.database.url, ids.from_text(parent) or b"")
    await query(gateway.database.url, f"DELETE FROM events WHERE interaction_id = {key}")
    upstream.forget()
    upstream.clear()
    reply = await gateway.refused(400, "And then?", previous_interaction_id=hop.id)
    assert reply.error["code"] == "failed_precondition"
    for part in (parent, hop.id, "'previous_interaction_id'", "Start anew"):
        assert part in reply.error["message"]
    # Upstream was asked for what it had, and got nothing in its place.
    assert [body.get("input") for body in upstream.creates] == ["And then?"]
