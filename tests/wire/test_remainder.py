"""What is missing of a stream that was lost, from the whole: told after what was told, it makes the whole."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.wire.assembler import Assembler
from service.wire.regenerate import events_of
from service.wire.remainder import remainder
from service.wire.steps import made_steps
from tests.wire.events import completed, delta, start, stop
from tests.wire.strategies import interactions

Event = dict[str, Any]
CREATED: Event = {"event_type": "interaction.created", "interaction": {"id": "v1_a", "status": "in_progress"}}


def assembled(*events: Event) -> Assembler:
    assembler = Assembler()
    for event in events:
        assembler.feed(event)
    return assembler


def split_text(event: Event, sizes: list[int]) -> list[Event]:
    """A delta of text or of a signature in fragments, as upstream sends it."""
    told = event.get("delta", {})
    name = {"text": "text", "thought_signature": "signature", "arguments_delta": "arguments"}.get(
        told.get("type")
    )
    text = told.get(name) if name else None
    if not isinstance(text, str) or len(told) != 2:
        return [event]
    pieces: list[Event] = []
    for size in sizes:
        pieces.append({**event, "delta": {**told, name: text[:size]}})
        text = text[size:]
    return [*pieces, {**event, "delta": {**told, name: text}}]


def said(told: Any) -> Any:
    """What steps say, without members that are null or empty: upstream leaves them out of one form or the other."""
    if isinstance(told, list):
        return [said(item) for item in told]
    if isinstance(told, dict):
        return {name: said(value) for name, value in told.items() if value not in (None, "", [], {})}
    return told


@given(interactions, st.lists(st.integers(0, 3), max_size=3), st.data())
def test_after_a_break_anywhere_the_rest_makes_the_whole(
    interaction: Event, sizes: list[int], data: st.DataObject
) -> None:
    whole = {**interaction, "steps": made_steps(interaction)}
    events = [piece for event in events_of(whole) for piece in split_text(event, sizes)]
    told = events[: data.draw(st.integers(0, len(events) - 1))]
    before = deepcopy(whole)
    missing = remainder(assembled(*told), whole)
    assert missing is not None
    together = assembled(*told, *missing)
    assert said(together.steps) == said(whole["steps"])
    assert together.terminal
    assert together.status == whole["status"]
    assert whole == before
    # Every step begins and stops once.
    for kind in ("step.start", "step.stop"):
        indices = [event["index"] for event in (*told, *missing) if event["event_type"] == kind]
        assert indices == sorted(set(indices))
    assert missing[-1]["event_type"] == "interaction.completed"


@given(interactions, st.data())
def test_what_was_told_otherwise_has_no_rest_or_a_true_one(interaction: Event, data: st.DataObject) -> None:
    whole = {**interaction, "steps": made_steps(interaction)}
    other = data.draw(interactions)
    events = list(events_of({**other, "steps": made_steps(other)}))
    told = events[: data.draw(st.integers(0, len(events) - 1))]
    missing = remainder(assembled(*told), whole)
    if missing is not None:
        assert assembled(*told, *missing).terminal
        assert len(assembled(*told, *missing).steps) == len(whole["steps"])


def text_step(text: str) -> Event:
    return {"type": "model_output", "content": [{"type": "text", "text": text}]}


def test_nothing_told_is_nothing_repeated() -> None:
    whole = {"id": "v1_a", "status": "completed", "steps": [text_step("One two")]}
    missing = remainder(assembled(), whole)
    assert missing is not None
    assert [event["event_type"] for event in missing] == [
        "interaction.created",
        "interaction.status_update",
        "step.start",
        "step.delta",
        "step.stop",
        "interaction.completed",
    ]


def test_a_text_goes_on_in_its_step() -> None:
    told = assembled(CREATED, start({"type": "model_output"}), delta(type="text", text="One "))
    whole = {"id": "v1_a", "status": "completed", "steps": [text_step("One two"), text_step("three")]}
    missing = remainder(told, whole)
    assert missing is not None
    assert missing[:2] == [delta(type="text", text="two"), stop()]
    assert [event["event_type"] for event in missing[2:]] == [
        "step.start",
        "step.delta",
        "step.stop",
        "interaction.completed",
    ]
    assert missing[2]["index"] == 1


def test_a_step_that_was_told_whole_is_only_stopped() -> None:
    told = assembled(CREATED, start({"type": "model_output"}), delta(type="text", text="One"))
    missing = remainder(told, {"status": "completed", "steps": [text_step("One")]})
    assert missing is not None
    assert missing[0] == stop()


def test_arguments_and_signatures_go_on_where_they_broke_off() -> None:
    told = assembled(
        CREATED,
        start({"type": "thought"}),
        delta(type="thought_signature", signature="Co"),
        start({"type": "function_call", "id": "c1", "name": "f", "arguments": {}}, 1),
        delta(1, type="arguments_delta", arguments='{ "city": "Bos'),
    )
    steps = [
        {"type": "thought", "signature": "Co4="},
        {"type": "function_call", "id": "c1", "name": "f", "arguments": {"city": "Boston", "n": 1}},
    ]
    missing = remainder(told, {"status": "requires_action", "steps": steps})
    assert missing is not None
    assert missing[0] == delta(type="thought_signature", signature="4=")
    assert missing[2] == delta(1, type="arguments_delta", arguments='ton","n":1}')


def test_text_inside_the_start_counts_as_told() -> None:
    told = assembled(CREATED, start(text_step("One ")))
    missing = remainder(told, {"status": "completed", "steps": [text_step("One two")]})
    assert missing is not None
    assert missing[:2] == [delta(type="text", text="two"), stop()]


def test_an_end_that_was_told_is_not_told_again() -> None:
    told = assembled(CREATED, start(text_step("One")), stop(), completed(status="completed"))
    assert remainder(told, {"status": "completed", "steps": [text_step("One")]}) == []
    assert remainder(told, {"status": "completed", "steps": [text_step("One"), text_step("two")]}) is None


@pytest.mark.parametrize(
    "steps",
    [
        [],
        [text_step("Two")],
        [text_step("On")],
        [{"type": "thought", "signature": "One"}],
    ],
)
def test_a_beginning_that_the_whole_does_not_have_cannot_be_continued(steps: list[Event]) -> None:
    told = assembled(CREATED, start({"type": "model_output"}), delta(type="text", text="One"))
    assert remainder(told, {"status": "completed", "steps": steps}) is None


def test_a_step_that_has_stopped_cannot_be_continued() -> None:
    told = assembled(CREATED, start({"type": "model_output"}), delta(type="text", text="One"), stop())
    assert remainder(told, {"status": "completed", "steps": [text_step("One two")]}) is None


def test_a_failure_with_a_reason_ends_in_that_where_it_is_a_loss() -> None:
    error = {"code": "api_error", "message": "It broke."}
    whole = {"status": "failed", "errors": [error], "steps": []}
    told = {"status": "failed", "errors": [error]}
    assert remainder(assembled(CREATED), whole, lost=True) == [{"event_type": "error", "error": error}]
    assert remainder(assembled(CREATED), whole) == [
        {"event_type": "interaction.completed", "interaction": told}
    ]
