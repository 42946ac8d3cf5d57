from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.wire.assembler import Assembler
from service.wire.sse import Splitter, data_of
from tests.wire.events import completed, delta, start, stop
from tests.wire.strategies import objects, values

SAMPLES = Path(__file__).parent / "samples"


def fed(*events: dict[str, Any]) -> Assembler:
    assembler = Assembler()
    for event in events:
        assembler.feed(event)
    return assembler


def fed_from_sample(name: str) -> Assembler:
    stream = (SAMPLES / name).read_bytes()
    payloads = [data_of(block) or b"" for block in Splitter().feed(stream)]
    return fed(*(orjson.loads(payload) for payload in payloads if payload != b"[DONE]"))


def test_googles_text_stream_assembles() -> None:
    assembler = fed_from_sample("text.sse")
    assert assembler.steps == [
        {"type": "thought", "signature": "..."},
        {"type": "model_output", "content": [{"type": "text", "text": "1, 2, 3, 4, 5, 6, "}]},
    ]
    assert assembler.terminal
    assert (assembler.status, assembler.upstream_id) == ("completed", "v1_...")
    assert (assembler.usage or {})["total_tokens"] == 346
    assert assembler.error is None
    assert assembler.result() == {
        "id": "v1_...",
        "status": "completed",
        "object": "interaction",
        "model": "gemini-3-flash-preview",
        "created": "2026-05-12T18:44:51Z",
        "updated": "2026-05-12T18:44:51Z",
        "service_tier": "standard",
        "usage": assembler.usage,
        "steps": assembler.steps,
    }


def test_googles_tool_stream_assembles() -> None:
    assembler = fed_from_sample("tools.sse")
    assert assembler.steps == [
        {
            "type": "google_search_call",
            "id": "mkutnkgn",
            "signature": "Sa",
            "arguments": {"queries": ["largest mountain in Europe"]},
        },
        {"type": "google_search_result", "call_id": "mkutnkgn", "signature": "Sb", "is_error": False},
        {"type": "thought", "signature": "Sc"},
        {
            "type": "function_call",
            "id": "ktr5aysg",
            "name": "get_weather",
            "arguments": {"location": "Mount Elbrus, Russia"},
        },
    ]
    assert assembler.status == "requires_action"


def test_unknown_events_are_ignored() -> None:
    assembler = fed(
        {"event_type": "interaction.in_progress"}, {"event_type": None}, {}, {"event_type": ["odd"]}
    )
    assert assembler.result() == {"steps": []}
    assert (assembler.status, assembler.usage, assembler.upstream_id, assembler.error) == (
        None,
        None,
        None,
        None,
    )


@pytest.mark.parametrize(
    ("members", "step"),
    [
        ({"type": "text", "text": "a"}, {"type": "model_output", "content": [{"type": "text", "text": "a"}]}),
        (
            {"type": "image", "data": "x"},
            {"type": "model_output", "content": [{"type": "image", "data": "x"}]},
        ),
        ({"type": "thought_signature", "signature": "s"}, {"type": "thought", "signature": "s"}),
        ({"type": "arguments_delta", "arguments": "{}"}, {"type": "function_call", "arguments": {}}),
        ({"type": "google_search_call", "signature": "s"}, {"type": "google_search_call", "signature": "s"}),
    ],
)
def test_a_delta_without_a_start_tells_its_step(members: dict[str, Any], step: dict[str, Any]) -> None:
    assert fed(delta(**members)).steps == [step]


def test_events_without_an_index_belong_to_the_latest_step() -> None:
    events = [start({"type": "thought"}), start({"type": "model_output"}), delta(type="text", text="a")]
    for event in events:
        del event["index"]
    assert fed(*events).steps == [
        {"type": "thought"},
        {"type": "model_output", "content": [{"type": "text", "text": "a"}]},
    ]


@pytest.mark.parametrize(
    "status", ["failed", "incomplete", "requires_action", "cancelled", "budget_exceeded"]
)
def test_terminals_of_other_names_are_accepted(status: str) -> None:
    assembler = fed({"event_type": f"interaction.{status}", "interaction": {"id": "v1_a"}})
    assert assembler.terminal
    assert assembler.status == status
    assert fed({"event_type": f"interaction.{status}"}).status == status


def test_completed_without_a_status_is_completed() -> None:
    assert fed(
        {"event_type": "interaction.created", "interaction": {"status": "in_progress"}}, completed()
    ).status == ("completed")


def test_an_interaction_without_an_id_has_none() -> None:
    created = {"event_type": "interaction.created", "interaction": {"id": "", "status": "in_progress"}}
    assert fed(created, completed(status="completed")).upstream_id is None


def test_the_id_is_learnt_from_a_status_update_too() -> None:
    update = {"event_type": "interaction.status_update", "interaction_id": "v1_b", "status": "queued"}
    assembler = fed(update)
    assert (assembler.upstream_id, assembler.status, assembler.terminal) == ("v1_b", "queued", False)


SPARE = {"total_tokens": 5}


@pytest.mark.parametrize(
    "carrier",
    [
        stop(usage=SPARE),
        {"event_type": "interaction.status_update", "status": "in_progress", "usage": SPARE},
        {**delta(type="text", text="a"), "metadata": {"total_usage": SPARE}},
        {"event_type": "future", "metadata": {"total_usage": SPARE}},
    ],
)
def test_usage_from_elsewhere_stands_in_for_missing_usage(carrier: dict[str, Any]) -> None:
    assert fed(carrier, completed(status="completed")).result()["usage"] == SPARE
    assert fed(carrier, completed(status="completed", usage=None)).usage == SPARE
    assert fed(carrier, completed(status="completed", usage={"total_tokens": 9})).usage == {"total_tokens": 9}


