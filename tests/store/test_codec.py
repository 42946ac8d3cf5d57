from __future__ import annotations

import random
import struct
from concurrent.futures import ThreadPoolExecutor

import orjson
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import StoreError
from service.store.codec import DICTIONARY, RAW, ZSTD, Codec

CODEC = Codec()
TYPICAL = orjson.dumps(
    {
        "id": "v1_ChdXMjVaYU1hZEFfN0NxdHNQMThPdzJRWRIXVzI1WmFNYWRBXzdDcXRzUDE4T3cyUVk",
        "object": "interaction",
        "status": "completed",
        "model": "gemini-2.5-flash",
        "created": "2026-11-03T10:14:22Z",
        "updated": "2026-11-03T10:14:24Z",
        "steps": [
            {"type": "thought", "signature": random.Random(7).randbytes(420).hex()},
            {
                "type": "model_output",
                "content": [
                    {
                        "type": "text",
                        "text": "A tide is the rise and fall of the sea, raised by the Moon and the Sun together. "
                        "When the three stand in line the pull adds up and the difference between high and low "
                        "water is greatest; a week later the two work against each other and it is least. "
                        "The shape of a coast decides the rest: a funnel of a bay can make two metres into ten, "
                        "and an almost closed sea hardly knows tides at all. Harbours print the times in tables, "
                        "months ahead, because nothing about the matter is left to chance but the weather.",
                    }
                ],
            },
        ],
        "usage": {
            "total_tokens": 412,
            "total_input_tokens": 9,
            "input_tokens_by_modality": [{"modality": "text", "tokens": 9}],
            "total_cached_tokens": 0,
            "total_output_tokens": 187,
            "output_tokens_by_modality": [{"modality": "text", "tokens": 187}],
            "total_tool_use_tokens": 0,
            "total_thought_tokens": 216,
        },
    }
)


def pack(body: bytes) -> tuple[int, int, bytes]:
    (packed,) = CODEC.pack([body])
    return packed


@given(st.lists(st.binary(max_size=3000), max_size=12))
@settings(deadline=None)
def test_whatever_is_packed_is_unpacked(bodies: list[bytes]) -> None:
    packed = CODEC.pack(bodies)
    assert [CODEC.unpack(*row) for row in packed] == CODEC.unpack_all(packed) == bodies


@pytest.mark.parametrize("size", [0, 1, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 5_000_000])
def test_sizes_around_the_dictionarys_limit_come_back(size: int) -> None:
    body = (TYPICAL * (size // len(TYPICAL) + 1))[:size]
    mixed = [body, TYPICAL, b"", body]
    packed = CODEC.pack(mixed)
    assert [CODEC.unpack(*row) for row in packed] == CODEC.unpack_all(packed) == mixed


def test_small_bodies_use_the_dictionary_and_large_ones_do_not() -> None:
    assert pack(TYPICAL)[0] == DICTIONARY
    assert pack(TYPICAL * 200)[0] == ZSTD


def test_a_typical_body_becomes_much_smaller() -> None:
    _, size, packed = pack(TYPICAL)
    assert 1_900 < size == len(TYPICAL) < 2_100
    assert len(packed) < 0.6 * size
    assert len(packed) < len(zstandard.ZstdCompressor(level=3).compress(TYPICAL))


@pytest.mark.parametrize(
    "body", [b"", b"x", random.Random(1).randbytes(2000), random.Random(2).randbytes(100_000)]
)
def test_what_would_not_shrink_is_kept_as_it_is(body: bytes) -> None:
    assert pack(body) == (RAW, len(body), body)


def test_an_unknown_codec_asks_for_an_upgrade() -> None:
    with pytest.raises(StoreError, match="codec 99, which this version cannot read; upgrade"):
        CODEC.unpack(99, 3, b"abc")


@pytest.mark.parametrize("repeat", [1, 200])
def test_a_body_cut_short_is_an_error(repeat: int) -> None:
    codec, size, packed = pack(TYPICAL * repeat)
    for length in (0, 1, 5, len(packed) // 2, len(packed) - 1):
        with pytest.raises(StoreError, match="damaged"):
            CODEC.unpack(codec, size, packed[:length])


@pytest.mark.parametrize("codec", [ZSTD, DICTIONARY])
def test_bytes_that_were_never_packed_are_an_error(codec: int) -> None:
    for body in (b"", b"{}", b"\0" * 100, random.Random(3).randbytes(500)):
        with pytest.raises(StoreError, match="damaged"):
            CODEC.unpack(codec, 500, body)


def test_a_header_that_claims_an_absurd_size_is_an_error() -> None:
    frame = b"\x28\xb5\x2f\xfd\xe0" + struct.pack("<Q", 2**62) + b"\x01\x00\x00"
    with pytest.raises(StoreError, match="damaged"):
        CODEC.unpack(ZSTD, 100, frame)


def test_a_body_that_is_not_as_long_as_its_row_says_is_an_error() -> None:
    codec, size, packed = pack(TYPICAL)
    for body, wrong in ((packed, size - 1), (packed, size + 1)):
        with pytest.raises(StoreError, match="damaged"):
            CODEC.unpack(codec, wrong, body)
    with pytest.raises(StoreError, match="damaged"):
        CODEC.unpack(RAW, 4, b"abc")


@pytest.mark.parametrize("length", [0, 1, 5, 200, -1])
def test_one_damaged_body_among_many_is_an_error(length: int) -> None:
    codec, size, packed = pack(TYPICAL)
    for damaged in ((codec, size, packed[:length]), (codec, size + 1, packed), (99, size, packed)):
        with pytest.raises(StoreError, match=r"damaged|upgrade"):
            CODEC.unpack_all([pack(b"x"), pack(TYPICAL), damaged, pack(TYPICAL)])


def test_many_threads_pack_at_once() -> None:
    bodies = [TYPICAL, TYPICAL * 2_000]
    expected = CODEC.pack(bodies)
    with ThreadPoolExecutor(4) as threads:
        assert all(packed == expected for packed in threads.map(CODEC.pack, [bodies] * 64))
