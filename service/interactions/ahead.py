"""Work that is done while its own task waits for somebody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

_Made = TypeVar("_Made")


class Ahead(Generic[_Made]):
    """Makes something as soon as the task that wants it waits, and at the latest when that asks for it.

    What is made must need no undoing: nobody may ask for it.
    """

    __slots__ = ("_handle", "_made", "_make")

    def __init__(self, make: Callable[[], _Made]) -> None:
        self._make = make
        self._made: _Made | None = None
        self._handle = asyncio.get_running_loop().call_soon(self._now)

    def made(self) -> _Made:
        """It; raises what the making raises."""
        self._handle.cancel()
        return self._now() if self._made is None else self._made

    def _now(self) -> _Made:
        self._made = self._make()
        return self._made
