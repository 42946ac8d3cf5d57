from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.wire.assembler import Assembler
from service.wire.sse import Splitter, data_of
from tests.wire.strategies import interactions, objects, values


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


def start(step: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"event_type": "step.start", "index": index, "step": step}


def delta(index: int = 0, **members: Any) -> dict[str, Any]:
    return {"event_type": "step.delta", "index": index, "delta": members}


def stop(index: int = 0, **members: Any) -> dict[str, Any]:
    return {"event_type": "step.stop", "index": index, **members}


def completed(**members: Any) -> dict[str, Any]:
    return {"event_type": "interaction.completed", "interaction": members}


def the_step(*events: dict[str, Any]) -> dict[str, Any]:
    [step] = fed(*events).steps
    return step


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
    assert assembler.invalid_arguments == []


def test_text_that_arrives_inside_the_start_comes_first() -> None:
    step = the_step(
        start({"type": "model_output", "content": [{"type": "text", "text": "Hel"}]}),
        delta(type="text", text="lo"),
        stop(),
    )
    assert step == {"type": "model_output", "content": [{"type": "text", "text": "Hello"}]}


def test_a_bare_string_inside_the_start_is_text() -> None:
    assert the_step(start({"type": "model_output", "content": "Hel"}), delta(type="text", text="lo"))[
        "content"
    ] == [{"type": "text", "text": "Hello"}]


def test_text_after_media_is_a_new_item() -> None:
    step = the_step(
        start({"type": "model_output"}),
        delta(type="text", text="a"),
        delta(type="image", mime_type="image/png", data="aGk="),
        delta(type="text", text="b"),
        delta(type="text", text="c"),
        delta(type="audio", data="x", sample_rate=24000),
        delta(type="audio", data="y", sample_rate=24000),
    )
    assert step["content"] == [
        {"type": "text", "text": "a"},
        {"type": "image", "mime_type": "image/png", "data": "aGk="},
        {"type": "text", "text": "bc"},
        {"type": "audio", "data": "x", "sample_rate": 24000},
        {"type": "audio", "data": "y", "sample_rate": 24000},
    ]


def test_annotations_belong_to_the_text_before_them() -> None:
    step = the_step(
        start(
            {"type": "model_output", "content": [{"type": "text", "text": "a", "annotations": [{"n": 1}]}]}
        ),
        delta(type="text_annotation_delta", annotations=[{"n": 2}]),
        delta(type="text", text="b"),
        delta(type="text_annotation_delta", annotations=[{"n": 3}]),
        delta(type="text_annotation_delta", annotations=None),
    )
    assert step["content"] == [{"type": "text", "text": "ab", "annotations": [{"n": 1}, {"n": 2}, {"n": 3}]}]


def test_annotations_without_text_get_an_empty_one() -> None:
    step = the_step(
        start({"type": "model_output"}), delta(type="text_annotation_delta", annotations=[{"n": 1}])
    )
    assert step["content"] == [{"type": "text", "text": "", "annotations": [{"n": 1}]}]


def test_a_thought_gathers_summaries_and_signature_fragments() -> None:
    step = the_step(
        start({"type": "thought", "signature": "", "summary": [{"type": "text", "text": "first"}]}),
        delta(type="thought_summary", content={"type": "text", "text": "second"}),
        delta(type="thought_summary", content={"text": "untyped"}),
        delta(type="thought_summary", content=None),
        delta(type="thought_signature", signature="Ab"),
        delta(type="thought_signature", signature="Cd"),
    )
    assert step == {
        "type": "thought",
        "signature": "AbCd",
        "summary": [{"type": "text", "text": text} for text in ("first", "second", "untyped")],
    }


def test_arguments_arrive_in_pieces_of_json() -> None:
    step = the_step(
        start({"type": "function_call", "id": "1", "name": "f", "arguments": {}, "signature": "S"}),
        delta(type="arguments_delta", arguments='{"a":12345678901234567890'),
        delta(type="arguments_delta", arguments='123,"b"'),
        delta(type="arguments_delta", arguments=None),
        delta(type="arguments_delta", arguments=":[true]}"),
        stop(),
    )
    assert step["arguments"] == {"a": 12345678901234567890123, "b": [True]}
    assert step["signature"] == "S"


