"""Text that comes in tens of thousands of fragments."""

from __future__ import annotations

from typing import Final

#: Fragments that are joined at a time: a string takes some fifty bytes beside its characters.
_AT_A_TIME: Final = 16


class Fragments:
    """Text put together from fragments in linear time, in hardly more memory than its characters take.

    It is true when there has been any fragment, be it an empty one.
    """

    __slots__ = ("_joined", "_parts")

    def __init__(self, *beginning: str) -> None:
        self._parts = list(beginning)
        #: How many parts are made of others.
        self._joined = 0

    def __bool__(self) -> bool:
        return bool(self._parts)

    def add(self, fragment: str) -> None:
        """Put a fragment behind the others."""
        self._parts.append(fragment)
        if len(self._parts) - self._joined >= _AT_A_TIME:
            self._join(self._joined)

    def text(self) -> str:
        """All of it so far."""
        if len(self._parts) > 1:
            self._join(0)
        return self._parts[0] if self._parts else ""

    def copy(self) -> Fragments:
        """The same text, to which other fragments can be added."""
        return Fragments(self.text()) if self else Fragments()

    def _join(self, first: int) -> None:
        self._parts[first:] = ["".join(self._parts[first:])]
        self._joined = first + 1
