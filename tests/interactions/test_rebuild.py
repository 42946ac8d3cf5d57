"""Follow-ups when upstream has lost the conversation: it is rebuilt from the store, once (contract 5.5 and 6)."""

from __future__ import annotations

import asyncio

import orjson
import pytest

from service.emulator.config import DAY
from service.store.records import now
from service.wire import ids
from tests.interactions.conversations import (
    WEATHER,
    assert_quotes,
    assert_rebuilt,
    result_of,
    said,
    talk,
)
from tests.support.gateway import LEGACY, MODEL, Gateway
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Reply, Streamed
from tests.support.store import literal, query
from tests.support.upstreams import Emulated, deployment

AMBIGUOUS = "Request contains an invalid argument."


async def history_of(gateway: Gateway, reply: Reply) -> list[str]:
    """How each attempt of an interaction gave upstream its history."""
    row = await gateway.database.row(reply.id)
    return [attempt["history"] for attempt in orjson.loads(row["attempts"])]


@pytest.mark.parametrize("stale", ["404", "400"])
async def test_past_upstreams_retention_the_conversation_goes_on(
    start_emulator: StartEmulator, start_gateway: StartGateway, stale: str
) -> None:
    upstream = await start_emulator(retention_seconds=DAY, stale_reference=stale)
    gateway = await start_gateway(upstream)
    first, second = await talk(gateway, "One apple", "Two pears")
    upstream.clock.advance(2 * DAY)
    third = await gateway.ask("Three plums", previous_interaction_id=second.id)
    assert_quotes(third, "One apple", "Two pears", "Three plums")
    assert len(upstream.creates) == 4
    # The bare 400 is confirmed by one GET; a 404 that names the reference needs none.
    assert len(upstream.calls("GET")) == (1 if stale == "400" else 0)
    assert_rebuilt(upstream.creates[-1], [("One apple", first), ("Two pears", second)], "Three plums")
    assert await history_of(gateway, third) == ["upstream", "rebuilt"]
    # From here on upstream holds the rebuilt conversation.
    fourth = await gateway.ask("Four figs", previous_interaction_id=third.id)
    assert_quotes(fourth, "One apple", "Two pears", "Three plums", "Four figs")
    assert upstream.creates[-1]["previous_interaction_id"] == third.upstream_id
    assert len(upstream.creates) == 5


