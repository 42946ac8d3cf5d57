"""What upstream sends: which deltas are told as they came."""

from __future__ import annotations

import pytest

from service.interactions.arriving import arrived_as, plain_delta

DELTA = (
    b'event: step.delta\ndata: {"index":0,"delta":{"text":"%b","type":"text"},"event_type":"step.delta"}\n\n'
)


@pytest.mark.parametrize(
    "text",
    [b"Well", b"", "\u2028\x85\u00fc".encode(), b'\\"event_id\\"', b'\\"interaction\\": 1', b"\\n\\n}"],
)
def test_a_delta_without_ids_is_told_as_it_came_whatever_its_text(text: bytes) -> None:
    event = DELTA % text
    arrived = arrived_as(event.removesuffix(b"\n\n"))
    assert arrived is not None
    assert plain_delta(event) == arrived.body
    assert arrived.data is not None
    assert arrived.cursor is None


@pytest.mark.parametrize(
    "event",
    [
        DELTA.replace(b'"index"', b'"event_id":"u1","index"'),
        DELTA.replace(b'"index"', b'"event\\u005fid":"u1","index"'),
        DELTA.replace(b'"index"', b'"interaction_id":"v1_a","index"'),
        DELTA.replace(b'"index"', b'"interaction":{"id":"v1_a"},"index"'),
        DELTA.replace(b"step.delta", b"step.start"),
        DELTA.replace(b'"event_type":"step.delta"', b'"event_type":"step.start"'),
        DELTA.replace(b"\n", b"\r\n"),
        DELTA.replace(b',"event_type"', b',\r"event_type"'),
        DELTA.replace(b'"index":0,', b'"index":0,\ndata: '),
        DELTA.replace(b"}\n\n", b"} \n\n"),
        DELTA.replace(b'"type":"text"}', b'"type":"text"'),
        DELTA % b"\xff",
        DELTA % b"\\ud800",
        DELTA.removesuffix(b"\n"),
        DELTA + b"\n",
        DELTA + DELTA,
        b": keep-alive\n\n",
    ],
)
def test_anything_else_is_looked_at_more_closely(event: bytes) -> None:
    assert plain_delta(event) is None
