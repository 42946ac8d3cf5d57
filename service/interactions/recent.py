"""The newest cursors of one stream, so that what upstream sends again is not told twice (contract 4.6)."""

from __future__ import annotations

from typing import Final

#: Cursors that are remembered: upstream repeats the few around the place where a stream was taken up.
_REMEMBERED: Final = 512
_BYTES: Final = 8


class Recent:
    """Remembers 64 bits of each, so whatever their length they take four kilobytes at the most."""

    __slots__ = ("_hashes", "_next")

    def __init__(self) -> None:
        self._hashes = bytearray()
        self._next = 0

    @classmethod
    def of(cls, cursor: str | None) -> Recent:
        """Remembers this one, if there is one."""
        recent = cls()
        if cursor is not None:
            recent.is_new(cursor)
        return recent

    def is_new(self, cursor: str) -> bool:
        """Whether a cursor is none of the newest; it is one of them from then on."""
        own = hash(cursor).to_bytes(_BYTES, "little", signed=True)
        place = self._hashes.find(own)
        while place % _BYTES and place >= 0:
            place = self._hashes.find(own, place + 1)
        if place >= 0:
            return False
        self._hashes[self._next : self._next + _BYTES] = own
        self._next = (self._next + _BYTES) % (_REMEMBERED * _BYTES)
        return True
