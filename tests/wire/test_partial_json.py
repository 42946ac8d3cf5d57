"""A JSON text that broke off is completed to say a value, however it was spelt."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.wire import codec
from service.wire.partial_json import completion
from tests.wire.strategies import objects

#: Spellings of one value: blanks, escapes.
spellings = st.fixed_dictionaries(
    {
        "ensure_ascii": st.booleans(),
        "separators": st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", "\t: ")]),
        "indent": st.sampled_from([None, 1]),
    }
)


@given(objects, spellings, st.data())
def test_a_text_that_breaks_off_anywhere_is_completed(
    value: dict[str, Any], spelling: dict[str, Any], data: st.DataObject
) -> None:
    text = json.dumps(value, **spelling)
    beginning = text[: data.draw(st.integers(0, len(text)))]
    rest = completion(beginning, value)
    assert rest is not None
    assert codec.loads((beginning + rest).encode()) == value


@given(objects, st.permutations(range(3)), st.data())
def test_members_may_come_in_any_order(value: dict[str, Any], order: list[int], data: st.DataObject) -> None:
    items = list(value.items())
    told = dict(items[place] for place in order if place < len(items))
    text = json.dumps(told)
    beginning = text[: data.draw(st.integers(0, len(text)))]
    rest = completion(beginning, value)
    assert rest is not None
    assert codec.loads((beginning + rest).encode()) == value


@given(objects, objects, st.data())
def test_no_continuation_is_offered_that_says_something_else(
    told: dict[str, Any], value: dict[str, Any], data: st.DataObject
) -> None:
    text = json.dumps(told)
    beginning = text[: data.draw(st.integers(0, len(text)))]
    rest = completion(beginning, value)
    if rest is not None:
        assert codec.loads((beginning + rest).encode()) == value
    else:
        # To Python true is 1.
        assert json.dumps(told, sort_keys=True) != json.dumps(value, sort_keys=True)


@given(objects, st.text(min_size=1, max_size=5))
def test_nothing_can_follow_a_whole_text_but_blanks(value: dict[str, Any], more: str) -> None:
    text = json.dumps(value)
    assert completion(text, value) == ""
    if more.strip(" \t\r\n"):
        assert completion(text + more, value) is None


@given(st.text(max_size=20), objects)
def test_what_is_no_beginning_of_json_is_refused_and_not_an_error(text: str, value: dict[str, Any]) -> None:
    rest = completion(text, value)
    if rest is not None:
        assert json.loads(text + rest) == value


@pytest.mark.parametrize(
    ("beginning", "value", "rest"),
    [
        ("", {"a": 1}, '{"a":1}'),
        ('{"a":"one', {"a": "one two"}, ' two"}'),
        ('{"a":1', {"a": 12}, "2}"),
        ('{"a":tr', {"a": True}, "ue}"),
        ('{"a":"\\u00e', {"a": "é"}, '9"}'),
        ('{"a":"\\', {"a": "\n"}, 'u000a"}'),
        ('{"a":"\\ud83d', {"a": "😀"}, '\\ude00"}'),
        ('{"a"', {"a": 1, "b": 2}, ':1,"b":2}'),
        ('{"a":1,', {"a": 1, "b": [2]}, '"b":[2]}'),
        ('{"a":[1', {"a": [1, 2]}, ",2]}"),
    ],
)
def test_the_rest_is_the_shortest_way_on(beginning: str, value: Any, rest: str) -> None:
    assert completion(beginning, value) == rest


@pytest.mark.parametrize(
    ("beginning", "value"),
    [
        ('{"a":2', {"a": 1}),
        ('{"a":true', {"a": 1}),
        ('{"a":1', {"a": True}),
        ('{"b', {"a": 1}),
        ("[", {"a": 1}),
        ('{"a":"x', {"a": "y"}),
        ('{"a":1,"a', {"a": 1}),
        ("{,", {"a": 1}),
    ],
)
def test_a_beginning_of_something_else_has_no_rest(beginning: str, value: Any) -> None:
    assert completion(beginning, value) is None


def test_what_is_nested_too_deeply_is_given_up() -> None:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    assert completion("[" * 50_000, value) is None
