"""A value that satisfies a JSON Schema, the same one every time.

Function arguments and structured answers are made here. The first string that the schema leaves free carries
a text of the caller's choice, so that a structured answer can show what the model saw.
"""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_DEPTH = 8
_FORMATS = {
    "date": "2026-01-02",
    "date-time": "2026-01-02T03:04:05Z",
    "time": "03:04:05Z",
    "duration": "PT1M",
    "email": "someone@example.com",
    "uri": "https://example.com/",
    "url": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "ipv4": "192.0.2.1",
    "hostname": "example.com",
}


def synthesise(schema: Schema, text: str | None = None) -> Any:
    """A value for `schema`; `text` fills the first string without constraints."""
    return _Synthesis(schema, text).value(schema, "value", 0)


class _Synthesis:
    def __init__(self, root: Schema, text: str | None) -> None:
        self._root = root
        self._text = text

    def value(self, schema: Any, name: str, depth: int) -> Any:
        if not isinstance(schema, dict):
            return name
        schema = self._resolve(schema)
        for fixed in ("const", "default", "example"):
            if fixed in schema:
                return schema[fixed]
        if schema.get("enum"):
            return schema["enum"][0]
        kind = _kind(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "string":
            return self._string(schema, name)
        if kind in ("integer", "number"):
            return _number(schema, whole=kind == "integer")
        return {"boolean": True, "null": None}.get(kind, name)

    def _resolve(self, schema: Schema) -> Schema:
        """The schema with references followed, alternatives decided and conjunctions merged."""
        for _ in range(_DEPTH):
            if "$ref" in schema:
                schema = self._target(schema["$ref"])
            elif "allOf" in schema:
                schema = _merged(schema, [self._resolve(part) for part in schema["allOf"]])
            elif alternatives := schema.get("anyOf") or schema.get("oneOf"):
                chosen = next((part for part in alternatives if part.get("type") != "null"), alternatives[0])
                rest = {name: value for name, value in schema.items() if name not in ("anyOf", "oneOf")}
                schema = {**rest, **chosen}
            else:
                break
        return schema

    def _target(self, reference: str) -> Schema:
        node: Any = self._root
        for part in reference.removeprefix("#").strip("/").split("/"):
            if part:
                node = (
                    node.get(part.replace("~1", "/").replace("~0", "~"), {}) if isinstance(node, dict) else {}
                )
        return node if isinstance(node, dict) else {}

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        required = schema.get("required") or []
        properties: dict[str, Any] = schema.get("properties") or {}
        # Optional members end a schema that contains itself.
        wanted = (
            properties
            if depth < _DEPTH
            else {name: properties[name] for name in required if name in properties}
        )
        return {
            name: self.value(part, name, depth + 1) for name, part in wanted.items() if depth < 2 * _DEPTH
        }

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        prefix = [self.value(part, name, depth + 1) for part in schema.get("prefixItems") or ()]
        least = schema.get("minItems", 1 if depth < _DEPTH else 0)
        item = schema.get("items", {"type": "string"})
        missing = max(0, min(least, schema.get("maxItems", least)) - len(prefix))
        return prefix + [self.value(item, name, depth + 1) for _ in range(missing)]

    def _string(self, schema: Schema, name: str) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        shortest, longest = schema.get("minLength", 0), schema.get("maxLength")
        value = f"a {name}"
        if self._text is not None and longest is None and "pattern" not in schema:
            value, self._text = self._text, None
        return value.ljust(shortest, ".")[:longest]


def _kind(schema: Schema) -> str:
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((name for name in kind if name != "null"), "null")
    if isinstance(kind, str):
        return kind.lower()
    if "properties" in schema:
        return "object"
    return "array" if "items" in schema else "string"


def _number(schema: Schema, *, whole: bool) -> float:
    low = schema.get("minimum")
    if low is None and "exclusiveMinimum" in schema:
        low = schema["exclusiveMinimum"] + 1
    high = schema.get("maximum")
    if high is None and "exclusiveMaximum" in schema:
        high = schema["exclusiveMaximum"] - 1
    value = low if low is not None else min(1, high) if high is not None else 1
    step = schema.get("multipleOf")
    if step:
        value = -(-value // step) * step
    return int(value) if whole else value


def _merged(schema: Schema, parts: list[Schema]) -> Schema:
    merged = {name: value for name, value in schema.items() if name != "allOf"}
    properties = dict(merged.get("properties") or {})
    required = list(merged.get("required") or [])
    for part in parts:
        properties.update(part.get("properties") or {})
        required += part.get("required") or []
        merged = {**part, **merged}
    if properties:
        merged.update(properties=properties, required=required)
    return merged
