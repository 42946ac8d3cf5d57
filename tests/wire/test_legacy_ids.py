"""The ids of legacy events: one for each, the same whenever they are told, good to go on from."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from service.wire import event_ids
from service.wire.legacy_stream import LegacyStream
from service.wire.regenerate import events_of
from tests.wire.events import completed, delta, start, stop
from tests.wire.strategies import interactions

Event = dict[str, Any]


def numbered(interaction: Event) -> list[Event]:
    """The events of an interaction as the log has them."""
    return [{**event, "event_id": event_ids.text(seq)} for seq, event in enumerate(events_of(interaction), 1)]


def translated(events: list[Event]) -> list[Event]:
    stream = LegacyStream(list)
    return [told for event in events for told in stream.feed(event)]


@given(interactions)
def test_every_legacy_event_has_an_id_of_its_own_that_names_its_place(interaction: Event) -> None:
    told = translated(numbered(interaction))
    found = [event_ids.parse(event["event_id"]) for event in told]
    places = [place for place in found if place is not None]
    assert len(places) == len(told)
    # The parts of one event come before its own id: 12.1, 12.2, 12.
    order = [(seq, part or 10**9) for seq, part in places]
    assert order == sorted(set(order))
    assert translated(numbered(interaction)) == told


@given(interactions)
def test_an_event_is_found_by_its_place_among_its_parts(interaction: Event) -> None:
    stream = LegacyStream(list)
    for seq, event in enumerate(numbered(interaction), 1):
        told = stream.feed(event)
        for position, part in enumerate(told, 1):
            place = event_ids.parse(part["event_id"])
            assert place == (seq, 0 if position == len(told) else position)


def test_a_step_that_becomes_several_contents_has_numbered_parts() -> None:
    events = [
        {**start({"type": "model_output"}), "event_id": "evt_2"},
        {**delta(type="text", text="a"), "event_id": "evt_3"},
        {**delta(type="image", data="x"), "event_id": "evt_4"},
        {**stop(), "event_id": "evt_5"},
        {**completed(), "event_id": "evt_6"},
    ]
    assert [(event["event_type"], event["event_id"]) for event in translated(events)] == [
        ("content.start", "evt_3.1"),
        ("content.delta", "evt_3"),
        ("content.stop", "evt_4.1"),
        ("content.start", "evt_4.2"),
        ("content.delta", "evt_4"),
        ("content.stop", "evt_5"),
        ("interaction.complete", "evt_6"),
    ]


def test_an_event_that_passes_through_keeps_its_id_and_is_not_changed() -> None:
    event = {"event_type": "weather.changed", "event_id": "evt_9"}
    assert translated([event]) == [{"event_type": "weather.changed", "event_id": "evt_9"}]


def test_events_without_ids_get_none() -> None:
    told = translated([start({"type": "model_output"}), delta(type="text", text="a"), stop()])
    assert told
    assert not [event for event in told if "event_id" in event]
