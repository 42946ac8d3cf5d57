"""Steps-generation events, as upstream sends them."""

from __future__ import annotations

from typing import Any


def start(step: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"event_type": "step.start", "index": index, "step": step}


def delta(index: int = 0, **members: Any) -> dict[str, Any]:
    return {"event_type": "step.delta", "index": index, "delta": members}


def stop(index: int = 0, **members: Any) -> dict[str, Any]:
    return {"event_type": "step.stop", "index": index, **members}


def completed(**members: Any) -> dict[str, Any]:
    return {"event_type": "interaction.completed", "interaction": members}
