"""What upstream says went wrong, in an ``error`` event or in the ``errors`` of an interaction (contract 3.3, 4.8)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

#: Makes of upstream's words what a caller may read.
Tell = Callable[[str], str]


def retold(error: Any, tell: Tell) -> Any:
    """The diagnostic with another message; one that has none as it is."""
    if isinstance(error, dict) and isinstance(message := error.get("message"), str):
        return {**error, "message": tell(message)}
    return error


def with_errors_retold(interaction: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """The interaction with other messages in its ``errors``; itself where nothing changes."""
    errors = interaction.get("errors")
    if not isinstance(errors, list):
        return interaction
    told = [retold(error, tell) for error in errors]
    return interaction if told == errors else {**interaction, "errors": told}
