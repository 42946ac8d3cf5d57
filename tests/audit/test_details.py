"""One interaction in full, the conversation around it, its events; labels; what deletes leave of them."""

from __future__ import annotations

import random

import pytest

from bench.filling import key_at
from service.audit import details
from service.audit.details import Details
from service.store.codec import Codec
from service.store.records import now
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids
from tests.audit.history import HOUR, LATE_FIGURES, past
from tests.support.gateway import MODEL, Gateway, eventually
from tests.support.gateways import StartGateway
from tests.support.replies import Json, Reply
from tests.support.store import intent
from tests.support.upstreams import Emulated


async def seen(gateway: Gateway, path: str) -> Json:
    reply = await gateway.request("GET", f"/api/interactions{path}")
    assert reply.status == 200, reply.raw
    return reply.body


async def priced(gateway: Gateway, name: str) -> Json:
    """An interaction once all that is derived from it is there."""

    async def done() -> bool:
        return (await seen(gateway, f"/{name}"))["cost"] is not None

    await eventually(done)
    return await seen(gateway, f"/{name}")


async def refused(gateway: Gateway, path: str, status: int) -> str:
    reply = await gateway.request("GET", f"/api{path}")
    assert reply.status == status, reply.raw
    message: str = reply.error["message"]
    return message


async def labelled(gateway: Gateway, header: str, **members: object) -> Reply:
    return await gateway.post({"model": MODEL, "input": "Hello", **members}, x_interactions_labels=header)


async def test_an_interaction_is_told_in_full(gateway: Gateway) -> None:
    first = await gateway.ask("What is it?")
    made = await gateway.ask("And why?", previous_interaction_id=first.id)
    told = await priced(gateway, made.id)
    assert told["request"] == {
        "model": MODEL,
        "input": "And why?",
        "previous_interaction_id": first.id,
    }
    assert told["response"]["steps"] == made.body["steps"]
    assert told["response"]["id"] == told["id"] == made.id
    assert told["previous_interaction_id"] == told["response"]["previous_interaction_id"] == first.id
    assert [attempt["status"] for attempt in told["attempts"]] == [200]
    assert told["usage"]["total_tokens"] == made.body["usage"]["total_tokens"]
    assert told["timings"]["created"] == told["created"]
    assert told["timings"]["to_completion"] == told["duration"] >= told["first_event"] >= 0
    assert told["links"]["previous_interaction"] == f"/api/interactions/{first.id}"
    assert told["status"] == "completed"
    assert told["root"] == first.id
    assert await seen(gateway, f"/{made.upstream_id}") == told


async def test_cost_and_modalities_follow(gateway: Gateway) -> None:
    made = await gateway.ask()
    told = await priced(gateway, made.id)
    assert told["cost"] > 0
    assert told["usage"]["modalities"]["input"]["text"] > 0


async def test_a_failure_is_told_with_its_attempt(gateway: Gateway, upstream: Emulated) -> None:
    reply = await gateway.refused(500, fault="status;code=500")
    told = await seen(gateway, f"/{reply.headers['x-interaction-id']}")
    assert told["status"] == "failed"
    assert told["error_code"] == told["attempts"][-1]["code"]
    assert told["response"] is None
    assert told["request"]["input"] == "Hello"


async def test_a_conversation_is_told_with_its_branches(gateway: Gateway) -> None:
    root = await gateway.ask("root")
    left = await gateway.ask("left", previous_interaction_id=root.id)
    right = await gateway.ask("right", previous_interaction_id=root.id)
    leaf = await gateway.ask("leaf", previous_interaction_id=left.id)
    other = await gateway.ask("another conversation")
    chain = await seen(gateway, f"/{left.id}/chain")
    assert [one["id"] for one in chain["ancestors"]] == [root.id]
    assert chain["interaction"]["id"] == left.id
    assert [one["id"] for one in chain["descendants"]] == [leaf.id]
    assert not chain["truncated"]
    whole = await seen(gateway, f"/{root.id}/chain")
    assert [one["id"] for one in whole["descendants"]] == [left.id, right.id, leaf.id]
    assert (await seen(gateway, f"/{other.id}/chain"))["ancestors"] == []
    listed = await seen(gateway, f"?chain={leaf.id}&order=asc")
    assert [one["id"] for one in listed["interactions"]] == [root.id, left.id, right.id, leaf.id]


