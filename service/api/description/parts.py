"""The pieces that descriptions of operations are made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

Json = dict[str, Any]

STRING: Final[Json] = {"type": "string"}
INTEGER: Final[Json] = {"type": "integer"}
NUMBER: Final[Json] = {"type": "number"}
BOOLEAN: Final[Json] = {"type": "boolean"}
OBJECT: Final[Json] = {"type": "object"}
TIME: Final[Json] = {"type": "string", "format": "date-time"}


def ref(name: str) -> Json:
    """A schema by its name."""
    return {"$ref": f"#/components/schemas/{name}"}


def nullable(schema: Json) -> Json:
    """The schema, or null."""
    if "$ref" in schema:
        return {"anyOf": [schema, {"type": "null"}]}
    return {**schema, "type": [schema["type"], "null"]}


def array(items: Json) -> Json:
    """A list."""
    return {"type": "array", "items": items}


def mapping(values: Json) -> Json:
    """An object with any names."""
    return {"type": "object", "additionalProperties": values}


def shape(members: Json, *, optional: Iterable[str] = (), closed: bool = True) -> Json:
    """An object with these members, all required but the optional ones."""
    required = [name for name in members if name not in set(optional)]
    return {
        "type": "object",
        "properties": members,
        **({"required": required} if required else {}),
        **({"additionalProperties": False} if closed else {}),
    }


def query(name: str, schema: Json, meaning: str) -> Json:
    """A parameter of a query string."""
    return {"name": name, "in": "query", "required": False, "schema": schema, "description": meaning}


def queries(name: str, pattern: str, schema: Json, meaning: str) -> Json:
    """All parameters of a query string whose names match a pattern, together under a name that nobody sends.

    An object in exploded form is sent as its members (OpenAPI 3.1, Style Values), so a pattern tells their names.
    """
    members = {"type": "object", "patternProperties": {pattern: schema}, "additionalProperties": False}
    return {**query(name, members, meaning), "style": "form", "explode": True}


def header(name: str, meaning: str, schema: Json = STRING) -> Json:
    """A header of a request."""
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": meaning}


def path(name: str, meaning: str) -> Json:
    """A parameter of a path."""
    return {"name": name, "in": "path", "required": True, "schema": STRING, "description": meaning}


def operation(
    summary: str,
    answer: Json | None,
    *,
    name: str,
    tag: str,
    parameters: Iterable[Json] = (),
    body: Json | None = None,
    streamed: bool = False,
    public: bool = False,
    content_type: str = "application/json",
    others: Iterable[str] = (),
    body_type: str = "application/json",
    body_required: bool = True,
) -> Json:
    """An operation whose answer, if it succeeds, has this schema; all else is an error in Google's shape."""
    content: Json = {content_type: {"schema": answer} if answer is not None else {}}
    content |= {other: {"schema": STRING} for other in others}
    if streamed:
        content["text/event-stream"] = {"schema": STRING}
    described: Json = {
        "operationId": name,
        "summary": summary,
        "tags": [tag],
        "responses": {
            "200": {"description": "It is done.", "content": content},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }
    if given := list(parameters):
        described["parameters"] = given
    if body is not None:
        described["requestBody"] = {"required": body_required, "content": {body_type: {"schema": body}}}
    if public:
        described["security"] = []
    return described
