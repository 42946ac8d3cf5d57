"""The ids this service mints: a 16-byte UUIDv7 in the tables, ``int_`` and lowercase base32 on the wire.

The time is in front, so keys sort in order of creation; the text form is opaque to callers.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from hashlib import blake2b

from uuid_utils import uuid7

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
#: Two characters for every 10-bit value: 13 look-ups write the 130 bits that 26 characters hold.
_PAIRS = tuple(high + low for high in _ALPHABET for low in _ALPHABET)
#: Halves of a key: numbers of up to 64 bits are shifted faster than one of 130.
_HALVES = struct.Struct(">QQ").unpack
#: Python's own base-32 digits in place of RFC 4648's, so that ``int`` does the decoding.
_TO_DIGITS = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")
#: 26 characters are two bits longer than a key; in the canonical form those two are zero.
_CANONICAL = re.compile(r"int_([a-z2-7]{25}[aeimquy4])", re.ASCII)
#: Texts that are kept: each of a stream's first and last events, and its head, tells the same one.
_REMEMBERED = 512


def mint() -> bytes:
    """A new 16-byte UUIDv7 key, strictly greater than every key minted before in this process."""
    return uuid7().bytes


def first_of_now() -> bytes:
    """A key smaller than all that are minted from this millisecond on, by any process of this machine."""
    return uuid7().bytes[:6] + bytes(10)


def derived(milliseconds: int, name: str) -> bytes:
    """The key of what was made elsewhere at that time: a UUIDv7 (RFC 9562 5.7) with a hash of its name for chance."""
    chance = int.from_bytes(blake2b(name.encode(), digest_size=10).digest(), "big")
    high, low = chance >> 62 & 0xFFF, chance & (1 << 62) - 1
    return (milliseconds << 80 | 7 << 76 | high << 64 | 2 << 62 | low).to_bytes(16, "big")


@lru_cache(_REMEMBERED)
def to_text(key: bytes) -> str:
    """The wire form of a 16-byte key: ``int_`` and 26 characters of lowercase base32 (RFC 4648, unpadded)."""
    high, low = _HALVES(key)
    pairs = _PAIRS
    return (
        f"int_{pairs[high >> 54]}{pairs[high >> 44 & 1023]}{pairs[high >> 34 & 1023]}{pairs[high >> 24 & 1023]}"
        f"{pairs[high >> 14 & 1023]}{pairs[high >> 4 & 1023]}{pairs[(high & 15) << 6 | low >> 58]}"
        f"{pairs[low >> 48 & 1023]}{pairs[low >> 38 & 1023]}{pairs[low >> 28 & 1023]}{pairs[low >> 18 & 1023]}"
        f"{pairs[low >> 8 & 1023]}{pairs[low << 2 & 1023]}"
    )


def from_text(text: str) -> bytes | None:
    """The key of a wire id; None for anything but the exact text that ``to_text`` makes."""
    match = _CANONICAL.fullmatch(text)
    if match is None:
        return None
    return (int(match[1].translate(_TO_DIGITS), 32) >> 2).to_bytes(16, "big")


def created_at(key: bytes) -> int:
    """The time a key was minted, in milliseconds since the epoch."""
    return int.from_bytes(key[:6], "big")