async def test_an_interaction_that_is_gone_is_lost_as_well(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    upstream.fault("stale;code=410")
    second = await gateway.ask("Two", previous_interaction_id=first.id)
    assert_quotes(second, "One apple", "Two")
    assert_rebuilt(upstream.creates[-1], [("One apple", first)], "Two")


async def test_a_model_that_is_not_found_is_not_a_lost_conversation(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(models=frozenset({MODEL}))
    gateway = await start_gateway(upstream)
    first = await gateway.ask("One apple")
    upstream.clear()
    reply = await gateway.refused(
        404, "Two", model="gemini-3.1-pro-preview", previous_interaction_id=first.id
    )
    assert reply.error["code"] == "model_not_found"
    assert len(upstream.requests) == 1
    assert (await gateway.database.row(first.id))["upstream_gone_at"] is None


async def test_a_stream_is_rebuilt_too(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    upstream.forget()
    streamed = await gateway.stream("Two pears", previous_interaction_id=first.id)
    assert streamed.final["status"] == "completed"
    assert streamed.final["previous_interaction_id"] == first.id
    assert_quotes(await gateway.got(streamed.id), "One apple", "Two pears")
    assert_rebuilt(upstream.creates[-1], [("One apple", first)], "Two pears")


async def test_signatures_of_a_streamed_answer_survive(gateway: Gateway, upstream: Emulated) -> None:
    streamed = await gateway.stream(
        "Find it", tools=[{"type": "google_search"}], wish="fragments;count=3,story"
    )
    deltas = [event["delta"] for event in streamed.events if event["event_type"] == "step.delta"]
    assert sum("signature" in delta for delta in deltas) > 6
    first = await gateway.got(streamed.id)
    upstream.forget()
    # The emulator refuses a signature that was touched, as upstream does.
    second = await gateway.ask("And now?", previous_interaction_id=streamed.id)
    assert_rebuilt(upstream.creates[-1], [("Find it", first)], "And now?")
    sent = [step["signature"] for step in upstream.creates[-1]["input"] if "signature" in step]
    assert len(sent) > 3
    assert_quotes(second, "Find it", "And now?")


async def test_what_upstream_has_forgotten_is_remembered(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    upstream.forget()
    await gateway.ask("Two", previous_interaction_id=first.id)
    assert (await gateway.database.row(first.id))["upstream_gone_at"] is not None
    upstream.clear()
    again = await gateway.ask("Three", previous_interaction_id=first.id)
    assert_quotes(again, "One apple", "Three")
    assert len(upstream.requests) == 1
    assert await history_of(gateway, again) == ["rebuilt"]


async def test_a_deployments_own_retention_needs_no_question(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(deployments=(deployment(upstream, MODEL, retention=0.0),))
    first, second, third = await talk(gateway, "One apple", "Two pears", "Three plums")
    assert len(upstream.requests) == 3
    assert_quotes(third, "One apple", "Two pears", "Three plums")
    assert_rebuilt(upstream.creates[-1], [("One apple", first), ("Two pears", second)], "Three plums")


async def test_each_deployment_is_counted_on_for_as_long_as_it_keeps(
    upstream: Emulated, start_gateway: StartGateway, database_url: str
) -> None:
    hour = 3600
    gateway = await start_gateway(
        deployments=(
            deployment(upstream, "brief", "gemini-2.5-flash", key="key-1", retention=1.0 * hour),
            deployment(upstream, "long", "gemini-2.5-pro", key="key-2", retention=3.0 * hour),
        )
    )
    for name, counted_on in (("brief", 1 * hour), ("long", 3 * hour)):
        first = await gateway.ask("One apple", model=name)
        for age, is_counted_on in ((counted_on - 60, True), (counted_on + 60, False)):
            await _grow(database_url, first, age)
            upstream.clear()
            second = await gateway.ask("Two pears", model=name, previous_interaction_id=first.id)
            assert_quotes(second, "One apple", "Two pears")
            (body,) = upstream.creates
            assert told(second) == ("upstream" if is_counted_on else "rebuilt", "1")
            if is_counted_on:
                assert (body["previous_interaction_id"], body["input"]) == (first.upstream_id, "Two pears")
            else:
                assert_rebuilt(body, [("One apple", first)], "Two pears")


async def _grow(database_url: str, reply: Reply, age: int) -> None:
    """Let an interaction have been made so many seconds ago."""
    key = ids.from_text(reply.id)
    assert key is not None
    await query(
        database_url,
        f"UPDATE interactions SET created_at = :moment WHERE id = {literal(database_url, key)}",
        moment=now() - age * 1_000_000,
    )


async def test_another_deployment_gets_the_conversation(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(
        deployments=(
            deployment(upstream, "first", "gemini-2.5-flash", key="key-1"),
            deployment(upstream, "second", "gemini-2.5-pro", key="key-2"),
        )
    )
    one = await gateway.ask("One apple", model="first")
    two = await gateway.ask("Two pears", model="second", previous_interaction_id=one.id)
    assert_quotes(two, "One apple", "Two pears")
    assert_rebuilt(upstream.creates[-1], [("One apple", one)], "Two pears")
    back = await gateway.ask("Three plums", model="first", previous_interaction_id=two.id)
    assert_quotes(back, "One apple", "Two pears", "Three plums")
    assert len(upstream.requests) == 3


async def test_a_deployment_that_is_gone_costs_no_conversation(
    gateway: Gateway, start_emulator: StartEmulator, start_gateway: StartGateway, upstream: Emulated
) -> None:
    first, second = await talk(gateway, "One apple", "Two pears")
    await gateway.stop()
    await upstream.close()
    elsewhere = await start_emulator()
    moved = await start_gateway(deployments=(deployment(elsewhere, MODEL, id="new", key="key-new"),))
    third = await moved.ask("Three plums", previous_interaction_id=second.id)
    assert_quotes(third, "One apple", "Two pears", "Three plums")
    assert_rebuilt(elsewhere.creates[-1], [("One apple", first), ("Two pears", second)], "Three plums")


async def test_local_history_leaves_nothing_upstream(upstream: Emulated, start_gateway: StartGateway) -> None:
    gateway = await start_gateway(upstream, history="local")
    first, second = await talk(gateway, "One apple", "Two pears")
    third = await gateway.stream("Three plums", previous_interaction_id=second.id)
    assert [body["store"] for body in upstream.creates] == [False, False, False]
    assert_rebuilt(upstream.creates[-1], [("One apple", first), ("Two pears", second)], "Three plums")
    assert "x-upstream-interaction-id" not in first.headers
    for reply in (first, second):
        assert (await gateway.got(reply.id)).body == reply.body
        assert (await gateway.database.row(reply.id))["upstream_stored"] is False
    assert_quotes(await gateway.got(third.id), "One apple", "Two pears", "Three plums")


async def test_local_history_still_lets_background_work_be_kept(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(upstream, history="local")
    first = await gateway.ask("One apple")
    running = await gateway.ask("Two", background=True, previous_interaction_id=first.id)
    assert upstream.creates[-1].get("store", True) is True
    assert_rebuilt(upstream.creates[-1], [("One apple", first)], "Two")
    upstream.clock.advance(100)
    assert_quotes(await gateway.finished(running.id), "One apple", "Two")


async def test_a_function_loop_is_rebuilt_in_order(gateway: Gateway, upstream: Emulated) -> None:
    asked = await gateway.ask("The weather?", tools=[WEATHER])
    result = result_of(asked, "sunny")
    upstream.forget()
    told = await gateway.ask([result], previous_interaction_id=asked.id, tools=[WEATHER])
    assert upstream.creates[-1]["input"] == [said("The weather?"), *asked.steps, result]
    assert "sunny" in told.text
    upstream.forget()
    after = await gateway.ask("Thanks", previous_interaction_id=told.id)
    assert_rebuilt(upstream.creates[-1], [("The weather?", asked), ([result], told)], "Thanks")
    assert after.body["status"] == "completed"


async def test_a_legacy_callers_conversation_is_rebuilt_in_steps(
    gateway: Gateway, upstream: Emulated
) -> None:
    turns = [
        {"role": "user", "content": "One apple"},
        {"role": "model", "content": "Yes."},
        {"role": "user", "content": [{"type": "text", "text": "Two pears"}]},
    ]
    first = await gateway.post({"model": MODEL, "input": turns}, **LEGACY)
    assert first.status == 200
    stored = await gateway.got(first.body["id"])
    upstream.forget()
    second = await gateway.ask("Three plums", previous_interaction_id=stored.id)
    assert upstream.creates[-1]["input"] == [
        said("One apple"),
        {"type": "model_output", "content": [{"type": "text", "text": "Yes."}]},
        said("Two pears"),
        *stored.steps,
        said("Three plums"),
    ]
    assert_quotes(second, "One apple", "Two pears", "Three plums")


async def test_a_polled_interaction_is_rebuilt_without_repeating_its_input(
    gateway: Gateway, upstream: Emulated
) -> None:
    history = [
        said("One apple"),
        {"type": "model_output", "content": [{"type": "text", "text": "Yes."}]},
        said("Two pears"),
    ]
    running = await gateway.ask(history, background=True)
    upstream.clock.advance(100)
    # Upstream's GET shows the input as the first steps of the timeline.
    assert (await gateway.finished(running.id)).body["status"] == "completed"
    upstream.forget()
    second = await gateway.ask("Three plums", previous_interaction_id=running.id)
    assert_quotes(second, "One apple", "Two pears", "Three plums")


async def test_a_long_conversation_is_rebuilt(gateway: Gateway, upstream: Emulated) -> None:
    texts = [f"Text {number}" for number in range(12)]
    replies = await talk(gateway, *texts)
    upstream.forget()
    last = await gateway.ask("The end", previous_interaction_id=replies[-1].id)
    assert_quotes(last, *texts, "The end")
    assert_rebuilt(upstream.creates[-1], list(zip(texts, replies, strict=True)), "The end")


async def test_a_branch_is_rebuilt_without_its_siblings(gateway: Gateway, upstream: Emulated) -> None:
    root = await gateway.ask("The root")
    left = await gateway.ask("To the left", previous_interaction_id=root.id)
    await gateway.ask("To the right", previous_interaction_id=root.id)
    upstream.forget()
    after = await gateway.ask("On", previous_interaction_id=left.id)
    assert_quotes(after, "The root", "To the left", "On")


async def test_followers_that_meet_the_loss_at_once_are_all_served(
    gateway: Gateway, upstream: Emulated
) -> None:
    first = await gateway.ask("One apple")
    upstream.forget()
    followers = await asyncio.gather(
        *(gateway.ask(f"Follower {number}", previous_interaction_id=first.id) for number in range(8))
    )
    for number, reply in enumerate(followers):
        assert_quotes(reply, "One apple", f"Follower {number}")
    assert len({reply.id for reply in followers}) == 8


async def test_there_is_one_rebuild_for_a_request(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    upstream.clear()
    upstream.fault(f"status;code=404;message=Interaction '{first.upstream_id}' was not found.", count=0)
    reply = await gateway.refused(404, "Two", previous_interaction_id=first.id)
    assert first.upstream_id not in reply.error["message"]
    assert len(upstream.creates) == len(upstream.requests) == 2
    row = await gateway.database.row(reply.headers["x-interaction-id"])
    assert (row["status"], row["http_status"], row["error_code"]) == ("failed", 404, "not_found")


@pytest.mark.parametrize("code", [401, 403, 409, 429, 500, 503])
async def test_other_refusals_never_rebuild(gateway: Gateway, upstream: Emulated, code: int) -> None:
    first = await gateway.ask("One apple")
    upstream.forget()
    upstream.clear()
    upstream.fault(f"status;code={code};message=Interaction {first.upstream_id} not found")
    await gateway.refused(code, "Two", previous_interaction_id=first.id)
    assert len(upstream.requests) == 1


async def test_a_real_fault_of_a_request_is_told_as_it_is(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    upstream.clear()
    reply = await gateway.refused(400, "Two", previous_interaction_id=first.id, labels={"a": "b"})
    assert "not available on the Gemini API" in reply.error["message"]
    assert len(upstream.requests) == 1


async def test_an_ambiguous_fault_is_told_as_it_is_when_the_parent_lives(
    gateway: Gateway, upstream: Emulated
) -> None:
    first = await gateway.ask("One apple")
    upstream.clear()
    upstream.fault(f"status;code=400;message={AMBIGUOUS}")
    reply = await gateway.refused(400, "Two", previous_interaction_id=first.id)
    assert reply.error["message"] == AMBIGUOUS
    assert [seen["method"] for seen in upstream.requests] == ["POST", "GET"]
    assert (await gateway.database.row(first.id))["upstream_gone_at"] is None


async def test_an_ambiguous_fault_is_told_as_it_is_when_upstream_cannot_say(
    gateway: Gateway, upstream: Emulated
) -> None:
    first = await gateway.ask("One apple")
    upstream.clear()
    upstream.fault(f"status;code=400;message={AMBIGUOUS}")
    upstream.fault("status;code=503", method="GET")
    reply = await gateway.refused(400, "Two", previous_interaction_id=first.id)
    assert reply.error["message"] == AMBIGUOUS
    assert [seen["method"] for seen in upstream.requests] == ["POST", "GET"]


async def test_an_ambiguous_fault_is_told_as_it_is_when_upstream_goes_away(
    gateway: Gateway, upstream: Emulated
) -> None:
    first = await gateway.ask("One apple")
    upstream.clear()
    upstream.fault(f"status;code=400;message={AMBIGUOUS}")
    upstream.fault("reset_before", method="GET")
    reply = await gateway.refused(400, "Two", previous_interaction_id=first.id)
    assert reply.error["message"] == AMBIGUOUS
    row = await gateway.database.row(reply.headers["x-interaction-id"])
    assert (row["status"], row["http_status"]) == ("failed", 400)


async def test_a_chain_with_an_erased_link_goes_on_while_upstream_holds_it(
    gateway: Gateway, upstream: Emulated
) -> None:
    first, second = await talk(gateway, "One apple", "Two pears")
    await gateway.database.erase(first.id)
    third = await gateway.ask("Three", previous_interaction_id=second.id)
    assert "One apple" in third.text
    upstream.forget()
    reply = await gateway.refused(400, "Four", previous_interaction_id=third.id)
    assert first.id in reply.error["message"]
    # The request reached upstream once, so there is a record of it and of how it ended.
    row = await gateway.database.row(reply.headers["x-interaction-id"])
    assert (row["status"], row["error_code"]) == ("failed", "failed_precondition")


AGENT = {"agent": "antigravity-preview-09-2026", "environment": "remote"}


async def test_the_state_of_an_agent_is_not_guessed(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("Write a report", **AGENT)
    upstream.forget()
    reply = await gateway.refused(409, "Go on", previous_interaction_id=first.id, **AGENT)
    assert reply.error["code"] == "aborted"
    assert first.id in reply.error["message"]
    assert len(upstream.creates) == 2
    # A model in between did not bring the sandbox back.
    second = await gateway.ask("Sum up", previous_interaction_id=first.id)
    upstream.forget()
    reply = await gateway.refused(409, "Go on", previous_interaction_id=second.id, **AGENT)
    assert first.id in reply.error["message"]


async def test_a_model_is_told_what_an_agent_was_asked_and_what_it_answered(
    gateway: Gateway, upstream: Emulated
) -> None:
    first = await gateway.ask("Write a report", **AGENT)
    assert {step["type"] for step in first.steps} > {"model_output"}
    upstream.forget()
    second = await gateway.ask("Sum up", previous_interaction_id=first.id)
    assert_quotes(second, "Write a report", "Sum up")
    report = [step for step in first.steps if step["type"] == "model_output"][-1]
    assert upstream.creates[-1]["input"] == [said("Write a report"), report, said("Sum up")]


async def test_an_agents_sandbox_is_used_though_the_history_is_local(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(upstream, history="local")
    first = await gateway.ask("Write a report", **AGENT)
    await gateway.ask("Go on", previous_interaction_id=first.id, **AGENT)
    assert upstream.creates[-1]["previous_interaction_id"] == first.upstream_id
    assert upstream.creates[-1].get("store", True) is True


async def test_an_agent_goes_on_from_a_model_of_an_agents_chain_though_the_history_is_local(
    gateway: Gateway, upstream: Emulated
) -> None:
    first = await gateway.ask("Write a report", **AGENT)
    second = await gateway.ask("Sum up", previous_interaction_id=first.id)
    follow_up = {"input": "Go on", "previous_interaction_id": second.id, **AGENT}
    third = await gateway.post(follow_up, x_interactions_history="local")
    assert third.status == 200, third.raw
    assert upstream.creates[-1]["previous_interaction_id"] == second.upstream_id


async def test_an_agents_sandbox_is_not_given_up_for_one_404(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("Write a report", **AGENT)
    upstream.fault("stale")
    await gateway.refused(404, "Go on", previous_interaction_id=first.id, **AGENT)
    assert [seen["status"] for seen in upstream.calls("GET")] == [200]
    second = await gateway.ask("Go on", previous_interaction_id=first.id, **AGENT)
    assert told(second) == ("upstream", "1")


def told(reply: Reply | Streamed) -> tuple[str, str]:
    """What the answer says about its history."""
    return reply.headers["x-interactions-history"], reply.headers["x-interactions-history-links"]


async def test_the_answer_says_where_its_history_came_from(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One")
    second = await gateway.ask("Two", previous_interaction_id=first.id)
    assert [told(first), told(second)] == [("none", "0"), ("upstream", "1")]
    streamed = await gateway.stream("Three", previous_interaction_id=second.id)
    assert told(streamed) == ("upstream", "2")
    upstream.forget()
    assert told(await gateway.ask("Three", previous_interaction_id=second.id)) == ("rebuilt", "2")
    streamed = await gateway.stream("Three", headers=LOCAL, previous_interaction_id=second.id)
    assert told(streamed) == ("rebuilt", "2")


LOCAL = {"x-interactions-history": "local"}


async def test_one_request_can_leave_nothing_upstream(gateway: Gateway, upstream: Emulated) -> None:
    first = await gateway.ask("One apple")
    body = {"model": MODEL, "input": "Two pears", "previous_interaction_id": first.id}
    second = await gateway.post(body, **LOCAL)
    assert told(second) == ("rebuilt", "1")
    assert_rebuilt(upstream.creates[-1], [("One apple", first)], "Two pears")
    assert upstream.creates[-1]["store"] is False
    third = await gateway.ask("Three plums", previous_interaction_id=second.id)
    assert_rebuilt(upstream.creates[-1], [("One apple", first), ("Two pears", second)], "Three plums")
    assert upstream.creates[-1].get("store", True) is True
    assert told(third) == ("rebuilt", "2")


async def test_one_request_can_use_upstreams_copy_where_the_rest_is_local(
    upstream: Emulated, start_gateway: StartGateway
) -> None:
    gateway = await start_gateway(upstream, history="local")
    kept = {"x-interactions-history": "Upstream"}
    first = await gateway.post({"model": MODEL, "input": "One"}, **kept)
    body = {"model": MODEL, "input": "Two", "previous_interaction_id": first.id}
    assert told(await gateway.post(body, **kept)) == ("upstream", "1")
    assert told(await gateway.post(body)) == ("rebuilt", "1")
