"""What an assembler says of a stream that is not over: which steps have begun, which are open, how they would go on."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service.wire.assembler import Assembler
from service.wire.regenerate import events_of
from service.wire.steps import made_steps
from tests.wire.events import delta, start, stop
from tests.wire.strategies import interactions

Event = dict[str, Any]
CREATED: Event = {"event_type": "interaction.created", "interaction": {"status": "in_progress"}}


def assembled(*events: Event) -> Assembler:
    assembler = Assembler()
    for event in events:
        assembler.feed(event)
    return assembler


def test_it_has_begun_with_the_first_event_of_an_interaction() -> None:
    assert not assembled().begun
    assert not assembled(start({"type": "thought"})).begun
    assert assembled(CREATED).begun


def test_a_step_is_open_until_it_stops() -> None:
    told = assembled(CREATED, start({"type": "thought"}), start({"type": "model_output"}, 1), stop())
    assert told.indices == [0, 1]
    assert [told.is_open(index) for index in (0, 1, 2)] == [False, True, False]


def test_a_stop_without_an_index_stops_the_latest_step() -> None:
    told = assembled(
        start({"type": "thought"}), start({"type": "model_output"}, 1), {"event_type": "step.stop"}
    )
    assert [told.is_open(index) for index in (0, 1)] == [True, False]


def test_a_step_that_begins_with_a_delta_is_open_too() -> None:
    told = assembled(delta(4, type="text", text="a"))
    assert told.indices == [4]
    assert told.is_open(4)


def test_a_stream_that_begins_anew_has_no_steps() -> None:
    told = assembled(CREATED, start({"type": "thought"}), CREATED)
    assert told.indices == []
    assert not told.is_open(0)


def test_the_fragments_of_arguments_are_kept_as_text() -> None:
    told = assembled(
        start({"type": "function_call", "arguments": {}}),
        delta(type="arguments_delta", arguments='{"a'),
        delta(type="arguments_delta", arguments='": 1'),
    )
    assert told.arguments_text(0) == '{"a": 1'
    assert told.arguments_text(1) == ""


@given(interactions, st.data())
def test_how_a_step_would_go_on_is_told_without_going_on(interaction: Event, data: st.DataObject) -> None:
    events = list(events_of({**interaction, "steps": made_steps(interaction)}))
    cut = data.draw(st.integers(0, len(events)))
    told = assembled(*events[:cut])
    before = told.steps
    for index in told.indices:
        deltas = [
            event["delta"]
            for event in events[cut:]
            if event["event_type"] == "step.delta" and event["index"] == index
        ]
        assert told.continued(index, deltas) == assembled(*events).step(index)
        assert told.continued(index, []) == told.step(index)
    assert told.steps == before
    assert told.continued(99, []) is None
