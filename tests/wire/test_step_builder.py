from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.wire.assembler import Assembler
from tests.wire.events import delta, start, stop


def fed(*events: dict[str, Any]) -> Assembler:
    assembler = Assembler()
    for event in events:
        assembler.feed(event)
    return assembler


def the_step(*events: dict[str, Any]) -> dict[str, Any]:
    [step] = fed(*events).steps
    return step


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
def test_arguments_that_are_no_object_are_kept(text: str, arguments: Any) -> None:
    assembler = fed(
        start({"type": "thought"}),
        start({"type": "function_call", "arguments": {}}, 1),
        delta(1, type="arguments_delta", arguments=text),
        stop(1),
    )
    assert assembler.steps[1]["arguments"] == arguments


def test_arguments_too_deep_to_be_told_are_kept_as_they_arrived() -> None:
    text = '{"a":' * 1_000 + "1" + "}" * 1_000
    assembler = fed(start({"type": "function_call"}), delta(type="arguments_delta", arguments=text), stop())
    assert assembler.steps == [{"type": "function_call", "arguments": text}]


def test_arguments_of_a_stream_that_was_cut_are_kept_as_they_arrived() -> None:
    assembler = fed(start({"type": "function_call"}), delta(type="arguments_delta", arguments='{"city":"Bos'))
    assert assembler.steps == [{"type": "function_call", "arguments": '{"city":"Bos'}]
    assert not assembler.terminal
    assembler.feed(delta(type="arguments_delta", arguments='ton"}'))
    assert assembler.steps == [{"type": "function_call", "arguments": {"city": "Boston"}}]


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


def test_a_string_of_an_unknown_delta_erases_no_list() -> None:
    odd = delta(type="aroma", content="x", summary="y")
    output = the_step(start({"type": "model_output"}), delta(type="text", text="a"), odd)
    assert output["content"] == [{"type": "text", "text": "a"}]
    item = {"type": "text", "text": "b"}
    thought = the_step(start({"type": "thought"}), delta(type="thought_summary", content=item), odd)
    assert thought["summary"] == [item]


def test_a_list_outlives_the_string_of_an_unknown_delta_before_it() -> None:
    odd = delta(type="aroma", content="x", summary="y")
    output = the_step(start({"type": "model_output"}), odd, delta(type="text", text="a"))
    assert output["content"] == [{"type": "text", "text": "xa"}]
    item = {"type": "text", "text": "b"}
    thought = the_step(start({"type": "thought"}), odd, delta(type="thought_summary", content=item))
    assert thought["summary"] == [item]


@given(st.text(max_size=20), st.lists(st.integers(0, 20), max_size=5))
def test_text_may_be_cut_anywhere(text: str, cuts: list[int]) -> None:
    pieces = [
        text[left:right]
        for left, right in pairwise([0, *sorted(min(cut, len(text)) for cut in cuts), len(text)])
    ]
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
