"""Every operation by its path and method."""

from __future__ import annotations

from typing import Final

from service.api.description import upkeep
from service.api.description.parts import (
    BOOLEAN,
    INTEGER,
    OBJECT,
    STRING,
    Json,
    header,
    operation,
    path,
    queries,
    query,
    ref,
)
from service.audit.details import LARGEST_EVENTS
from service.audit.encoding import FORMATS
from service.audit.fields import FIELDS, Field
from service.audit.filters import ANY
from service.audit.groups import DIMENSIONS
from service.audit.intervals import UNITS
from service.audit.listing import LARGEST_LIMIT
from service.audit.usage_request import FILTERS

_PREFIXES: Final = ("/v1beta", "/v1", "")
_ID: Final = path("id", "The id of an interaction: this service's, or upstream's.")
_PROJECT: Final = path("project", "The project's id, or default.")

_TIMES: Final = (
    query("from", STRING, "The earliest time: ISO 8601, seconds since 1970, or how long ago (24h, 7d)."),
    query("to", STRING, "The time before which it must be; as from."),
)
_LABELS: Final = queries(
    "labels", "^label:.", STRING, "Labels, as label:team=search; any of a name, as label:team=any."
)


def _filter(field: Field) -> list[Json]:
    several = "" if field.kind == "number" else f" Several with commas; '{ANY}' for those that have one."
    kinds: dict[str, Json] = {"number": {"type": "number"}}
    schema = kinds.get(field.kind, STRING)
    found = [query(field.name, schema, f"{field.meaning}{several}")]
    if field.kind == "number":
        found.append(query(f"min_{field.name}", schema, f"{field.meaning} At least."))
        found.append(query(f"max_{field.name}", schema, f"{field.meaning} At most."))
    return found


_FILTERS: Final = (
    *(parameter for field in FIELDS.values() for parameter in _filter(field)),
    _LABELS,
    *_TIMES,
    query("q", STRING, 'Words to search for: "a phrase", a prefix*, -without, one OR another.'),
    query("deleted", {"enum": ["false", "true", "any"]}, "Deleted ones: none (the default), only, or too."),
)

_LIST: Final = (
    *_FILTERS,
    query("order", {"enum": ["desc", "asc", "rank"]}, "Newest first, oldest first, or the best of a search."),
    query("limit", {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT}, "How many; 50 by default."),
    query("cursor", STRING, "The next_cursor of the page before."),
)

_USAGE: Final = (
    query(
        "group_by",
        STRING,
        f"With commas: {', '.join(DIMENSIONS)}, label:NAME, and one of {', '.join(UNITS)}.",
    ),
    query("tz", STRING, "The time zone of hours, days, weeks and months; UTC by default."),
    *(parameter for name in FILTERS for parameter in _filter(FIELDS[name])),
    _LABELS,
    *_TIMES,
)

_REVISION: Final = header("api-revision", "The generation of the schema that the caller speaks.")

_CREATE: Final = (
    _REVISION,
    header("x-interactions-history", "Where history comes from.", {"enum": ["upstream", "local"]}),
    header("idempotency-key", "Makes a repeat of this request the same interaction."),
    header("x-interactions-labels", "Labels, as team=search,env=prod; not forwarded."),
    header(
        "x-replay",
        "Answer from what is recorded, never from upstream.",
        {"enum": ["recorded", "recorded; pace=none"]},
    ),
)

_GET: Final = (
    _ID,
    _REVISION,
    query("stream", BOOLEAN, "Tell the events instead, those that are still to come as they come."),
    query("last_event_id", STRING, "With stream: the id of the last event that the caller has."),
    query("include_input", BOOLEAN, "Tell what was asked as well."),
)


def _interactions(prefix: str) -> dict[str, dict[str, Json]]:
    """The Interactions API below one prefix; operation ids are those of the first one, and the prefix."""
    told = prefix.removeprefix("/") or "bare"
    collection = f"{prefix}/interactions"
    one = f"{collection}/{{id}}"

    def cancel(spelling: str) -> Json:
        return operation(
            "Cancel what still runs.",
            ref("Interaction"),
            name=f"cancel_{spelling}_{told}",
            tag="interactions",
            parameters=(_ID, _REVISION),
        )

    return {
        collection: {
            "post": operation(
                "Create an interaction.",
                ref("Interaction"),
                name=f"create_{told}",
                tag="interactions",
                parameters=_CREATE,
                body=ref("CreateInteraction"),
                streamed=True,
            )
        },
        one: {
            "get": operation(
                "Read an interaction.",
                ref("Interaction"),
                name=f"get_{told}",
                tag="interactions",
                parameters=_GET,
                streamed=True,
            ),
            "delete": operation(
                "Delete an interaction.",
                ref("Empty"),
                name=f"delete_{told}",
                tag="interactions",
                parameters=(_ID,),
            ),
        },
        f"{one}/cancel": {"post": cancel("path")},
        f"{one}:cancel": {"post": cancel("verb")},
    }


