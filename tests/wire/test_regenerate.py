from __future__ import annotations

from copy import deepcopy
from typing import Any

import orjson
import pytest
from hypothesis import given

from service.errors import InvalidRequest
from service.wire import codec
from service.wire.assembler import Assembler
from service.wire.regenerate import after, events_of
from service.wire.steps import made_steps
from tests.wire.strategies import interactions

INTERACTION: dict[str, Any] = {
    "id": "v1_abc",
    "object": "interaction",
    "model": "gemini-3.8-flash",
    "status": "requires_action",
    "created": "2026-08-07T16:33:32Z",
    "updated": "2026-08-07T16:33:40Z",
    "usage": {"total_tokens": 190},
    "steps": [
        {"type": "user_input", "content": [{"type": "text", "text": "Weather?"}]},
        {"type": "thought", "summary": [{"type": "text", "text": "Look it up."}], "signature": "Co4="},
        {
            "type": "model_output",
            "content": [{"type": "text", "text": "One moment.", "annotations": [{"type": "url_citation"}]}],
        },
        {
            "type": "function_call",
            "id": "1",
            "name": "get_weather",
            "arguments": {"location": "Boston"},
            "signature": "Eq=",
        },
        {"type": "google_search_call", "id": "2", "arguments": {"queries": ["a"]}, "signature": "Er="},
        {"type": "compaction", "blob": "opaque"},
    ],
}


def assembled(events: list[dict[str, Any]]) -> Assembler:
    assembler = Assembler()
    for event in events:
        assembler.feed(event)
    return assembler


def test_a_finished_interaction_is_told_in_googles_order() -> None:
    events = list(events_of(INTERACTION))
    assert [(event["event_type"], event.get("index")) for event in events] == [
        ("interaction.created", None),
        ("interaction.status_update", None),
        ("step.start", 0),
        ("step.delta", 0),
        ("step.delta", 0),
        ("step.stop", 0),
        ("step.start", 1),
        ("step.delta", 1),
        ("step.delta", 1),
        ("step.stop", 1),
        ("step.start", 2),
        ("step.delta", 2),
        ("step.stop", 2),
        ("step.start", 3),
        ("step.delta", 3),
        ("step.stop", 3),
        ("step.start", 4),
        ("step.stop", 4),
        ("interaction.completed", None),
    ]
    assert [event["event_id"] for event in events] == [f"replay_{seq}" for seq in range(1, len(events) + 1)]
    assert events[0]["interaction"] == {
        "id": "v1_abc",
        "object": "interaction",
        "model": "gemini-3.8-flash",
        "created": "2026-08-07T16:33:32Z",
        "status": "in_progress",
    }
    assert events[1]["interaction_id"] == "v1_abc"
    assert events[4]["delta"] == {"type": "thought_signature", "signature": "Co4="}
    assert events[10]["step"]["arguments"] == {}
    assert orjson.loads(events[11]["delta"]["arguments"]) == {"location": "Boston"}
    assert events[13]["step"] == {"type": "google_search_call", "id": "2"}
    assert events[-1]["interaction"] == {
        name: value for name, value in INTERACTION.items() if name != "steps"
    }


@given(interactions)
def test_assembling_the_events_gives_the_steps_exactly(interaction: dict[str, Any]) -> None:
    before = deepcopy(interaction)
    events = list(events_of(interaction))
    assembler = assembled(events)
    assert assembler.steps == made_steps(interaction)
    assert assembler.terminal
    assert assembler.status == interaction["status"]
    assert assembler.usage == interaction.get("usage")
    assert interaction == before


@given(interactions)
def test_the_events_survive_the_wire(interaction: dict[str, Any]) -> None:
    events = [codec.loads(codec.dumps(event)) for event in events_of(interaction)]
    assert assembled(events).steps == made_steps(interaction)


def test_two_texts_in_a_row_stay_two() -> None:
    content = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    steps = [{"type": "model_output", "content": content}]
    assert assembled(list(events_of({"status": "completed", "steps": steps}))).steps == steps


def test_arguments_that_are_no_object_travel_whole() -> None:
    steps = [{"type": "function_call", "id": "1", "name": "f", "arguments": '{"broken'}]
    assembler = assembled(list(events_of({"status": "failed", "steps": steps})))
    assert assembler.steps == steps


def test_a_failure_ends_with_its_status_its_usage_and_all_errors() -> None:
    errors = [{"code": "api_error", "message": "Internal error."}, {"code": "other", "message": "more"}]
    told = {"id": "v1_a", "status": "failed", "errors": errors, "usage": {"total_tokens": 65}}
    *_, last = events_of({**told, "steps": []})
    assert last == {"event_type": "interaction.completed", "interaction": told, "event_id": "replay_3"}


def test_a_failure_without_errors_completes_as_failed() -> None:
    *_, last = events_of({"id": "v1_a", "status": "failed", "steps": []})
    assert last["event_type"] == "interaction.completed"
    assert last["interaction"] == {"id": "v1_a", "status": "failed"}


def test_an_interaction_without_id_or_steps_has_events() -> None:
    created, update, completed = events_of({"status": "completed"})
    assert created["interaction"] == {"object": "interaction", "status": "in_progress"}
    assert "interaction_id" not in update
    assert completed["interaction"] == {"status": "completed"}


def test_a_stream_resumes_with_the_next_event() -> None:
    events = list(events_of(INTERACTION))
    for position, event in enumerate(events):
        assert list(after(events_of(INTERACTION), event["event_id"])) == events[position + 1 :]


@pytest.mark.parametrize("cursor", [None, ""])
def test_without_a_cursor_the_stream_begins_at_the_beginning(cursor: str | None) -> None:
    assert list(after(events_of(INTERACTION), cursor)) == list(events_of(INTERACTION))


def test_an_unknown_cursor_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(InvalidRequest, match="'replay_999' of 'last_event_id'"):
        after(events_of(INTERACTION), "replay_999")


def test_events_without_an_id_are_skipped_over() -> None:
    events = [{"event_type": "a"}, {"event_type": "b", "event_id": "1"}, {"event_type": "c"}]
    assert list(after(events, "1")) == [{"event_type": "c"}]
