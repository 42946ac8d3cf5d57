from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.wire import codec
from service.wire.spans import ListSpan, list_span
from tests.wire.test_codec import json_values

lists = st.lists(json_values, min_size=1, max_size=5)
members = st.dictionaries(st.text(max_size=5).filter(lambda name: name != "input"), json_values, max_size=3)
spacings = st.sampled_from([(",", ":"), (", ", ": "), (" ,\n\t", "\r\n: ")])


def elements(raw: bytes, span: ListSpan) -> list[bytes]:
    """The bytes of each element; what lies between two is a comma with blanks."""
    found: list[bytes] = []
    start = span.start
    for end in span.ends:
        found.append(raw[start:end])
        rest = raw[end:].lstrip(b" \t\r\n")
        start = len(raw) - len(rest[1:].lstrip(b" \t\r\n"))
        assert rest[:1] == (b"]" if end == span.ends[-1] else b",")
    return found


@given(members, lists, members, spacings, st.booleans(), st.none() | st.integers(0, 3))
def test_every_element_is_found_where_it_lies(
    before: dict[str, Any],
    items: list[Any],
    after: dict[str, Any],
    spacing: tuple[str, str],
    escaped: bool,
    indent: int | None,
) -> None:
    body = {**before, "input": items, **after}
    raw = json.dumps(body, ensure_ascii=escaped, separators=spacing, indent=indent).encode()
    span = list_span(raw, "input")
    assert span is not None
    assert [json.loads(element) for element in elements(raw, span)] == codec.loads(raw)["input"]


@given(st.binary(max_size=60) | json_values.map(codec.dumps) | members.map(codec.dumps))
def test_anything_else_has_no_span(raw: bytes) -> None:
    assert list_span(raw, "input") is None


@given(members, lists, st.data())
def test_a_body_that_is_cut_off_never_raises(
    before: dict[str, Any], items: list[Any], data: st.DataObject
) -> None:
    raw = codec.dumps({**before, "input": items})
    cut = data.draw(st.integers(0, len(raw) - 1))
    found, whole = list_span(raw[:cut], "input"), list_span(raw, "input")
    assert found is None or found == whole


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[1,2]",
        b"{}",
        b'{"model":"m"}',
        b'{"input":"text"}',
        b'{"input":{"input":[1]}}',
        b'{"input":[]}',
        b'{"input":[ ]}',
        b'{"input":[1,]}',
        b'{"input":[1',
        b'{"other":{"input":[1]}}',
        b'{"input" [1]}',
        b'{"input":[1 2]}',
        b'{"input":' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"input":[' + b"9" * 10_000 + b"]}",
        b'{"input":[' + b",".join([b"0"] * 10_001) + b"]}",
    ],
)
def test_what_is_unusual_has_no_span(raw: bytes) -> None:
    assert list_span(raw, "input") is None


def test_of_two_members_the_first_is_taken() -> None:
    raw = b'{"input":[1,22],"input":[333]}'
    assert list_span(raw, "input") == ListSpan(10, (11, 14))


def test_places_are_of_bytes_and_not_of_characters() -> None:
    raw = '{"ü€":"\\u0085😀","input":["ä", "\\"]"]}'.encode()
    span = list_span(raw, "input")
    assert span is not None
    assert elements(raw, span) == ['"ä"'.encode(), b'"\\"]"']


def test_an_escaped_name_is_the_same_name() -> None:
    assert list_span(b'{"\\u0069nput":[1]}', "input") == ListSpan(15, (16,))
