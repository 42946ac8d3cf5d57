"""A string that cannot be shown by accident."""

from __future__ import annotations

import hmac
from typing import final

#: What stands where a secret was.
REDACTED = "***"


@final
class Secret:
    """Holds a key; `str`, `repr` and formatting show three stars, only `reveal` gives the value.

    Comparison takes the same time wherever two secrets differ.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself."""
        return self._value

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __str__(self) -> str:
        return REDACTED

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))