async def test_of_a_long_conversation_the_nearest_are_told(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(details, "MOST_LINKS", 3)
    links = [(await gateway.ask("link 0")).id]
    for number in range(1, 6):
        links.append((await gateway.ask(f"link {number}", previous_interaction_id=links[-1])).id)
    for place, before, after, more in (
        (0, [], links[1:4], True),
        (2, links[:2], links[3:], False),
        (3, links[:3], links[4:], False),
        (4, links[1:4], links[5:], True),
        (5, links[2:5], [], True),
    ):
        chain = await seen(gateway, f"/{links[place]}/chain")
        assert [one["id"] for one in chain["ancestors"]] == before
        assert [one["id"] for one in chain["descendants"]] == after
        assert chain["truncated"] == more


async def test_a_conversation_of_more_than_a_thousand_is_told_from_the_nearest_on(store_url: str) -> None:
    async with past(store_url, 0) as made:
        moment = now() - HOUR
        keys = [key_at(moment + 1_000 * number, random.Random(number)) for number in range(1_003)]
        for depth, key in enumerate(keys):
            await made.opened.store.begin(
                intent(
                    key,
                    depth=depth,
                    previous_id=keys[depth - 1] if depth else None,
                    root_id=keys[0] if depth else None,
                ),
                b'{"input": "On."}',
            )
        told = Details(made.reports, made.opened.store, Codec(), LATE_FIGURES)
        chain = await told.chain(DEFAULT_PROJECT, ids.to_text(keys[-1]))
        assert [one["id"] for one in chain["ancestors"]] == [ids.to_text(key) for key in keys[2:-1]]
        assert chain["truncated"]


async def test_the_events_of_a_stream_are_told_page_by_page(gateway: Gateway) -> None:
    streamed = await gateway.stream("Tell me a story.")
    whole = await seen(gateway, f"/{streamed.id}/events")
    assert [event["event"]["event_type"] for event in whole["events"]] == streamed.types
    assert whole["ended"]
    assert whole["next_after"] is None
    first = await seen(gateway, f"/{streamed.id}/events?limit=2")
    assert not first["ended"]
    rest = await seen(gateway, f"/{streamed.id}/events?after={first['next_after']}")
    assert first["events"] + rest["events"] == whole["events"]
    unary = await gateway.ask()
    assert await seen(gateway, f"/{unary.id}/events") == {"events": [], "next_after": None, "ended": True}


async def test_the_events_of_what_runs_go_on(gateway: Gateway) -> None:
    async with gateway.live("Think long", background=True):
        (row,) = await gateway.database.rows()
        name = ids.to_text(row["id"])
        known = await seen(gateway, f"/{name}/events")
        assert not known["ended"]
        behind = known["next_after"] + 1000
        nothing = await seen(gateway, f"/{name}/events?after={behind}")
        assert nothing == {"events": [], "next_after": behind, "ended": False}


async def test_of_a_deleted_interaction_the_figures_stay(gateway: Gateway) -> None:
    made = await gateway.ask("A secret")
    await gateway.ask("It is needed", previous_interaction_id=made.id)
    await gateway.delete(made.id)
    told = await seen(gateway, f"/{made.id}")
    assert told["deleted"] is not None
    assert told["request"] is None
    assert told["response"] is None
    assert told["usage"]["total_tokens"] == made.body["usage"]["total_tokens"]
    assert b"secret" not in (await gateway.request("GET", f"/api/interactions/{made.id}")).raw
    assert await seen(gateway, f"/{made.id}/events") == {"events": [], "next_after": None, "ended": True}


async def test_labels_come_from_the_header_and_the_body_and_are_not_forwarded(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await start_gateway(upstream)
    made = await labelled(gateway, "team=search, env=a%2Cb%C3%BC")
    assert made.status == 200
    assert "labels" not in upstream.creates[-1]
    assert (await seen(gateway, f"/{made.id}"))["labels"] == {"team": "search", "env": "a,bü"}
    found = await seen(gateway, "?label:team=search&label.env=a,b%C3%BC")
    assert [one["id"] for one in found["interactions"]] == [made.id]
    assert (await seen(gateway, "?label:team=ads"))["interactions"] == []
    reply = await labelled(gateway, "team")
    assert reply.status == 400
    assert "'x-interactions-labels' has 'team'; write labels as team=search" in reply.error["message"]


async def test_what_is_not_there_or_makes_no_sense_is_refused(gateway: Gateway) -> None:
    missing = "int_aaaaaaaaaaaaaaaaaaaaaaaaaa"
    made = await gateway.ask()
    await gateway.database.give_away(made.id)
    for name in (missing, "v1_nothing", made.id, "%01"):
        for rest in ("", "/chain", "/events"):
            await refused(gateway, f"/interactions/{name}{rest}", 404)
    assert "Expected a number" in await refused(gateway, f"/interactions/{missing}/events?after=x", 400)
    assert "'limit'" in await refused(gateway, "/interactions?limit=1001", 400)
    assert "'limit'" in await refused(gateway, "/interactions?limit=0", 400)
    assert "'order'" in await refused(gateway, "/interactions?order=up", 400)
    assert "has a rank" in await refused(gateway, "/interactions?order=rank", 400)
    assert "'cursor'" in await refused(gateway, "/interactions?cursor=nonsense", 400)
    assert "nearest known one is 'status'" in await refused(gateway, "/interactions?staus=failed", 400)
    assert "Unknown parameter 'x'" in await refused(gateway, f"/interactions/{missing}?x=1", 400)
    assert "tz" in await refused(gateway, "/usage?tz=nowhere", 400)


async def test_a_cursor_goes_on_with_its_own_list_only(gateway: Gateway) -> None:
    for _ in range(3):
        await gateway.ask()
    cursor = (await seen(gateway, "?limit=1&from=1h"))["next_cursor"]
    assert len((await seen(gateway, f"?limit=5&from=1h&cursor={cursor}"))["interactions"]) == 2
    for other in (f"order=asc&cursor={cursor}", f"status=failed&cursor={cursor}"):
        assert "other filters" in await refused(gateway, f"/interactions?{other}", 400)
    # Of the last character some bits may mean nothing.
    changed = ("A" if cursor[-2] != "A" else "B").join((cursor[:-2], cursor[-1]))
    assert "'cursor'" in await refused(gateway, f"/interactions?from=1h&cursor={changed}", 400)