def test_arguments_in_the_start_are_kept_without_deltas() -> None:
    call = {"type": "function_call", "id": "1", "name": "f", "arguments": {"a": 1}}
    assert the_step(start(call), stop()) == call


@pytest.mark.parametrize(
    ("text", "arguments"),
    [('{"a":', '{"a":'), ("nonsense", "nonsense"), ("[1]", [1]), ("null", None), ("\ud800", "\ud800")],
)
def test_arguments_that_are_no_object_are_kept_and_reported(text: str, arguments: Any) -> None:
    assembler = fed(
        start({"type": "thought"}),
        start({"type": "function_call", "arguments": {}}, 1),
        delta(1, type="arguments_delta", arguments=text),
        stop(1),
    )
    assert assembler.steps[1]["arguments"] == arguments
    assert assembler.invalid_arguments == [1]


def test_arguments_of_a_stream_that_was_cut_are_kept_as_they_arrived() -> None:
    assembler = fed(start({"type": "function_call"}), delta(type="arguments_delta", arguments='{"city":"Bos'))
    assert assembler.steps == [{"type": "function_call", "arguments": '{"city":"Bos'}]
    assert assembler.invalid_arguments == [0]
    assert not assembler.terminal
    assembler.feed(delta(type="arguments_delta", arguments='ton"}'))
    assert assembler.steps == [{"type": "function_call", "arguments": {"city": "Boston"}}]
    assert assembler.invalid_arguments == []


def test_tool_deltas_merge_member_by_member() -> None:
    step = the_step(
        start({"type": "code_execution_call", "id": "1", "signature": "", "arguments": {}}),
        delta(type="code_execution_call", arguments={"language": "python"}, signature="S"),
        delta(type="code_execution_call", arguments={"code": "1+1"}, signature="", future=[1]),
    )
    assert step == {
        "type": "code_execution_call",
        "id": "1",
        "signature": "S",
        "arguments": {"language": "python", "code": "1+1"},
        "future": [1],
    }


def test_a_result_replaces_a_result() -> None:
    step = the_step(
        start({"type": "code_execution_result", "call_id": "1"}),
        delta(type="code_execution_result", result="partial"),
        delta(type="code_execution_result", result="whole", is_error=False),
    )
    assert step == {"type": "code_execution_result", "call_id": "1", "result": "whole", "is_error": False}


def test_unknown_deltas_append_strings_and_replace_the_rest() -> None:
    step = the_step(
        start({"type": "tool_call", "id": "7", "note": "a"}),
        delta(type="tool_call", id="7", note="b", n=1, items=[1]),
        delta(type="tool_call", id="7", note="c", n=2, items=[2], blob="x"),
        delta(note="d"),
    )
    assert step == {"type": "tool_call", "id": "7", "note": "abcd", "n": 2, "items": [2], "blob": "x"}


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
    assert the_step(delta(**members)) == step


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
    "text text_annotation_delta image thought_summary thought_signature arguments_delta google_search_call"
    " function_result function_call novelty".split()
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
            "step.start step.delta step.stop interaction.created interaction.completed interaction.failed"
            " interaction.status_update error".split()
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


@given(interactions, st.data())
def test_text_may_be_cut_anywhere(interaction: dict[str, Any], data: st.DataObject) -> None:
    text = data.draw(st.text(max_size=20))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[left:right] for left, right in pairwise([0, *cuts, len(text)])]
    step = the_step(start({"type": "model_output"}), *(delta(type="text", text=piece) for piece in pieces))
    assert step["content"] == [{"type": "text", "text": text}]


def test_hundreds_of_thousands_of_fragments_are_not_copied_again_and_again() -> None:
    # Appending to a string each time would copy two terabytes here and run into the time limit.
    count = 200_000
    assembler = fed(
        start({"type": "model_output"}), start({"type": "thought"}, 1), start({"type": "novelty"}, 2)
    )
    events = [
        delta(0, type="text", text="x" * 100),
        delta(1, type="thought_signature", signature="y" * 100),
        delta(2, type="novelty", blob="z" * 100),
    ]
    for _ in range(count):
        for event in events:
            assembler.feed(event)
    output, thought, novelty = assembler.steps
    assert output["content"] == [{"type": "text", "text": "x" * 100 * count}]
    assert len(thought["signature"]) == len(novelty["blob"]) == 100 * count
