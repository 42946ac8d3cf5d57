"""Follow-ups that cannot be served: each is refused with the status, the field, the link and the remedy.

What can be told from the store is refused before anything is written or sent; what upstream says about a request that
was sent is believed only where the contract's recipe allows it (contract 6).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.interactions.conversations import assert_quotes, said, talk
from tests.support.gateway import LEGACY, MODEL, STEPS, Gateway
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Reply
from tests.support.upstreams import Emulated, deployment

AMBIGUOUS = "Request contains an invalid argument."
FIELD = "'previous_interaction_id'"
REMEDY = (
    " It must be an id that this service, or upstream through it, gave out to the same project, of an interaction that "
    "was stored and is not deleted."
)
ADOPTION = " With general_settings.adopt_unknown, upstream would be asked for interactions made elsewhere."
NEW_START = " Otherwise start anew without 'previous_interaction_id'."
RUNNING = "background;queued=0;running=500"
AGENT = {"agent": "antigravity-preview-09-2026", "environment": "remote"}

#: Makes an interaction that cannot be continued; returns the name that a client has for it.
Prepare = Callable[[Gateway, Emulated], Awaitable[str]]


async def unknown(_gateway: Gateway, _upstream: Emulated) -> str:
    return "int_" + "a" * 26


async def unknown_upstream_id(_gateway: Gateway, _upstream: Emulated) -> str:
    return "v1_ChdTMjQ0unknown"


async def foreign(gateway: Gateway, _upstream: Emulated) -> str:
    made = await gateway.ask("Theirs")
    await gateway.database.give_away(made.id)
    return made.id


async def foreign_by_upstream_id(gateway: Gateway, _upstream: Emulated) -> str:
    made = await gateway.ask("Theirs")
    await gateway.database.give_away(made.id)
    return made.upstream_id


async def deleted(gateway: Gateway, _upstream: Emulated) -> str:
    made = await gateway.ask("Away")
    await gateway.delete(made.id)
    return made.id


async def deleted_but_kept(gateway: Gateway, _upstream: Emulated) -> str:
    parent, _ = await talk(gateway, "Kept for the other", "The other")
    await gateway.delete(parent.id)
    return parent.id


async def unstored(gateway: Gateway, _upstream: Emulated) -> str:
    return (await gateway.ask("Between us", store=False)).id


async def failed(gateway: Gateway, _upstream: Emulated) -> str:
    return (await gateway.ask(wish="failed")).id


async def refused_by_upstream(gateway: Gateway, _upstream: Emulated) -> str:
    return (await gateway.refused(503, fault="status;code=503")).headers["x-interaction-id"]


async def over_budget(gateway: Gateway, _upstream: Emulated) -> str:
    return (await gateway.ask(wish="budget_exceeded")).id


async def running(gateway: Gateway, _upstream: Emulated) -> str:
    return (await gateway.ask(background=True, wish=RUNNING)).id


async def queued(gateway: Gateway, _upstream: Emulated) -> str:
    return (await gateway.ask(background=True, wish="background;queued=500")).id


async def cancelled(gateway: Gateway, _upstream: Emulated) -> str:
    name = await running(gateway, _upstream)
    assert (await gateway.cancel(name)).status == 200
    return name


async def unfinished(gateway: Gateway, _upstream: Emulated) -> str:
    return (await gateway.ask("A long story", wish="continuation")).id


MISSING: tuple[Prepare, ...] = (
    unknown,
    unknown_upstream_id,
    foreign,
    foreign_by_upstream_id,
    deleted,
    deleted_but_kept,
    unstored,
)
#: With the status that the message tells.
NO_ANCHORS: tuple[tuple[Prepare, str], ...] = (
    (failed, "failed"),
    (refused_by_upstream, "failed"),
    (over_budget, "budget_exceeded"),
    (running, "in_progress"),
    (queued, "queued"),
    (cancelled, "cancelled"),
    (unfinished, "requires_continuation"),
)


async def refused_before_sending(
    gateway: Gateway, upstream: Emulated, status: int, **members: Any
) -> list[Reply]:
    """Refuse a create of each way and generation, and neither write nor send anything for it."""
    rows, sent = await gateway.database.count(), len(upstream.creates)
    body = {"model": MODEL, "input": "And?", **members}
    replies = [
        await gateway.post({**body, **way}, **headers)
        for way in ({}, {"stream": True}, {"background": True})
        for headers in (STEPS, LEGACY)
    ]
    assert {reply.status for reply in replies} == {status}, replies[0].raw
    assert await gateway.database.count() == rows
    assert len(upstream.creates) == sent
    return replies


@pytest.mark.parametrize("prepare", MISSING, ids=lambda prepare: prepare.__name__)
async def test_what_is_not_there_for_the_caller_is_not_found(
    gateway: Gateway, upstream: Emulated, prepare: Prepare
) -> None:
    name = await prepare(gateway, upstream)
    made_elsewhere = "" if name.startswith("int_") else ADOPTION
    for reply in await refused_before_sending(gateway, upstream, 404, previous_interaction_id=name):
        assert reply.error["code"] == "not_found"
        # The same for what was never there, is another project's, or is deleted.
        assert (
            reply.error["message"]
            == f"The interaction {name!r} in {FIELD} was not found.{REMEDY}{made_elsewhere}{NEW_START}"
        )


async def test_a_service_that_has_asked_upstream_does_not_tell_to_let_it(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await start_gateway(upstream, adopt_unknown=True)
    for name in ("v1_ChdTMjQ0unknown", await unknown(gateway, upstream)):
        reply = await gateway.create(previous_interaction_id=name)
        assert (reply.status, reply.error["code"]) == (404, "not_found")
        assert (
            reply.error["message"] == f"The interaction {name!r} in {FIELD} was not found.{REMEDY}{NEW_START}"
        )


@pytest.mark.parametrize(
    ("prepare", "status"), NO_ANCHORS, ids=lambda value: getattr(value, "__name__", value)
)
async def test_what_has_not_ended_well_is_no_anchor(
    gateway: Gateway, upstream: Emulated, prepare: Prepare, status: str
) -> None:
    name = await prepare(gateway, upstream)
    for reply in await refused_before_sending(gateway, upstream, 400, previous_interaction_id=name):
        assert reply.error["code"] == "failed_precondition"
        for part in (name, FIELD, repr(status), "completed, requires_action and incomplete"):
            assert part in reply.error["message"]


async def test_a_stream_that_still_runs_is_no_anchor(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)
    gateway = await start_gateway(upstream)
    async with gateway.live("A long story") as live:
        await live.next()
        (reply, *_) = await refused_before_sending(gateway, upstream, 400, previous_interaction_id=live.id)
        assert "'in_progress'" in reply.error["message"]
        upstream.clock.advance(1e6)
        await live.until("interaction.completed")
    assert_quotes(await gateway.ask("Go on", previous_interaction_id=live.id), "A long story", "Go on")


@pytest.mark.parametrize(
    ("members", "wish", "status"),
    [
        ({}, "", "completed"),
        ({"tools": [{"type": "function", "name": "look"}]}, "", "requires_action"),
        ({"generation_config": {"max_output_tokens": 5}}, "", "incomplete"),
        ({}, "incomplete", "incomplete"),
    ],
)
async def test_what_is_whole_waits_or_was_cut_short_is_an_anchor(
    gateway: Gateway, upstream: Emulated, members: dict[str, Any], wish: str, status: str
) -> None:
    made = await gateway.ask("One apple", wish=wish, **members)
    assert made.body["status"] == status
    for _ in ("upstream", "rebuilt"):
        assert_quotes(await gateway.ask("Two", previous_interaction_id=made.id), "One apple", "Two")
        upstream.forget()


@pytest.mark.parametrize("choice", ["nonsense", "", "upstream, local"])
async def test_a_history_that_does_not_exist_is_refused(
    gateway: Gateway, upstream: Emulated, choice: str
) -> None:
    first = await gateway.ask("One")
    for members in ({}, {"previous_interaction_id": first.id}):
        for stream in (False, True):
            body = {"model": MODEL, "input": "Two", "stream": stream, **members}
            reply = await gateway.post(body, x_interactions_history=choice)
            assert (reply.status, reply.error["code"]) == (400, "invalid_request")
            for part in ("'x-interactions-history'", repr(choice), "'upstream'", "'local'"):
                assert part in reply.error["message"]
    assert len(upstream.creates) == 1
    assert await gateway.database.count() == 1


async def test_a_rebuild_that_is_too_large_is_refused_before_sending(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    lost = deployment(upstream, MODEL, retention=0.0)
    gateway = await start_gateway(deployments=(lost,), max_rebuild_bytes=4000)
    *_, last = await talk(gateway, "One apple", "Two pears", "Three plums")
    body = {"previous_interaction_id": last.id, "input": "x" * 4000}
    replies = await refused_before_sending(gateway, upstream, 400, **body)
    for reply in replies:
        assert reply.error["code"] == "failed_precondition"
        for part in ("max_rebuild_bytes", " 4000 ", "3 interactions before it", FIELD):
            assert part in reply.error["message"]
    # What is too large with its history is not too large without.
    assert (await gateway.ask("x" * 4000)).status == 200
    await gateway.stop()
    size = int(replies[0].error["message"].partition(" bytes")[0].rpartition(" ")[2])
    for limit, status in ((size - 1, 400), (size, 200)):
        gateway = await start_gateway(deployments=(lost,), max_rebuild_bytes=limit)
        assert (await gateway.post({"model": MODEL, **body})).status == status
        await gateway.stop()


async def test_a_rebuild_that_upstreams_loss_makes_too_large_is_refused(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(upstream, max_rebuild_bytes=2000)
    first = await gateway.ask("x" * 2000)
    await gateway.ask("Two", previous_interaction_id=first.id)
    upstream.forget()
    upstream.clear()
    reply = await gateway.refused(400, "Three", previous_interaction_id=first.id)
    assert reply.error["code"] == "failed_precondition"
    for part in ("2000", "max_rebuild_bytes", "1 interaction before it"):
        assert part in reply.error["message"]
    assert len(upstream.creates) == 1
    row = await gateway.database.row(reply.headers["x-interaction-id"])
    assert (row["status"], row["error_code"]) == ("failed", "failed_precondition")


async def test_a_chain_with_a_hole_is_refused_naming_the_link(gateway: Gateway, upstream: Emulated) -> None:
    first, second, third = await talk(gateway, "One apple", "Two pears", "Three plums")
    await gateway.database.erase(second.id)
    upstream.forget()
    reply = await gateway.refused(400, "Four", previous_interaction_id=third.id)
    assert reply.error["code"] == "failed_precondition"
    for part in (second.id, "was deleted", FIELD):
        assert part in reply.error["message"]
    assert first.id not in reply.error["message"]
    # Now that the loss is known, nothing is sent any more.
    (reply, *_) = await refused_before_sending(gateway, upstream, 400, previous_interaction_id=third.id)
    assert second.id in reply.error["message"]


async def test_a_chain_goes_on_behind_the_checkpoint_of_a_link_that_still_runs(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(token_delay=60.0, stream_limit_seconds=1e9)
    gateway = await start_gateway(upstream)
    async with gateway.live("A long story", headers=STEPS, wish="checkpoint;after=6") as live:
        await live.next()
        upstream.clock.advance(600)
        while "continuation_token" not in (event := await live.until("interaction.status_update")):
            pass
        token = {"continuation_token": event["continuation_token"], "previous_interaction_id": live.id}
        hop = await gateway.post({"model": MODEL, **token}, **STEPS)
        assert hop.status == 200, hop.raw
        upstream.forget(hop.upstream_id)
        # The checkpoint may not be in the log yet: that is waited for.
        await gateway.ask("And then?", previous_interaction_id=hop.id)
        sent = upstream.creates[-1]["input"]
        assert [step["type"] for step in sent].count("user_input") == 2
        upstream.clock.advance(1e6)
        await live.until("interaction.completed")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_agent_whose_sandbox_is_gone_is_refused_naming_the_link(
    gateway: Gateway, upstream: Emulated, stream: bool
) -> None:
    first = await gateway.ask("Write a report", **AGENT)
    second = await gateway.ask("Longer", previous_interaction_id=first.id, **AGENT)
    upstream.forget()
    follow_up: dict[str, Any] = {"previous_interaction_id": second.id, "stream": stream, **AGENT}
    reply = await gateway.refused(409, "Go on", **follow_up)
    assert reply.error["code"] == "aborted"
    # The remedy is a new start, or a model.
    for part in (first.id, "sandbox", FIELD, "'model'"):
        assert part in reply.error["message"]
    upstream.clear()
    again = await gateway.refused(409, "Go on", **follow_up)
    assert again.error["message"] == reply.error["message"]
    assert upstream.creates == []
    # A model can go on from there.
    assert (await gateway.ask("Sum up", previous_interaction_id=second.id)).status == 200


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("code", "text"),
    [(404, "Interaction '{}' was not found."), (410, "Interaction '{}' is gone."), (400, AMBIGUOUS)],
)
async def test_an_upstream_that_has_nothing_gets_one_rebuild(
    gateway: Gateway, upstream: Emulated, code: int, text: str, stream: bool
) -> None:
    first = await gateway.ask("One apple")
    upstream.forget()
    upstream.clear()
    upstream.fault(f"status;code={code};message={text.format(first.upstream_id)}", count=0, method="POST")
    reply = await gateway.refused(code, "Two", previous_interaction_id=first.id, stream=stream)
    assert first.upstream_id not in reply.error["message"]
    referring, rebuilt = upstream.creates
    assert referring["previous_interaction_id"] == first.upstream_id
    assert rebuilt["input"] == [said("One apple"), *first.steps, said("Two")]
    assert len(upstream.calls("GET")) == (1 if text == AMBIGUOUS else 0)
    row = await gateway.database.row(reply.headers["x-interaction-id"])
    assert (row["status"], row["http_status"]) == ("failed", code)


REFUSALS = (401, 403, 409, 429, 500, 501, 502, 503, 504)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_that_speaks_of_a_loss_is_not_one(
    gateway: Gateway, upstream: Emulated, stream: bool
) -> None:
    first = await gateway.ask("One apple")
    upstream.forget()
    for code in REFUSALS:
        upstream.clear()
        upstream.fault(f"status;code={code};message=Interaction '{first.upstream_id}' was not found.")
        reply = await gateway.refused(code, "Two", previous_interaction_id=first.id, stream=stream)
        assert first.upstream_id not in reply.error["message"]
        assert len(upstream.requests) == 1
    assert (await gateway.database.row(first.id))["upstream_gone_at"] is None


async def test_a_parent_that_cannot_be_asked_for_is_not_lost(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    upstream.forget()
    for code in REFUSALS:
        upstream.clear()
        upstream.fault("stale;code=400")
        upstream.fault(f"status;code={code};message=Not found.", method="GET")
        reply = await gateway.refused(400, "Two", previous_interaction_id=first.id)
        assert reply.error["message"] == AMBIGUOUS
        assert [seen["method"] for seen in upstream.requests] == ["POST", "GET"]
    assert (await gateway.database.row(first.id))["upstream_gone_at"] is None


async def test_a_fault_of_the_request_itself_is_told_at_once(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    for message in ("Missing input.", "Unknown parameter 'x'.", "File not found."):
        upstream.clear()
        upstream.fault(f"status;code=400;message={message}")
        reply = await gateway.refused(400, "Two", previous_interaction_id=first.id)
        assert reply.error["message"] == message
        assert len(upstream.requests) == 1
    assert (await gateway.database.row(first.id))["upstream_gone_at"] is None
