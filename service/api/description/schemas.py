"""The schemas of what is sent and answered; of an interaction, which is Google's, only what this service acts on."""

from __future__ import annotations

from typing import Any, Final

from service.api.description.parts import (
    BOOLEAN,
    INTEGER,
    NUMBER,
    OBJECT,
    STRING,
    TIME,
    Json,
    array,
    mapping,
    nullable,
    ref,
    shape,
)
from service.audit.summaries import TOKENS

_COUNT: Final[Json] = {"type": "integer"}

_ERROR: Final = shape({"error": shape({"code": STRING, "message": STRING})})

_CREATE: Final[Json] = {
    **shape(
        {
            "model": STRING,
            "agent": STRING,
            "input": {"anyOf": [STRING, OBJECT, array(OBJECT)]},
            "previous_interaction_id": STRING,
            "system_instruction": STRING,
            "tools": array(OBJECT),
            "generation_config": OBJECT,
            "response_format": {"anyOf": [OBJECT, array(OBJECT)]},
            "stream": BOOLEAN,
            "store": BOOLEAN,
            "background": BOOLEAN,
            "service_tier": STRING,
            "labels": mapping(STRING),
            "continuation_token": STRING,
        },
        optional=[
            "model",
            "agent",
            "input",
            "previous_interaction_id",
            "system_instruction",
            "tools",
            "generation_config",
            "response_format",
            "stream",
            "store",
            "background",
            "service_tier",
            "labels",
            "continuation_token",
        ],
        closed=False,
    ),
    "description": "Exactly one of model and agent. Members that are not named here travel to Google untouched.",
}

_INTERACTION: Final = shape(
    {
        "id": STRING,
        "object": STRING,
        "status": STRING,
        "model": STRING,
        "agent": STRING,
        "created": STRING,
        "updated": STRING,
        "previous_interaction_id": STRING,
        "steps": array(OBJECT),
        "outputs": array(OBJECT),
        "usage": OBJECT,
    },
    optional=[
        "object",
        "status",
        "model",
        "agent",
        "created",
        "updated",
        "previous_interaction_id",
        "steps",
        "outputs",
        "usage",
    ],
    closed=False,
)

_TOTALS: Final = {name: nullable(_COUNT) for name in TOKENS}

_SUMMARY_MEMBERS: Final[Json] = {
    "id": STRING,
    "created": TIME,
    "updated": TIME,
    "completed": nullable(TIME),
    "status": STRING,
    "model": nullable(STRING),
    "model_requested": nullable(STRING),
    "agent": nullable(STRING),
    "deployment": nullable(STRING),
    "project": STRING,
    "key_id": nullable(STRING),
    "key_name": nullable(STRING),
    "labels": mapping(STRING),
    "previous_interaction_id": nullable(STRING),
    "root": STRING,
    "depth": INTEGER,
    "replay_of": nullable(STRING),
    "stream": BOOLEAN,
    "background": BOOLEAN,
    "store": BOOLEAN,
    "service_tier": nullable(STRING),
    "http_status": nullable(INTEGER),
    "error_code": nullable(STRING),
    "error_message": nullable(STRING),
    "duration": nullable(NUMBER),
    "first_event": nullable(NUMBER),
    "usage": nullable(shape(_TOTALS)),
    "cost": nullable(NUMBER),
    "request_bytes": INTEGER,
    "response_bytes": nullable(INTEGER),
    "attempts": INTEGER,
    "upstream_interaction_id": nullable(STRING),
    "deleted": nullable(TIME),
}

_SNIPPET: Final = shape(
    {
        "in": {"enum": ["input", "output"]},
        "text": STRING,
        "highlights": {
            **array(array(INTEGER)),
            "description": "What was found: where it begins in the text and where it ends, in Unicode code points "
            "from 0 (as Python counts; JavaScript's strings count UTF-16 units). The end is behind the last one.",
        },
    }
)
_MODALITIES: Final = mapping(mapping(_COUNT))

_DETAIL: Final = shape(
    {
        **_SUMMARY_MEMBERS,
        "request": nullable(OBJECT),
        "response": nullable(OBJECT),
        "attempts": array(OBJECT),
        "timings": shape(
            {
                "created": TIME,
                "first_event": nullable(TIME),
                "completed": nullable(TIME),
                "to_first_event": nullable(NUMBER),
                "to_completion": nullable(NUMBER),
            }
        ),
        "usage": nullable(shape({**_TOTALS, "modalities": _MODALITIES})),
        "links": mapping(STRING),
    }
)

_QUANTILES: Final = shape({"p50": nullable(NUMBER), "p95": nullable(NUMBER)})
_SUMS: Final[Json] = {
    "requests": _COUNT,
    "errors": _COUNT,
    "unmeasured": _COUNT,
    "tokens": shape({name.removesuffix("_tokens"): _COUNT for name in TOKENS}),
    "modalities": _MODALITIES,
    "cost": nullable(NUMBER),
    "unpriced": _COUNT,
    "duration": _QUANTILES,
    "first_event": _QUANTILES,
}

SCHEMAS: Final[dict[str, Any]] = {
    "Error": _ERROR,
    "CreateInteraction": _CREATE,
    "Interaction": _INTERACTION,
    "Empty": shape({}),
    "Health": shape({"status": STRING}),
    "Summary": shape({**_SUMMARY_MEMBERS, "snippets": array(_SNIPPET)}, optional=["snippets"]),
    "Detail": _DETAIL,
    "Page": shape({"interactions": array(ref("Summary")), "next_cursor": nullable(STRING)}),
    "Chain": shape(
        {
            "ancestors": array(ref("Summary")),
            "interaction": ref("Summary"),
            "descendants": array(ref("Summary")),
            "truncated": BOOLEAN,
        }
    ),
    "Events": shape(
        {
            "events": array(shape({"seq": INTEGER, "event": OBJECT})),
            "next_after": nullable(INTEGER),
            "ended": BOOLEAN,
        }
    ),
    "Reconciliation": shape(
        {
            "from": INTEGER,
            "to": INTEGER,
            "interval": INTEGER,
            "intervals": array(OBJECT),
            "mismatches": array(shape({"id": STRING, "reason": STRING, "detail": STRING})),
        }
    ),
    "Deployments": shape({"routing_strategy": STRING, "deployments": array(OBJECT)}),
    "WebhookRotation": shape(
        {"keep_seconds": {**NUMBER, "minimum": 0, "maximum": 7_776_000}}, optional=("keep_seconds",)
    ),
    "WebhookSecret": shape(
        {
            "project_id": STRING,
            "webhook_secret": STRING,
            "previous_secret": nullable(STRING),
            "previous_until": nullable(STRING),
        }
    ),
    "Usage": shape(
        {
            "from": nullable(TIME),
            "to": nullable(TIME),
            "tz": STRING,
            "group_by": array(STRING),
            "groups": array(shape(_SUMS, closed=False)),
            "total": shape(_SUMS),
        }
    ),
}
