from __future__ import annotations

from itertools import pairwise

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadGateway
from service.wire import codec
from service.wire.sse import DONE, KEEP_ALIVE, Splitter, data_of, event_name, frame

CREATED = (
    b"event: interaction.created\n"
    b'data: {"interaction":{"id":"v1_...","status":"in_progress","object":"interaction",'
    b'"model":"gemini-3-flash-preview"},"event_type":"interaction.created"}'
)
DELTA = (
    b"event: step.delta\n"
    b'data: {"index":1,"delta":{"text":"1, 2, 3, 4, 5, 6, ","type":"text"},"event_type":"step.delta"}'
)

line = st.text(alphabet=st.sampled_from('abc: {}"\u2028\u0085\x0b\x0c'), min_size=1, max_size=12).map(
    str.encode
)
ending = st.sampled_from([b"\n", b"\r\n"])


def cut(raw: bytes, places: list[int]) -> list[bytes]:
    bounds = [0, *sorted(place % (len(raw) + 1) for place in places), len(raw)]
    return [raw[start:stop] for start, stop in pairwise(bounds)]


def split(*chunks: bytes) -> list[bytes]:
    splitter = Splitter()
    return [block for chunk in chunks for block in splitter.feed(chunk)]


def lines_of(block: bytes) -> list[bytes]:
    return [part.removesuffix(b"\r") for part in block.split(b"\n")]


def test_one_block_per_chunk() -> None:
    splitter = Splitter()
    assert splitter.feed(CREATED + b"\n\n") == [CREATED]
    assert splitter.feed(DELTA + b"\n\n") == [DELTA]


def test_several_blocks_in_one_chunk_and_one_block_in_several() -> None:
    assert split(CREATED + b"\n\n" + DELTA + b"\n\n" + DONE) == [CREATED, DELTA, DONE[:-2]]
    assert split(*(bytes([byte]) for byte in CREATED + b"\n\n" + DONE)) == [CREATED, DONE[:-2]]


def test_what_is_not_complete_waits_for_its_rest() -> None:
    splitter = Splitter()
    assert splitter.feed(CREATED + b"\n\n" + DELTA[:30]) == [CREATED]
    assert splitter.feed(DELTA[30:] + b"\n") == []
    assert splitter.feed(b"\n") == [DELTA]


@pytest.mark.parametrize(
    ("chunks", "is_between"),
    [
        ([], False),
        ([b"\xef\xbb"], False),
        ([b"\xef\xbb\xbf"], True),
        ([CREATED + b"\n\n"], True),
        ([CREATED + b"\r\n\r\n"], True),
        ([CREATED + b"\n\n" + DELTA[:30]], False),
        ([CREATED + b"\n\n" + DELTA[:30], DELTA[30:] + b"\n"], False),
        ([CREATED + b"\n\n" + DELTA[:30], DELTA[30:] + b"\n\n"], True),
        ([CREATED + b"\n\n", DELTA + b"\n\n"], True),
        ([CREATED + b"\n\n", DELTA + b"\n\n\n"], False),
    ],
)
def test_a_block_can_begin_where_the_last_one_has_ended(chunks: list[bytes], is_between: bool) -> None:
    splitter = Splitter()
    for chunk in chunks:
        splitter.feed(chunk)
    assert splitter.is_between is is_between


def test_a_json_error_array_after_the_last_block_is_no_block() -> None:
    assert Splitter().feed(DELTA + b'\n\n[{"error":{"code":504}}]') == [DELTA]


def test_blank_lines_between_blocks_are_no_blocks() -> None:
    assert split(b"\n\n\r\n" + CREATED + b"\n\n\n\r\n\n" + DELTA + b"\r\n\r\n\n") == [CREATED, DELTA]
    splitter = Splitter()
    splitter.feed(CREATED + b"\n\n\n")
    assert splitter.feed(DELTA + b"\n\n") == [DELTA]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\r"])
def test_no_other_character_ends_a_line(separator: str) -> None:
    block = f"data: one{separator}two{separator}{separator}three".encode()
    assert split(block + b"\n\n") == [block]
    assert data_of(block) == block.removeprefix(b"data: ")


