"""Errors that upstream's stream has told, until it is known whether the stream goes on behind them.

An ``error`` event that ends a stream is not told when the interaction could be gone on with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from service.interactions.arriving import Arrived

#: In a row; with one more they are taken for a part of the stream.
_MOST: Final = 8


class Withheld:
    """Of one stream at a time."""

    __slots__ = ("_errors",)

    def __init__(self) -> None:
        self._errors: list[Arrived] = []

    def __bool__(self) -> bool:
        return bool(self._errors)

    @property
    def errors(self) -> Sequence[Arrived]:
        """What is withheld, in order."""
        return tuple(self._errors)

    def withhold(self, error: Arrived) -> None:
        """Keep an error back."""
        self._errors.append(error)

    def before(self, following: Arrived, cursor: str | None, *, resumed: bool) -> Sequence[Arrived]:
        """What is to be told before an event, in order, now that it has come; nothing of it is withheld any more.

        That is nothing before another error, and nothing where the stream was ``resumed`` since or could be: an error
        comes once, or with each connection, and the ids behind it would be others' when another reader goes on.
        ``cursor`` is upstream's behind what was told last.
        """
        if not self._errors or (_is_error(following) and not resumed and len(self._errors) < _MOST):
            return ()
        errors, self._errors = self._errors, []
        if resumed or cursor is not None or following.cursor is not None:
            return ()
        return [error for error in errors if error.cursor is None]


def _is_error(arrived: Arrived) -> bool:
    return arrived.body.get("event_type") == "error"
