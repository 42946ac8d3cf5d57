"""The names of models as callers spell them."""

from __future__ import annotations

from typing import Final

_PREFIXES: Final = ("gemini/", "models/")


def bare_name(name: str) -> str:
    """A model's name without the prefixes that callers put before it."""
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return name
