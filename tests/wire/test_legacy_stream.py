from __future__ import annotations

import tracemalloc
from copy import deepcopy
from typing import Any

from hypothesis import given

from service.wire import codec
from service.wire.assembler import Assembler
from service.wire.legacy import steps_to_outputs
from service.wire.legacy_stream import LegacyStream
from service.wire.regenerate import after, events_of
from service.wire.steps import made_steps
from tests.wire.events import delta, start, stop
from tests.wire.strategies import interactions

ID = "v1_ChdTMjQ0"


def translated(*events: dict[str, Any]) -> list[dict[str, Any]]:
    """The legacy events; whoever reads the stream assembles it, and nobody else."""
    reader = Assembler()
    stream = LegacyStream(lambda: reader.steps)
    told: list[dict[str, Any]] = []
    for event in events:
        reader.feed(event)
        told += stream.feed(event)
    return told


def created(**members: Any) -> dict[str, Any]:
    return {
        "event_type": "interaction.created",
        "interaction": {"id": ID, "status": "in_progress", **members},
    }


def completed(**members: Any) -> dict[str, Any]:
    return {
        "event_type": "interaction.completed",
        "interaction": {"id": ID, "status": "completed", **members},
    }


def shape(events: list[dict[str, Any]]) -> list[tuple[str, int | None, str | None]]:
    return [
        (
            event["event_type"],
            event.get("index"),
            (event.get("content") or event.get("delta") or {}).get("type"),
        )
        for event in events
    ]


