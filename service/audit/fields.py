"""What interactions can be found by: one :class:`Field` for each member of a summary that can be asked for.

A field is named as the member that it looks at. Where a member is a number, ``min_NAME`` and ``max_NAME`` bound it as
well. Costs are asked for in dollars and durations in seconds, and stand in the tables as billionths of a dollar and
microseconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from sqlalchemy import ColumnElement, func

from service.store.tables import interactions

Kind = Literal["text", "number", "flag", "reference", "project", "key"]

_TOKENS = "input_tokens output_tokens thought_tokens cached_tokens tool_use_tokens total_tokens"


@dataclass(frozen=True, slots=True)
class Field:
    """A member that can be asked for; ``scale`` turns what is asked for into what the tables hold."""

    name: str
    kind: Kind
    column: ColumnElement[Any]
    scale: int = 1
    #: What the member is, for people.
    meaning: str = ""


def _fields() -> dict[str, Field]:
    columns = interactions.c
    texts = {
        "status": "Status of the interaction.",
        "model_requested": "Model as the caller named it.",
        "deployment": "Id of the deployment that served it.",
        "agent": "Agent that was asked.",
        "error_code": "Code of the error that it ended with.",
        "service_tier": "Service tier that upstream served it in.",
    }
    renamed = {"deployment": "deployment_id"}
    found = [
        Field(name, "text", columns[renamed.get(name, name)], 1, meaning) for name, meaning in texts.items()
    ]
    model = func.coalesce(columns.model, columns.model_requested)
    found.append(Field("model", "text", model, 1, "Model that served it, or else the one requested."))
    found += [
        Field("stream", "flag", columns.stream, 1, "Whether it was streamed."),
        Field("background", "flag", columns.background, 1, "Whether it ran in the background."),
        Field("store", "flag", columns.store, 1, "Whether the caller wanted it stored."),
        Field("previous_interaction_id", "reference", columns.previous_id, 1, "The interaction it follows."),
        Field("replay_of", "reference", columns.replay_of, 1, "The interaction it replays, or 'any'."),
        Field("chain", "reference", columns.root_id, 1, "Any interaction of the conversation."),
        Field("project", "project", columns.project_id, 1, "Name or id of the project."),
        Field("key_id", "key", columns.key_id, 1, "Id or name of the key that asked."),
    ]
    found += [
        Field(name, "number", columns[name], 1, f"Number of {name.replace('_', ' ')}.")
        for name in _TOKENS.split()
    ]
    found += [
        Field("http_status", "number", columns.http_status, 1, "HTTP status of upstream's answer, or ours."),
        Field("request_bytes", "number", columns.request_bytes, 1, "Bytes of the request."),
        Field("response_bytes", "number", columns.response_bytes, 1, "Bytes of the answer."),
        Field("depth", "number", columns.depth, 1, "Number of interactions before it in its conversation."),
        Field("cost", "number", columns.cost_nanos, 1_000_000_000, "Cost in dollars."),
        Field(
            "duration",
            "number",
            columns.completed_at - columns.created_at,
            1_000_000,
            "Seconds from the request to the outcome.",
        ),
        Field(
            "first_event",
            "number",
            columns.first_byte_at - columns.created_at,
            1_000_000,
            "Seconds from the request to the first event or byte of the answer.",
        ),
    ]
    return {field.name: field for field in found}


FIELDS: Final[Mapping[str, Field]] = MappingProxyType(_fields())
#: Beside the fields: what bounds the time, searches, and says which deleted ones are meant.
OTHERS: Final = ("from", "to", "q", "deleted")
#: How a label is asked for: ``label:team=search`` or ``label.team=search``.
LABEL_PREFIXES: Final = ("label:", "label.")


def names() -> tuple[str, ...]:
    """Every name that a filter can have, but for labels."""
    numbers = [field.name for field in FIELDS.values() if field.kind == "number"]
    bounds = [f"{bound}_{name}" for name in numbers for bound in ("min", "max")]
    return (*FIELDS, *bounds, *OTHERS)
