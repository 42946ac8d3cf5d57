"""Replay, import, retention and legal holds."""

from __future__ import annotations

from typing import Final

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
    operation,
    path,
    query,
    ref,
    shape,
)

_ID: Final = path("id", "The id of an interaction: this service's, or upstream's.")
_REASON: Final = shape({"reason": nullable(STRING)}, optional=["reason"])


def _pair(value: Json) -> Json:
    return shape({"original": value, "replay": value, "same": BOOLEAN})


def _figures(value: Json) -> Json:
    return shape({"original": mapping(value), "replay": mapping(value), "difference": mapping(value)})


_NUMBER: Final = nullable(NUMBER)
_HOLD: Final = shape(
    {
        "id": STRING,
        "interaction": nullable(STRING),
        "label": nullable(STRING),
        "reason": nullable(STRING),
        "created": TIME,
        "released": nullable(TIME),
    }
)
_RULE: Final = shape(
    {
        "rule": STRING,
        "keep_seconds": _NUMBER,
        "due": INTEGER,
        "bytes": INTEGER,
        "held": INTEGER,
        "running": INTEGER,
        "waiting": {
            **INTEGER,
            "description": "How many have ended, and are due once their figures are derived.",
        },
    }
)

SCHEMAS: Final[dict[str, Json]] = {
    "Replay": shape(
        {"interaction": ref("Interaction"), "replay_of": STRING, "comparison": ref("Comparison")},
        optional=["comparison"],
    ),
    "Comparison": shape(
        {
            "status": _pair(STRING),
            "errors": _pair(nullable(shape({"code": STRING, "message": STRING}))),
            "text": shape({"same": BOOLEAN, "diff": STRING}),
            "tool_calls": _pair(array(OBJECT)),
            "usage": _figures(nullable(INTEGER)),
            "cost": shape({"original": _NUMBER, "replay": _NUMBER, "difference": _NUMBER}),
            "latency": _figures(nullable(INTEGER)),
        }
    ),
    "Imported": shape({"imported": INTEGER, "known": INTEGER, "left_out": INTEGER}),
    "Hold": _HOLD,
    "Holds": shape({"holds": array(ref("Hold"))}),
    "Retention": shape(
        {
            "at": TIME,
            "dry_run": BOOLEAN,
            "rules": array(_RULE),
            "expired": INTEGER,
            "erased": INTEGER,
            "partitions": array(STRING),
            "bytes_given_back": INTEGER,
        }
    ),
}

_CHANGES: Final[Json] = {
    "type": "object",
    "description": "Changes to the request, merged into it (RFC 7396).",
    "properties": {
        "compare": {"type": "boolean", "description": "Whether to compare; true by default."},
        "wait": {"type": "number", "minimum": 0, "maximum": 7200, "description": "Seconds to wait; 600."},
    },
}

PATHS: Final[dict[str, dict[str, Json]]] = {
    "/api/interactions/{id}/replay": {
        "post": operation(
            "Send a stored request again, as it was or with changes, and compare what comes of it.",
            ref("Replay"),
            name="replay",
            tag="replay",
            parameters=(_ID,),
            body=_CHANGES,
            body_required=False,
        )
    },
    "/api/interactions/{id}/comparison": {
        "get": operation(
            "Compare a replay with its original as they stand now.",
            ref("Comparison"),
            name="get_comparison",
            tag="replay",
            parameters=(_ID,),
        )
    },
    "/api/interactions/{id}/hold": {
        "put": operation(
            "Hold an interaction: nothing deletes it.",
            ref("Hold"),
            name="hold",
            tag="retention",
            parameters=(_ID,),
            body=_REASON,
            body_required=False,
        ),
        "delete": operation(
            "Release the hold of an interaction; of several, the one that is named.",
            ref("Empty"),
            name="release",
            tag="retention",
            parameters=(_ID, query("hold", STRING, "The id of a hold.")),
        ),
    },
    "/api/holds": {
        "get": operation("List all holds.", ref("Holds"), name="list_holds", tag="retention"),
        "post": operation(
            "Hold what carries a label, or the whole project.",
            ref("Hold"),
            name="place_hold",
            tag="retention",
            body=shape({"label": nullable(STRING), "reason": nullable(STRING)}, optional=["label", "reason"]),
            body_required=False,
        ),
    },
    "/api/holds/{hold}": {
        "delete": operation(
            "Release a hold.",
            ref("Empty"),
            name="release_hold",
            tag="retention",
            parameters=(path("hold", "The id of a hold."),),
        )
    },
    "/api/retention": {
        "post": operation(
            "Apply the rules of retention now, or tell what they would do.",
            ref("Retention"),
            name="apply_retention",
            tag="retention",
            body=shape({"dry_run": BOOLEAN, "whole": BOOLEAN}, optional=["dry_run", "whole"]),
            body_required=False,
        )
    },
    "/api/import": {
        "post": operation(
            "Take in lines of an export; of what is there, only what came in open is replaced, by its end.",
            ref("Imported"),
            name="import_lines",
            tag="audit",
            parameters=(
                query(
                    "first_line",
                    {"type": "integer", "minimum": 1},
                    "The number of the first line in its file, of which this may be a batch; errors name lines by it.",
                ),
            ),
            body=STRING,
            body_type="text/plain",
            body_required=False,
        )
    },
}
