"""Official clients read streams: live, and regenerated from the record (contract 4)."""

from __future__ import annotations

from tests.contract.official import Client, Json
from tests.contract.reading import MODEL, deltas_of, quoted, streamed_text, text_of, types_of

FIRST = {"steps": "interaction.created", "legacy": "interaction.start"}
LAST = {"steps": "interaction.completed", "legacy": "interaction.complete"}
PARTS = {
    "steps": ["step.start", "step.delta", "step.stop"],
    "legacy": ["content.start", "content.delta", "content.stop"],
}


async def test_a_stream_arrives_in_the_generation_of_the_client(client: Client) -> None:
    events = await client.stream(model=MODEL, input="Say it slowly.")
    _check_shape(client, events)
    assert len(deltas_of(events, "text")) >= 5
    assert quoted(streamed_text(events), "Say it slowly.")
    assert events[0]["interaction"]["status"] == "in_progress"


async def test_the_end_of_a_stream_carries_status_and_usage(client: Client) -> None:
    events = await client.stream(model=MODEL, input="Count, please.")
    end = events[-1]["interaction"]
    assert end["status"] == "completed"
    assert end["id"] == events[0]["interaction"]["id"]
    assert end["id"].startswith("int_")
    usage = end["usage"]
    assert usage["total_tokens"] >= usage["total_input_tokens"] + usage["total_output_tokens"] > 0
    if client.sdk.generation == "legacy":
        assert usage["total_reasoning_tokens"] == usage["total_thought_tokens"]


async def test_a_streamed_interaction_can_be_read_at_once(client: Client) -> None:
    events = await client.stream(model=MODEL, input="Keep this.")
    stored = await client.get(_id(events))
    assert stored["status"] == "completed"
    assert text_of(stored) == streamed_text(events)


async def test_a_stream_continues_a_chain_and_is_continued(client: Client) -> None:
    first = await client.create(model=MODEL, input="Turn one.")
    second = await client.stream(model=MODEL, input="Turn two.", previous_interaction_id=first["id"])
    assert quoted(streamed_text(second), "Turn one.", "Turn two.")
    third = await client.create(model=MODEL, input="Turn three.", previous_interaction_id=_id(second))
    assert quoted(text_of(third), "Turn one.", "Turn two.", "Turn three.")


async def test_a_finished_interaction_can_be_streamed_again(client: Client) -> None:
    created = await client.create(model=MODEL, input="Once more.")
    events = await client.get_stream(created["id"])
    _check_shape(client, events)
    assert streamed_text(events) == text_of(created)
    assert _id(events) == created["id"]
    assert events[-1]["interaction"]["status"] == "completed"
    assert events[-1]["interaction"]["usage"]["total_tokens"] == created["usage"]["total_tokens"]


async def test_a_stream_resumes_after_any_event(client: Client) -> None:
    created = await client.create(model=MODEL, input="In two parts.")
    events = await client.get_stream(created["id"])
    marked = [position for position, event in enumerate(events) if event.get("event_id")]
    for position in (marked[0], marked[len(marked) // 2], marked[-1]):
        rest = await client.get_stream(created["id"], last_event_id=events[position]["event_id"])
        assert rest == events[position + 1 :]


async def test_a_stream_that_is_not_stored_has_the_same_shape(client: Client) -> None:
    events = await client.stream(model=MODEL, input="Leave no trace.", store=False)
    _check_shape(client, events)
    assert "Leave no trace." in streamed_text(events)


async def test_unknown_events_steps_and_deltas_disturb_nobody(client: Client) -> None:
    strange = client.having(headers={"x-emulator-behavior": "unknown"})
    events = await strange.stream(model=MODEL, input="Something new.")
    assert "Something new." in streamed_text(events)
    assert events[-1]["event_type"] == LAST[client.sdk.generation]


async def test_line_separators_inside_a_text_are_not_line_ends(client: Client) -> None:
    strange = client.having(headers={"x-emulator-behavior": "u2028"})
    events = await strange.stream(model=MODEL, input="Break the line.")
    text = streamed_text(events)
    assert "\u2028" in text
    assert text_of(await client.get(_id(events))) == text


async def test_the_asynchronous_client_streams_as_well(client: Client) -> None:
    waiting = client.having(asynchronous=True)
    events = await waiting.stream(model=MODEL, input="Asynchronously.")
    _check_shape(client, events)
    assert "Asynchronously." in streamed_text(events)
    assert streamed_text(await waiting.get_stream(_id(events))) == streamed_text(events)


def _check_shape(client: Client, events: list[Json]) -> None:
    """First and last event, and complete parts between them, one after the other (contract 4.1 and 4.5)."""
    generation = client.sdk.generation
    types = types_of(events)
    assert types[0] == FIRST[generation]
    assert types[-1] == LAST[generation]
    start, delta, stop = PARTS[generation]
    assert set(types[1:-1]) <= {start, delta, stop, "interaction.status_update"}
    parts = [event for event in events if event["event_type"] in PARTS[generation]]
    assert [event["index"] for event in parts] == sorted(event["index"] for event in parts)
    assert types.count(start) == types.count(stop) == len({event["index"] for event in parts})


def _id(events: list[Json]) -> str:
    interaction_id: str = events[-1]["interaction"]["id"]
    return interaction_id