def test_steps_inside_the_terminal_event_count_if_none_were_streamed() -> None:
    given_steps = [{"type": "model_output", "content": []}]
    assert fed(completed(status="completed", steps=given_steps)).result()["steps"] == given_steps
    assembler = fed(start({"type": "thought"}), completed(status="completed", steps=given_steps))
    assert assembler.steps == [{"type": "thought"}]
    assert "steps" not in assembler.interaction


def test_an_error_event_is_kept_and_is_not_the_end() -> None:
    error = {"message": "Deadline expired before operation could complete.", "code": "gateway_timeout"}
    assembler = fed({"event_type": "error", "error": error})
    assert assembler.error == error
    assert not assembler.terminal
    assembler.feed(completed(status="completed"))
    assert assembler.error is None


@pytest.mark.parametrize("event", [{"event_type": "error"}, {"event_type": "error", "error": None}])
def test_an_empty_error_event_still_has_an_error(event: dict[str, Any]) -> None:
    error = fed(event).error
    assert error is not None
    assert error["code"] == "api_error"


def test_a_failed_interaction_keeps_its_error() -> None:
    error = {"code": "api_error", "message": "m"}
    assert fed({"event_type": "error", "error": error}, completed(status="failed")).error == error
    assert fed({"event_type": "interaction.failed", "error": error}).error == error


def test_a_stream_replayed_from_its_beginning_is_not_doubled() -> None:
    created = {"event_type": "interaction.created", "interaction": {"id": "v1_a", "status": "in_progress"}}
    half = [created, start({"type": "model_output"}), delta(type="text", text="Hello")]
    assert fed(*half, *half, delta(type="text", text="!"), completed(status="completed")).steps == [
        {"type": "model_output", "content": [{"type": "text", "text": "Hello!"}]}
    ]


def test_what_was_read_before_the_end_does_not_change_later() -> None:
    assembler = fed(
        start({"type": "model_output"}),
        delta(type="text", text="a"),
        delta(type="text_annotation_delta", annotations=[1]),
    )
    early = assembler.steps
    kept = deepcopy(early)
    assembler.feed(delta(type="text", text="b"))
    assembler.feed(delta(type="text_annotation_delta", annotations=[2]))
    assembler.feed(delta(type="image", data="x"))
    assert early == kept
    assert assembler.step(0) == {
        "type": "model_output",
        "content": [{"type": "text", "text": "ab", "annotations": [1, 2]}, {"type": "image", "data": "x"}],
    }
    assert assembler.step(1) is None


kinds = st.sampled_from(
    [
        "text",
        "text_annotation_delta",
        "image",
        "thought_summary",
        "thought_signature",
        "arguments_delta",
        "google_search_call",
        "function_result",
        "function_call",
        "novelty",
    ]
)
strange_deltas = st.builds(
    lambda kind, members: {**members, "type": kind},
    kinds | values.filter(lambda value: not isinstance(value, str)),
    st.dictionaries(
        st.sampled_from(["text", "annotations", "content", "signature", "arguments", "result", "id"]),
        values,
        max_size=4,
    ),
)
strange_events = st.one_of(
    objects,
    st.builds(
        lambda kind, index, step, change, interaction: {
            "event_type": kind,
            "index": index,
            "step": step,
            "delta": change,
            "interaction": interaction,
            "error": interaction,
        },
        st.sampled_from(
            [
                "step.start",
                "step.delta",
                "step.stop",
                "interaction.created",
                "interaction.completed",
                "interaction.failed",
                "interaction.status_update",
                "error",
            ]
        ),
        st.integers(0, 2) | values,
        strange_deltas | values,
        strange_deltas | values,
        objects | values,
    ),
)


@given(st.lists(strange_events, max_size=12))
def test_nothing_makes_it_fail_or_change_its_events(events: list[dict[str, Any]]) -> None:
    before = deepcopy(events)
    assembler = fed(*events)
    assert isinstance(assembler.result()["steps"], list)
    assert events == before


plain_deltas = st.builds(
    lambda index, text: {"event_type": "step.delta", "index": index, "delta": {"type": "text", "text": text}},
    st.integers(0, 2),
    st.text(max_size=3),
)
any_deltas = st.one_of(
    plain_deltas,
    st.builds(
        lambda index, change, more: {**more, "event_type": "step.delta", "index": index, "delta": change},
        st.integers(0, 2) | values,
        strange_deltas | values,
        st.dictionaries(st.just("metadata"), st.just({"total_usage": {"total_tokens": 7}})),
    ),
)


@given(st.lists(strange_events, max_size=3), st.lists(any_deltas, max_size=12))
def test_deltas_taken_in_together_are_what_they_are_one_by_one(
    before: list[dict[str, Any]], deltas: list[dict[str, Any]]
) -> None:
    one_by_one, together = fed(*before, *deltas), fed(*before)
    together.feed_deltas(deltas)
    assert repr(together.result()) == repr(one_by_one.result())
    assert [together.is_open(index) for index in range(3)] == [
        one_by_one.is_open(index) for index in range(3)
    ]