_AUDIT: Final[dict[str, dict[str, Json]]] = {
    "/api/interactions": {
        "get": operation(
            "List interactions by any of their members, also by labels, or search them.",
            ref("Page"),
            name="list_interactions",
            tag="audit",
            parameters=_LIST,
        )
    },
    "/api/interactions/{id}": {
        "get": operation(
            "Read everything that is stored of an interaction.",
            ref("Detail"),
            name="get_interaction_detail",
            tag="audit",
            parameters=(_ID,),
        ),
        "delete": operation(
            "Delete an interaction, also one that was not to be stored and is recorded for audit.",
            ref("Empty"),
            name="delete_recorded_interaction",
            tag="audit",
            parameters=(_ID,),
        ),
    },
    "/api/interactions/{id}/chain": {
        "get": operation(
            "Read the conversation around an interaction.",
            ref("Chain"),
            name="get_interaction_chain",
            tag="audit",
            parameters=(_ID,),
        )
    },
    "/api/interactions/{id}/events": {
        "get": operation(
            "Read the recorded events of an interaction that was streamed.",
            ref("Events"),
            name="get_interaction_events",
            tag="audit",
            parameters=(
                _ID,
                query("after", {**INTEGER, "minimum": 0}, "The seq of the last event that the caller has."),
                query(
                    "limit",
                    {**INTEGER, "minimum": 1, "maximum": LARGEST_EVENTS},
                    "How many; 1000 by default.",
                ),
            ),
        )
    },
    "/api/export": {
        "get": operation(
            "Export everything that the filters select, oldest first.",
            STRING,
            name="export",
            tag="audit",
            parameters=(
                *_FILTERS,
                query("format", {"enum": list(FORMATS)}, "JSON lines (the default), CSV or Parquet."),
                query(
                    "cursor",
                    STRING,
                    "The id of the last interaction that the caller has. CSV that goes on behind one has no head.",
                ),
                query(
                    "media", {"enum": ["true", "false"]}, "Whether JSON lines have the bytes of kept media."
                ),
            ),
            content_type="application/x-ndjson",
            others=("text/csv", "application/vnd.apache.parquet"),
        )
    },
    "/api/usage": {
        "get": operation(
            "Sum usage up by whatever it can be grouped by.",
            ref("Usage"),
            name="get_usage",
            tag="audit",
            parameters=_USAGE,
        )
    },
}

_OPERATIONS: Final[dict[str, dict[str, Json]]] = {
    "/api/reconcile": {
        "get": operation(
            "Count what came in, what went out and what is stored, and name what does not fit.",
            ref("Reconciliation"),
            name="reconcile",
            tag="operations",
            parameters=(
                *_TIMES,
                query("interval", {"enum": ["minute", "hour", "day"]}, "The length of an interval."),
                query("project", STRING, "One project only: default, or its id."),
            ),
        )
    },
    "/api/projects/{project}/webhook-secret": {
        "get": operation(
            "Read what signs the webhooks of a project.",
            ref("WebhookSecret"),
            name="get_webhook_secret",
            tag="operations",
            parameters=(_PROJECT,),
        ),
        "post": operation(
            "Make the first webhook secret of a project.",
            ref("WebhookSecret"),
            name="create_webhook_secret",
            tag="operations",
            parameters=(_PROJECT,),
        ),
    },
    "/api/projects/{project}/webhook-secret/rotate": {
        "post": operation(
            "Sign webhooks with a new secret, and for a while with the one before as well.",
            ref("WebhookSecret"),
            name="rotate_webhook_secret",
            tag="operations",
            parameters=(_PROJECT,),
            body=ref("WebhookRotation"),
            body_required=False,
        )
    },
    "/api/projects/{project}/webhook-secret/previous": {
        "delete": operation(
            "Sign webhooks no more with the secret before the present one.",
            ref("WebhookSecret"),
            name="retire_webhook_secret",
            tag="operations",
            parameters=(_PROJECT,),
        )
    },
    "/api/deployments": {
        "get": operation(
            "Read how every deployment of this process is, and what it has done.",
            ref("Deployments"),
            name="list_deployments",
            tag="operations",
        )
    },
    "/metrics": {
        "get": operation(
            "Read the figures of this process, for Prometheus.",
            STRING,
            name="metrics",
            tag="operations",
            public=True,
            content_type="text/plain",
        )
    },
    "/health/live": {
        "get": operation("The process answers.", ref("Health"), name="live", tag="operations", public=True)
    },
    "/health/ready": {
        "get": operation("The store answers.", ref("Health"), name="ready", tag="operations", public=True)
    },
    "/openapi.json": {
        "get": operation("This description.", OBJECT, name="openapi", tag="operations", public=True)
    },
}


def paths() -> dict[str, dict[str, Json]]:
    """All operations."""
    found: dict[str, dict[str, Json]] = {}
    for prefix in _PREFIXES:
        found |= _interactions(prefix)
    return found | _AUDIT | upkeep.PATHS | _OPERATIONS
