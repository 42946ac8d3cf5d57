from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from service.interactions.arriving import Arrived
from service.interactions.resent import Resent


def delta(text: str) -> dict[str, Any]:
    return {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": text}}


LOGGED = [delta(text) for text in ("a", "b", "a", "b", "c")]


def told(resent: Resent, *texts: str) -> list[str]:
    """What is told of events with these texts; a full stop is the last event of the log, known by its cursor."""
    new: list[Arrived] = []
    for place, text in enumerate(texts):
        if text == ".":
            resent.known()
        else:
            new += resent.new(Arrived({**delta(text), "event_id": f"u{place}"}))
    return [one.body["delta"]["text"] for one in new]


def test_what_comes_again_is_known_by_what_follows_it() -> None:
    for first in range(len(LOGGED) - 1):
        again = ("a", "b", "a", "b")[first:]
        assert told(Resent(LOGGED), *again, ".", "d", "a") == ["d", "a"]


def test_what_is_only_alike_is_told_in_its_order() -> None:
    assert told(Resent(LOGGED), "d", "a") == ["d", "a"]
    assert told(Resent(LOGGED), "a", "b", "d", "a") == ["a", "b", "d", "a"]
    assert told(Resent(LOGGED), "a", "b", "a", "b", "c", "d") == ["a", "b", "a", "b", "c", "d"]


def test_nothing_is_held_back_where_nothing_was_logged() -> None:
    logs: Sequence[list[dict[str, Any]]] = ([], LOGGED[:1])
    for logged in logs:
        assert told(Resent(logged), "a", "b") == ["a", "b"]


def test_what_was_held_back_when_a_stream_broke_comes_once_more() -> None:
    resent = Resent(LOGGED)
    assert told(resent, "a", "b") == []
    assert resent.again()
    assert told(resent, "a", "b", "d") == ["a", "b", "d"]
    assert not resent.again()


def test_an_index_that_upstream_does_not_tell_is_none_that_differs() -> None:
    for spelled in (None, "0"):
        resent = Resent(LOGGED)
        told_again: list[Arrived] = []
        for text in ("a", "b", "a", "b"):
            event = {name: value for name, value in delta(text).items() if name != "index"}
            told_again += resent.new(Arrived(event if spelled is None else {**event, "index": spelled}))
        assert told_again == []
