"""Text that comes in tens of thousands of fragments."""

from __future__ import annotations

from typing import Final

#: Fragments that are joined at a time: a string takes some fifty bytes beside its characters.
_AT_A_TIME: Final = 16


class Fragments:
    """Text put together from fragments in linear time, and in hardly more memory than its characters take."""

    __slots__ = ("_joined", "_newest")

    def __init__(self, *beginning: str) -> None:
        self._joined: list[str] = []
        self._newest: list[str] = list(beginning)

    def add(self, fragment: str) -> None:
        """Put a fragment behind the others."""
        self._newest.append(fragment)
        if len(self._newest) >= _AT_A_TIME:
            self._joined.append("".join(self._newest))
            self._newest.clear()

    def text(self) -> str:
        """All of it so far."""
        if self._joined:
            self._joined = ["".join((*self._joined, *self._newest))]
            self._newest.clear()
            return self._joined[0]
        if len(self._newest) != 1:
            self._newest[:] = ["".join(self._newest)]
        return self._newest[0]

    def copy(self) -> Fragments:
        """The same text, to which other fragments can be added."""
        return Fragments(self.text())
