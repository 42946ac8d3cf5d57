from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.wire import codec

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(json_values)
def test_every_value_survives_being_written_and_read(value: Any) -> None:
    assert codec.loads(codec.dumps(value)) == value


@pytest.mark.parametrize(
    "number", [2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 123456789012345678901234567890]
)
def test_integers_of_any_size_stay_integers(number: int) -> None:
    raw = b'{"deep":[{"n":%d,"f":0.5}]}' % number
    value = codec.loads(raw)["deep"][0]["n"]
    assert type(value) is int
    assert value == number
    assert codec.dumps(codec.loads(raw)) == raw


def test_large_floats_stay_floats() -> None:
    assert codec.loads(b"[1e30,-1e300]") == [1e30, -1e300]
    assert type(codec.loads(b"[1e30]")[0]) is float


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"{'a':1}",
        b"[NaN]",
        b"[Infinity]",
        b"[1e999]",
        b'"\\ud800"',
        b'"\xff"',
        b"\xef\xbb\xbf{}",
        b"[1,]",
        b"[" * 5000 + b"]" * 5000,
        b"[99999999999999999999,NaN]",
    ],
)
def test_what_is_not_strict_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Invalid JSON payload"):
        codec.loads(raw)


def test_text_is_written_as_utf_8_also_beside_a_huge_integer() -> None:
    value = {"text": "Grüße\u2028", "n": 2**70}
    assert codec.dumps(value) == json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def test_documents_deeper_than_the_fast_writer_can_write_are_written() -> None:
    raw = b"[" * 600 + b"]" * 600
    assert codec.dumps(codec.loads(raw)) == raw


def test_a_value_too_deep_to_write_is_refused() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        codec.dumps(value)
    while value:
        value = value.pop()