def assembled(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What a legacy client makes of a stream: the contents, from their starts and deltas."""
    contents: dict[int, dict[str, Any]] = {}
    closed: set[int] = set()
    for event in events:
        match event["event_type"]:
            case "content.start":
                assert event["index"] == len(contents)
                contents[event["index"]] = dict(event["content"])
            case "content.delta":
                assert event["index"] not in closed
                apply(contents[event["index"]], event["delta"])
            case "content.stop":
                assert event["index"] not in closed
                closed.add(event["index"])
            case _:
                pass
    assert closed == set(contents)
    return list(contents.values())


def apply(content: dict[str, Any], change: dict[str, Any]) -> None:
    members = {name: value for name, value in change.items() if name != "type"}
    match change["type"]:
        case "text":
            text = members.pop("text", None)
            content.update(members)
            content["text"] = content["text"] + text if isinstance(content.get("text"), str) else text
            if "text" not in change:
                del content["text"]
        case "text_annotation":
            known = content.get("annotations")
            added = members["annotations"]
            content["annotations"] = [*known, *added] if known else added
        case "thought_summary":
            content["summary"] = [*content.get("summary", []), members["content"]]
        case "thought_signature":
            content["signature"] = content.get("signature", "") + members["signature"]
        case _:
            content.update(members)


def test_a_text_stream_is_told_in_legacy_order() -> None:
    events = translated(
        created(model="gemini-2.5-flash", object="interaction"),
        {"event_type": "interaction.status_update", "interaction_id": ID, "status": "in_progress"},
        start({"type": "thought"}),
        delta(type="thought_signature", signature="Co"),
        stop(),
        start({"type": "model_output"}, 1),
        delta(1, type="text", text="Elara's life "),
        delta(1, type="text", text="was ..."),
        stop(1),
        completed(usage={"total_tokens": 5, "total_thought_tokens": 3}, updated="2025-12-09T18:45:40Z"),
    )
    outputs = [{"type": "thought", "signature": "Co"}, {"type": "text", "text": "Elara's life was ..."}]
    assert events == [
        {
            "event_type": "interaction.start",
            "interaction": {
                "id": ID,
                "status": "in_progress",
                "model": "gemini-2.5-flash",
                "object": "interaction",
            },
        },
        {"event_type": "interaction.status_update", "interaction_id": ID, "status": "in_progress"},
        {"event_type": "content.start", "index": 0, "content": {"type": "thought"}},
        {
            "event_type": "content.delta",
            "index": 0,
            "delta": {"type": "thought_signature", "signature": "Co"},
        },
        {"event_type": "content.stop", "index": 0},
        {"event_type": "content.start", "index": 1, "content": {"type": "text"}},
        {"event_type": "content.delta", "index": 1, "delta": {"type": "text", "text": "Elara's life "}},
        {"event_type": "content.delta", "index": 1, "delta": {"type": "text", "text": "was ..."}},
        {"event_type": "content.stop", "index": 1},
        {
            "event_type": "interaction.complete",
            "interaction": {
                "id": ID,
                "object": "interaction",
                "model": "gemini-2.5-flash",
                "role": "model",
                "status": "completed",
                "updated": "2025-12-09T18:45:40Z",
                "usage": {"total_tokens": 5, "total_thought_tokens": 3, "total_reasoning_tokens": 3},
                "outputs": outputs,
            },
        },
    ]
    assert assembled(events) == outputs


def test_arguments_are_held_back_and_sent_whole() -> None:
    call = {"type": "function_call", "id": "fc_1", "name": "f", "arguments": {}, "signature": "S"}
    events = translated(
        start(call),
        delta(type="arguments_delta", arguments='{"location":'),
        delta(type="arguments_delta", arguments='"Boston"}'),
        stop(),
    )
    whole = {**call, "arguments": {"location": "Boston"}}
    assert events == [
        {"event_type": "content.start", "index": 0, "content": call},
        {"event_type": "content.delta", "index": 0, "delta": whole},
        {"event_type": "content.stop", "index": 0},
    ]


def test_a_call_whose_arguments_were_there_from_the_start_is_sent_too() -> None:
    call = {"type": "function_call", "id": "fc_1", "name": "f", "arguments": {"a": 1}}
    assert [event.get("delta") for event in translated(start(call), stop())] == [None, call, None]


def test_every_item_of_a_model_output_is_a_content_of_its_own() -> None:
    events = translated(
        start({"type": "model_output"}),
        delta(type="text", text="Look: "),
        delta(type="image", mime_type="image/png", data="aGk="),
        delta(type="audio", data="x"),
        delta(type="audio", data="y"),
        delta(type="text", text="nice"),
        delta(type="text_annotation_delta", annotations=[{"type": "url_citation"}]),
        stop(),
    )
    assert shape(events) == [
        ("content.start", 0, "text"),
        ("content.delta", 0, "text"),
        ("content.stop", 0, None),
        ("content.start", 1, "image"),
        ("content.delta", 1, "image"),
        ("content.stop", 1, None),
        ("content.start", 2, "audio"),
        ("content.delta", 2, "audio"),
        ("content.stop", 2, None),
        ("content.start", 3, "audio"),
        ("content.delta", 3, "audio"),
        ("content.stop", 3, None),
        ("content.start", 4, "text"),
        ("content.delta", 4, "text"),
        ("content.delta", 4, "text_annotation"),
        ("content.stop", 4, None),
    ]
    assert assembled(events)[4] == {"type": "text", "text": "nice", "annotations": [{"type": "url_citation"}]}


def test_text_inside_the_start_is_told_as_a_delta_and_continued() -> None:
    events = translated(
        start(
            {"type": "model_output", "content": [{"type": "text", "text": "Hel", "annotations": [{"n": 1}]}]}
        ),
        delta(type="text", text="lo"),
        stop(),
    )
    assert shape(events) == [
        ("content.start", 0, "text"),
        ("content.delta", 0, "text"),
        ("content.delta", 0, "text_annotation"),
        ("content.delta", 0, "text"),
        ("content.stop", 0, None),
    ]
    assert assembled(events) == [{"type": "text", "text": "Hello", "annotations": [{"n": 1}]}]


def test_tool_steps_pass_as_contents() -> None:
    events = translated(
        start({"type": "google_search_call", "id": "1", "signature": ""}),
        delta(type="google_search_call", signature="S", arguments={"queries": ["q"]}),
        stop(),
        start({"type": "novelty"}, 1),
        delta(1, type="novelty_delta", blob="x"),
        stop(1),
    )
    assert assembled(events) == [
        {"type": "google_search_call", "id": "1", "signature": "S", "arguments": {"queries": ["q"]}},
        {"type": "novelty", "blob": "x"},
    ]


def test_the_users_part_of_a_timeline_is_not_told() -> None:
    events = translated(
        start({"type": "user_input", "content": [{"type": "text", "text": "Hi"}]}),
        delta(type="text", text="!"),
        stop(),
        start({"type": "model_output"}, 1),
        delta(1, type="text", text="Hello"),
        stop(1),
    )
    assert assembled(events) == [{"type": "text", "text": "Hello"}]


def test_each_event_that_one_becomes_has_an_id_of_its_own() -> None:
    events = translated(
        {**created(), "event_id": "e1"},
        {**start({"type": "model_output"}), "event_id": "e2"},
        {**delta(type="text", text="a"), "event_id": "e3"},
        {**delta(type="image", data="x"), "event_id": "e4"},
        {**stop(), "event_id": "e5"},
        {**completed(), "event_id": "e6"},
    )
    assert [(event["event_type"], event.get("event_id")) for event in events] == [
        ("interaction.start", "e1"),
        ("content.start", "e3.1"),
        ("content.delta", "e3"),
        ("content.stop", "e4.1"),
        ("content.start", "e4.2"),
        ("content.delta", "e4"),
        ("content.stop", "e5"),
        ("interaction.complete", "e6"),
    ]


def test_errors_and_unknown_events_pass_through() -> None:
    error = {"event_type": "error", "error": {"code": "gateway_timeout", "message": "m"}, "event_id": "e1"}
    unknown = {"event_type": "future.event", "anything": [1]}
    assert translated(error, unknown) == [error, unknown]


def test_other_terminals_become_the_one_that_legacy_knows() -> None:
    [event] = translated({"event_type": "interaction.failed", "interaction": {"id": ID}})
    assert event["event_type"] == "interaction.complete"
    assert event["interaction"]["status"] == "failed"


def test_queued_is_in_progress() -> None:
    update = {"event_type": "interaction.status_update", "interaction_id": ID, "status": "queued"}
    started, updated = translated(created(status="queued"), update)
    assert started["interaction"]["status"] == updated["status"] == "in_progress"
    assert update["status"] == "queued"


def test_steps_that_never_stopped_are_closed_by_the_end() -> None:
    events = translated(
        start({"type": "model_output"}),
        delta(type="text", text="a"),
        start({"type": "function_call", "id": "1", "name": "f"}, 1),
        delta(1, type="arguments_delta", arguments='{"a":1}'),
        completed(),
    )
    expected = [
        {"type": "text", "text": "a"},
        {"type": "function_call", "id": "1", "name": "f", "arguments": {"a": 1}},
    ]
    assert assembled(events) == expected
    assert events[-1]["interaction"]["outputs"] == expected


def test_several_interactions_in_one_stream_are_told_one_by_one() -> None:
    hop = [start({"type": "model_output"}), delta(type="text", text="a"), stop()]
    events = translated(
        created(), *hop, completed(status="requires_continuation"), created(), *hop, completed()
    )
    first, second = events[: len(events) // 2], events[len(events) // 2 :]
    assert shape(first) == shape(second)
    assert assembled(first) == assembled(second) == [{"type": "text", "text": "a"}]
    assert first[-1]["interaction"]["outputs"] == second[-1]["interaction"]["outputs"] == assembled(second)
    assert [half[-1]["interaction"]["status"] for half in (first, second)] == [
        "requires_continuation",
        "completed",
    ]


def test_a_stream_joined_in_the_middle_is_told_from_there() -> None:
    events = translated(
        delta(1, type="text", text="b"),
        stop(1),
        delta(2, type="thought_signature", signature="S"),
        stop(2),
        delta(3, type="arguments_delta", arguments="{}"),
        stop(3),
        stop(9),
    )
    assert assembled(events) == [
        {"type": "text", "text": "b"},
        {"type": "thought", "signature": "S"},
        {"type": "function_call", "arguments": {}},
    ]


def test_a_listener_keeps_nothing_of_what_it_was_told_but_the_arguments_of_an_open_call() -> None:
    text, count = "x" * 16_384, 100
    stream = LegacyStream(list)
    stream.feed(created())

    def kept(*events: dict[str, Any]) -> int:
        before = tracemalloc.get_traced_memory()[0]
        for event in events:
            # As it is read from the log, by every listener for itself.
            stream.feed(codec.loads(codec.dumps(event)))
        return tracemalloc.get_traced_memory()[0] - before

    tracemalloc.start()
    try:
        answer = delta(type="text", text=text)
        assert kept(start({"type": "model_output"}), *[answer] * count, stop()) < len(text)
        thought = delta(1, type="thought_summary", content={"type": "text", "text": text})
        assert kept(start({"type": "thought"}, 1), *[thought] * count, stop(1)) < len(text)
        arguments = delta(2, type="arguments_delta", arguments=text)
        assert kept(start({"type": "function_call"}, 2), *[arguments] * count) > count * len(text)
        assert kept(stop(2)) < -count * len(text) + len(text)
    finally:
        tracemalloc.stop()


@given(interactions)
def test_a_regenerated_stream_tells_the_outputs(interaction: dict[str, Any]) -> None:
    before = deepcopy(interaction)
    outputs = steps_to_outputs(made_steps(interaction))
    events = translated(*events_of(interaction))
    assert assembled(events) == outputs
    assert events[-1]["event_type"] == "interaction.complete"
    assert events[-1]["interaction"]["outputs"] == outputs
    assert events[-1]["interaction"]["status"] == interaction["status"]
    assert interaction == before


@given(interactions)
def test_a_legacy_stream_resumes_after_any_id_it_gave(interaction: dict[str, Any]) -> None:
    events = translated(*events_of(interaction))
    for position, event in enumerate(events):
        if "event_id" in event:
            assert (
                list(after(translated(*events_of(interaction)), event["event_id"])) == events[position + 1 :]
            )