@given(st.lists(st.lists(line, min_size=1, max_size=4), max_size=6), st.data())
def test_blocks_are_found_however_lines_end_and_chunks_fall(
    blocks: list[list[bytes]], data: st.DataObject
) -> None:
    raw = b"".join(
        b"".join(part + data.draw(ending) for part in block) + data.draw(ending) for block in blocks
    )
    chunks = cut(raw, data.draw(st.lists(st.integers(0, 10_000), max_size=12)))
    assert [lines_of(block) for block in split(*chunks)] == blocks


def test_a_byte_order_mark_before_the_first_line_is_no_part_of_it() -> None:
    mark = "\ufeff".encode()
    raw = mark + CREATED + b"\n\n" + mark + DELTA + b"\n\n"
    assert split(raw) == [CREATED, mark + DELTA]
    assert split(*(bytes([byte]) for byte in raw)) == [CREATED, mark + DELTA]
    assert split(mark[:2] + CREATED + b"\n\n") == [mark[:2] + CREATED]


def test_a_block_that_outgrows_the_bound_is_refused() -> None:
    splitter = Splitter(max_block=1000)
    for _ in range(10):
        assert splitter.feed(b"x" * 100) == []
    with pytest.raises(BadGateway, match="larger than 1000 bytes"):
        splitter.feed(b"x")
    with pytest.raises(BadGateway):
        Splitter(max_block=1000).feed(b"data: " + b"x" * 2000 + b"\n\n")
    with pytest.raises(BadGateway):
        Splitter(max_block=1000).feed(b"data: a\n\ndata: " + b"x" * 2000 + b"\n\ndata: b\n\n")


def test_blocks_within_the_bound_pass_however_many_there_are() -> None:
    block = b"data: " + b"x" * 900
    assert Splitter(max_block=1000).feed((block + b"\n\n") * 50) == [block] * 50


def test_a_large_block_in_small_chunks_is_not_scanned_again_and_again() -> None:
    splitter = Splitter()
    for _ in range(20_000):
        assert splitter.feed(b"x" * 512) == []
    assert [len(block) for block in splitter.feed(b"\n\n")] == [20_000 * 512]


@pytest.mark.parametrize(
    ("block", "data"),
    [
        (b"event: done\ndata: [DONE]", b"[DONE]"),
        (b"event: a\r\ndata: {}\r", b"{}"),
        (b"data:{}", b"{}"),
        (b"data:  {}", b" {}"),
        (b"data: one\ndata: two", b"one\ntwo"),
        (b"data: one\r\nevent: x\r\ndata: two", b"one\ntwo"),
        (b"data", b""),
        (b"data:", b""),
        (b"database: 1", None),
        (b": keep-alive", None),
        (b"event: a", None),
        (b"event: data: x", None),
    ],
)
def test_data_lines_are_joined(block: bytes, data: bytes | None) -> None:
    assert data_of(block) == data


@pytest.mark.parametrize(
    ("block", "name"),
    [
        (CREATED, b"interaction.created"),
        (b"event:done\r\ndata: [DONE]", b"done"),
        (b"event: a\nevent: b", b"b"),
        (b"data: event: x", None),
        (b": event: x", None),
    ],
)
def test_the_event_line_names_the_event(block: bytes, name: bytes | None) -> None:
    assert event_name(block) == name


def test_a_frame_repeats_the_type_and_ends_with_a_blank_line() -> None:
    event = {"event_type": "step.stop", "index": 1, "event_id": "evt_3"}
    assert (
        frame(event) == b'event: step.stop\ndata: {"event_type":"step.stop","index":1,"event_id":"evt_3"}\n\n'
    )


def test_a_frame_reads_back_as_its_event() -> None:
    event = {
        "event_type": "step.delta",
        "delta": {"type": "text", "text": "a\nb\r\n\u2028\u0085c", "n": 2**70},
    }
    [block] = split(frame(event))
    assert event_name(block) == b"step.delta"
    assert codec.loads(data_of(block) or b"") == event


@pytest.mark.parametrize("event_type", [None, "", 5, "a\ndata: forged", "a\rb"])
def test_an_event_without_a_usable_type_has_only_data(event_type: object) -> None:
    event = {"event_type": event_type}
    assert frame(event) == b"data: " + orjson.dumps(event) + b"\n\n"


def test_a_keep_alive_is_a_block_without_data() -> None:
    [block] = split(KEEP_ALIVE)
    assert data_of(block) is None
    assert event_name(block) is None
