"""The ids of events: each names one place of one stream, and getting one changes nothing else."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.wire import codec, event_ids, sse
from tests.wire.strategies import values

seqs = st.integers(1, 2**53)
#: Events as upstream may send them, with members that are in the way.
events: st.SearchStrategy[dict[str, Any]] = st.builds(
    lambda members, kind: {**members, "event_type": kind},
    st.dictionaries(st.text(max_size=6) | st.just("event_id"), values, max_size=4),
    st.sampled_from(["step.delta", "interaction.created", "weather.changed", "a b", "é"]),
)


def read(block: bytes) -> dict[str, Any]:
    body: dict[str, Any] = codec.loads(sse.data_of(block) or b"")
    return body


@given(seqs, st.integers(1, 999_999_999))
def test_an_id_is_read_back(seq: int, n: int) -> None:
    assert event_ids.parse(event_ids.text(seq)) == (seq, 0)
    assert event_ids.parse(event_ids.part(seq, n)) == (seq, n)


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "evt_",
        "evt_0",
        "evt_01",
        "evt_-1",
        "evt_1.",
        "evt_1.0",
        "evt_1.2.3",
        "evt_1 ",
        "evt_1\n",
        " evt_1",
        "EVT_1",
        "evt_١",
        "evt_1234567890123456789",
        "replay_1",
        "evt_1.1234567890",
    ],
)
def test_what_no_event_can_have_is_no_id(cursor: str) -> None:
    assert event_ids.parse(cursor) is None


@given(events, seqs)
def test_an_event_gets_its_id_and_nothing_else_changes(event: dict[str, Any], seq: int) -> None:
    block = event_ids.with_event_id(codec.dumps(event), event, event_ids.text(seq))
    assert read(block) == {**event, "event_id": event_ids.text(seq)}
    assert block.endswith(b"\n\n")
    assert block.count(b"\n") == 3
    assert sse.event_name(block) == event["event_type"].encode()
    # No `id:` line: an SDK crashes on comments behind one.
    assert not [line for line in block.split(b"\n") if line.startswith(b"id")]


@given(events, st.sampled_from([b"", b" ", b"\r", b"\t \n"]))
def test_blanks_behind_an_event_are_no_part_of_it(event: dict[str, Any], blanks: bytes) -> None:
    block = event_ids.with_event_id(codec.dumps(event) + blanks, event, "evt_7")
    assert read(block) == {**event, "event_id": "evt_7"}


def test_an_event_keeps_the_bytes_it_came_in() -> None:
    data = b'{ "event_type" : "step.delta", "n": 1.50, "text": "a\xe2\x80\xa8b\xc2\x85\\u00e9" }'
    block = event_ids.with_event_id(data, orjson.loads(data), "evt_3")
    assert block == b'event: step.delta\ndata: %b,"event_id":"evt_3"}\n\n' % data[:-1]


@pytest.mark.parametrize(
    "data",
    [
        b'{"event_type":"step.stop",\n"index":0}',
        b'{"event_type":"step.stop",\r"index":0}',
        b'{"event_type":"step.stop","index":0,"event_id":"upstreams-own"}',
    ],
)
def test_an_event_of_several_lines_or_with_an_id_is_written_anew(data: bytes) -> None:
    block = event_ids.with_event_id(data, orjson.loads(data), "evt_3")
    assert read(block) == {"event_type": "step.stop", "index": 0, "event_id": "evt_3"}
    assert block.count(b"\n") == 3


@pytest.mark.parametrize("kind", ["", "a\nb", "a\rb", 5, None])
def test_a_type_that_is_no_line_is_told_in_the_json_alone(kind: Any) -> None:
    event = {"event_type": kind, "index": 0}
    block = event_ids.with_event_id(codec.dumps(event), event, "evt_3")
    assert read(block) == {**event, "event_id": "evt_3"}
    assert sse.event_name(block) is None
