"""GET: what is terminal is answered from the store alone, whatever becomes of upstream (promises P4 and P8)."""

from __future__ import annotations

import asyncio

import pytest

from service.emulator.config import DAY
from service.store.records import USAGE_FINAL
from tests.support.gateway import MODEL, STEPS, Gateway
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.replies import Json, Reply, Streamed
from tests.support.upstreams import Emulated, deployment


def without_input(body: Json) -> Json:
    """The body without the timeline's leading input, which GET may show (contract 1.1)."""
    return {**body, "steps": [step for step in body["steps"] if step["type"] != "user_input"]}


async def test_an_answer_is_read_back_as_it_was_given(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask("Tell me something")
    read = await gateway.got(made.id)
    assert read.body == made.body
    assert read.headers["x-interaction-id"] == made.id
    assert read.upstream_id == made.upstream_id
    assert upstream.calls("GET") == []


async def test_a_stream_is_read_back_as_what_it_told(gateway: Gateway, upstream: Emulated) -> None:
    streamed = await gateway.stream("Tell me something", tools=[{"type": "google_search"}], wish="story")
    read = await gateway.got(streamed.id)
    assert read.text == streamed.text
    for member, value in streamed.final.items():
        if member not in ("outputs", "role"):
            assert read.body[member] == value
    assert upstream.calls("GET") == []


async def test_the_same_request_is_stored_alike_from_a_stream_and_from_a_body(gateway: Gateway) -> None:
    tools = [{"type": "google_search"}, {"type": "code_execution"}]
    streamed = await gateway.got((await gateway.stream("Find it", tools=tools)).id)
    made = await gateway.ask("Find it", tools=tools)
    assert streamed.body["steps"] == made.body["steps"]
    assert streamed.body["usage"] == made.body["usage"]
    kept = [await gateway.database.row(reply.id) for reply in (streamed, made)]
    assert {row["usage_state"] for row in kept} == {USAGE_FINAL}
    for figure in ("input_tokens", "output_tokens", "thought_tokens", "tool_use_tokens", "total_tokens"):
        assert kept[0][figure] == kept[1][figure] is not None


async def assert_readable(gateway: Gateway, made: Reply, streamed: Streamed) -> None:
    assert (await gateway.got(made.id)).body == made.body
    assert (await gateway.got(streamed.id)).text == streamed.text
    for name in (made.id, streamed.id):
        assert (await gateway.events(name)).final["status"] == "completed"


async def test_reading_goes_on_when_upstream_has_forgotten(gateway: Gateway, upstream: Emulated) -> None:
    made, streamed = await gateway.ask("One"), await gateway.stream("Two")
    upstream.forget()
    await assert_readable(gateway, made, streamed)
    assert upstream.calls("GET") == []


async def test_reading_goes_on_past_upstreams_retention(
    start_emulator: StartEmulator, start_gateway: StartGateway
) -> None:
    upstream = await start_emulator(retention_seconds=DAY)
    gateway = await start_gateway(upstream)
    made, streamed = await gateway.ask("One"), await gateway.stream("Two")
    upstream.clock.advance(60 * DAY)
    await assert_readable(gateway, made, streamed)


async def test_reading_goes_on_when_upstream_is_down(gateway: Gateway, upstream: Emulated) -> None:
    made, streamed = await gateway.ask("One"), await gateway.stream("Two")
    await upstream.close()
    await assert_readable(gateway, made, streamed)


async def test_reading_goes_on_in_another_process_and_with_another_configuration(
    gateway: Gateway, upstream: Emulated, start_gateway: StartGateway
) -> None:
    made, streamed = await gateway.ask("One"), await gateway.stream("Two")
    await gateway.stop()
    other = await start_gateway(deployments=(deployment(upstream, "other-model"),))
    await assert_readable(other, made, streamed)


async def test_upstreams_id_is_an_alias(gateway: Gateway) -> None:
    made = await gateway.ask()
    read = await gateway.got(made.upstream_id)
    assert read.body == made.body
    assert (await gateway.events(made.upstream_id)).final["id"] == made.id


@pytest.mark.parametrize("name", ["int_unknown", "v1_unknown", "int_" + "a" * 26, "%00", "x" * 3000])
async def test_an_unknown_id_is_not_found(gateway: Gateway, name: str) -> None:
    reply = await gateway.request("GET", f"/v1beta/interactions/{name}")
    assert reply.status == 404
    assert reply.error["code"] == "not_found"


async def test_another_projects_interaction_is_as_good_as_none(gateway: Gateway, upstream: Emulated) -> None:
    made = await gateway.ask()
    await gateway.database.give_away(made.id)
    upstream.clear()
    for name in (made.id, made.upstream_id):
        missing = name[:-1] + ("a" if name[-1] != "a" else "e")
        for reply, none in (
            (await gateway.get(name), await gateway.get(missing)),
            (await gateway.get(name, stream="true"), await gateway.get(missing, stream="true")),
            (await gateway.cancel(name), await gateway.cancel(missing)),
            (await gateway.delete(name), await gateway.delete(missing)),
            (
                await gateway.create(previous_interaction_id=name),
                await gateway.create(previous_interaction_id=missing),
            ),
        ):
            assert reply.status == none.status == 404
            assert reply.raw == none.raw.replace(missing.encode(), name.encode())
    assert upstream.requests == []


async def test_the_input_is_shown_when_asked_for(gateway: Gateway) -> None:
    made = await gateway.ask("What did I ask?")
    read = await gateway.got(made.id, include_input="true")
    assert read.body["input"] == "What did I ask?"
    asked = {"type": "user_input", "content": [{"type": "text", "text": "What did I ask?"}]}
    assert read.body["steps"] == [asked, *made.steps]
    assert (await gateway.got(made.id, include_input="false")).body == made.body


async def test_the_record_tells_what_was_asked_and_what_came_of_it(gateway: Gateway) -> None:
    made = await gateway.ask("Hello", model=f"gemini/{MODEL}")
    row = await gateway.database.row(made.id)
    usage = made.body["usage"]
    assert row["status"] == made.body["status"] == "completed"
    assert (row["model_requested"], row["model"]) == (f"gemini/{MODEL}", MODEL)
    assert made.body["model"] == MODEL
    assert row["upstream_id"] == made.upstream_id
    assert row["http_status"] == 200
    assert row["total_tokens"] == usage["total_tokens"]
    assert row["input_tokens"] == usage["total_input_tokens"]
    assert row["created_at"] <= row["first_byte_at"] <= row["completed_at"]
    assert row["error_code"] is None


async def test_every_answer_is_durable_before_it_is_given(gateway: Gateway) -> None:
    async def ask(number: int) -> None:
        made = await gateway.ask(f"Question {number}")
        # Another connection sees what is committed and nothing else.
        row = await gateway.database.row(made.id)
        assert (row["status"], row["upstream_id"]) == ("completed", made.upstream_id)

    await asyncio.gather(*(ask(number) for number in range(20)))
    assert await gateway.database.count() == 20


async def test_polling_counts_usage_once(gateway: Gateway) -> None:
    made = await gateway.ask()
    before = await gateway.database.told()
    for _ in range(3):
        await gateway.got(made.id)
        await gateway.events(made.id)
    assert await gateway.database.told() == before


async def test_a_stored_stream_is_regenerated_and_resumed(gateway: Gateway) -> None:
    streamed = await gateway.stream("Tell me a story", wish="story")
    whole = await gateway.events(streamed.id, headers=STEPS)
    names = [event["event_id"] for event in whole.events]
    assert len(set(names)) == len(names) > 5
    assert whole.types[0] == "interaction.created"
    assert whole.text == streamed.text
    assert whole.final["usage"] == streamed.final["usage"]
    assert whole.events == (await gateway.events(streamed.id, headers=STEPS)).events
    for position in (0, len(names) // 2, len(names) - 2):
        by_query = await gateway.events(streamed.id, headers=STEPS, last_event_id=names[position])
        by_header = await gateway.events(streamed.id, headers={**STEPS, "Last-Event-ID": names[position]})
        assert by_query.events == by_header.events == whole.events[position + 1 :]
        assert by_query.final == whole.final


async def test_nothing_is_left_after_the_last_event(gateway: Gateway) -> None:
    made = await gateway.ask()
    whole = await gateway.events(made.id)
    rest = await gateway.events(made.id, last_event_id=whole.events[-1]["event_id"])
    assert rest.events == []
    assert rest.done


@pytest.mark.parametrize("cursor", ["replay_9999", "replay_0", "nonsense"])
async def test_an_unknown_cursor_is_refused(gateway: Gateway, cursor: str) -> None:
    made = await gateway.ask()
    by_query = await gateway.get(made.id, stream="true", last_event_id=cursor)
    assert by_query.status == 400
    assert cursor in by_query.error["message"]
    by_header = await gateway.get(made.id, headers={"last-event-id": cursor}, stream="true")
    assert by_header.status == 400


async def test_a_cursor_needs_a_stream(gateway: Gateway) -> None:
    made = await gateway.ask()
    reply = await gateway.get(made.id, last_event_id="replay_1")
    assert reply.status == 400
    assert "stream=true" in reply.error["message"]
    assert (await gateway.get(made.id, stream="perhaps")).status == 400
