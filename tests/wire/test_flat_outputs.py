"""Flat outputs beside steps: what is said comes once, what is not said is not lost."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given

from service.wire.assembler import Assembler
from service.wire.flat_outputs import among, unsaid
from service.wire.legacy import steps_to_outputs
from service.wire.legacy_stream import LegacyStream
from service.wire.regenerate import events_of, last_event, step_events
from service.wire.steps import made_steps
from tests.wire.events import completed, delta, start, stop
from tests.wire.strategies import interactions

Item = dict[str, Any]
THOUGHT: Item = {"type": "thought", "signature": "Sa"}
AUDIO: Item = {"type": "audio", "mime_type": "audio/mpeg", "data": "YWJjZA=="}
CALL: Item = {"type": "function_call", "id": "1", "name": "look", "arguments": {"at": "this"}}


def text(words: str) -> Item:
    return {"type": "text", "text": words}


def says(*content: Item) -> Item:
    return {"type": "model_output", "content": list(content)}


def fed(*events: Item) -> Assembler:
    assembler = Assembler()
    for event in events:
        assembler.feed(event)
    return assembler


def test_outputs_without_any_step_become_steps() -> None:
    outputs = [THOUGHT, text("La"), AUDIO, CALL]
    told = fed(completed(status="completed", outputs=outputs))
    assert told.result() == {
        "status": "completed",
        "outputs": outputs,
        "steps": [THOUGHT, says(text("La"), AUDIO), CALL],
    }
    assert told.untold == told.steps


def test_what_only_the_outputs_say_is_behind_the_steps() -> None:
    told = fed(
        start({"type": "thought"}),
        delta(type="thought_signature", signature="Sa"),
        stop(),
        completed(status="completed", outputs=[AUDIO]),
    )
    assert told.steps == [THOUGHT, says(AUDIO)]
    assert told.untold == [says(AUDIO)]


@pytest.mark.parametrize(
    "outputs",
    [
        [text("La la"), AUDIO],
        [text("La"), text(" la"), AUDIO],
        [text(" la"), AUDIO],
        [AUDIO],
        [THOUGHT, text("La la"), AUDIO, CALL],
        [{"type": "thought"}, {**CALL, "signature": "late"}],
        [text("La la"), {**AUDIO, "sample_rate": 44100}],
        [text(""), text("La la")],
        [],
        None,
        "La la",
        [None, 3, ["La la"]],
    ],
)
def test_what_the_steps_say_is_not_doubled(outputs: Any) -> None:
    steps = [THOUGHT, says(text("La"), text(" la")), says(AUDIO), CALL]
    assert unsaid(outputs, steps) == []


@pytest.mark.parametrize(
    ("outputs", "rest"),
    [
        ([text("La la"), AUDIO], [says(AUDIO)]),
        (["La la", AUDIO], [says(AUDIO)]),
        ([{**THOUGHT, "signature": "Sb"}, CALL], [CALL]),
        (
            [{"type": "audio", "uri": "files/1", "data": ""}],
            [says({"type": "audio", "uri": "files/1", "data": ""})],
        ),
        ([text("La la"), {"type": "new", "of": 1}], [{"type": "new", "of": 1}]),
        ([says(text("La la"), AUDIO)], [says(AUDIO)]),
    ],
)
def test_what_they_say_nothing_of_is_left(outputs: Any, rest: list[Item]) -> None:
    steps = [THOUGHT, says(text("La la"))]
    assert unsaid(outputs, steps) == rest
    assert unsaid(outputs, [*steps, *rest]) == []


def test_a_text_that_has_not_said_anything_yet_is_no_answer() -> None:
    assert unsaid([text("La")], [says(text("")), says()]) == [says(text("La"))]


@pytest.mark.parametrize(
    "output", [text(" La\n"), text("La la lu"), {**text("La"), "annotations": [{"start": 0}]}]
)
def test_what_is_said_in_other_words_does_not_come_twice(output: Item) -> None:
    assert unsaid([output], [says(text("La"))]) == []


@pytest.mark.parametrize(
    ("told", "whole"),
    [
        ([], [says(text("La")), says(AUDIO)]),
        ([THOUGHT], [THOUGHT, says(text("La")), says(AUDIO)]),
        ([THOUGHT, says(text("L"))], [THOUGHT, says(text("La")), says(AUDIO)]),
        ([says(text("L")), THOUGHT], [says(text("La")), THOUGHT, says(AUDIO)]),
        ([THOUGHT, says(text("La")), says(AUDIO), CALL], [THOUGHT, says(text("La")), says(AUDIO), CALL]),
    ],
)
def test_a_flat_answer_has_its_place_among_what_was_told(told: list[Item], whole: list[Item]) -> None:
    assert among(told, [says(text("La")), says(AUDIO)]) == whole


def test_steps_of_the_last_event_are_told_of_by_no_event_either() -> None:
    asked = {"type": "user_input", "content": [text("Sing")]}
    told = fed(completed(status="completed", steps=[asked, says(text("La"))], outputs=[text("La"), AUDIO]))
    assert told.untold == [says(text("La")), says(AUDIO)]


def test_steps_that_are_none_are_no_failure() -> None:
    told = fed(completed(status="completed", steps=[None, "La"], outputs=[text("La")]))
    assert told.untold == [says(text("La"))]
    assert told.steps[-1] == says(text("La"))


def test_a_legacy_listener_finds_told_outputs_in_content_events() -> None:
    reader = Assembler()
    stream = LegacyStream(lambda: reader.steps)
    ended = completed(status="completed", outputs=[text("La"), AUDIO])
    told: list[Item] = []
    for event in (*step_events(0, says(text("La"), AUDIO)), ended):
        reader.feed(event)
        told += stream.feed(event)
    assert [event["delta"] for event in told if event["event_type"] == "content.delta"] == [text("La"), AUDIO]
    assert told[-1]["interaction"]["outputs"] == [text("La"), AUDIO]


@given(interactions)
def test_repeated_outputs_change_nothing(interaction: Item) -> None:
    made = made_steps(interaction)
    outputs = deepcopy(steps_to_outputs(made))
    told = list(events_of({**interaction, "status": "completed"}))
    plain = fed(*told)
    repeated = fed(*told[:-1], last_event({**interaction, "status": "completed", "outputs": outputs}))
    assert repeated.steps == plain.steps
    assert repeated.untold == []


@given(interactions)
def test_telling_what_was_untold_tells_it_once(interaction: Item) -> None:
    outputs = steps_to_outputs(made_steps(interaction))
    told = fed(completed(status="completed", outputs=outputs))
    steps = told.steps
    for index, step in enumerate(told.untold):
        for event in step_events(index, step):
            told.feed(event)
    assert told.steps == steps
    assert told.untold == []
