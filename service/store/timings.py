"""The times of a batch of events, as few bytes as they need: milliseconds since the event before, most in one byte.

Each is an unsigned LEB128 number: seven bits a byte, the lowest first, the high bit set where more follow.
"""

from __future__ import annotations

from collections.abc import Sequence


def pack(pauses: Sequence[int]) -> bytes:
    """Milliseconds before each event, none of them negative, as bytes."""
    if max(pauses, default=0) <= 0x7F:
        return bytes(pauses)
    packed = bytearray()
    for pause in pauses:
        while pause > 0x7F:
            packed.append(pause & 0x7F | 0x80)
            pause >>= 7
        packed.append(pause)
    return bytes(packed)


def unpack(packed: bytes) -> list[int]:
    """What :func:`pack` was given."""
    pauses: list[int] = []
    value = shift = 0
    for byte in packed:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            pauses.append(value)
            value = shift = 0
    return pauses
