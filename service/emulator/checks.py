"""Checks of JSON values that refuse in upstream's words (contract 7.4).

A check is called with a value, the path of the object around it and its name there; it returns nothing and
raises InvalidRequest or ParameterUnknown. Null members count as absent, as documented clients send them
(contract 2.2).
"""

from __future__ import annotations

import binascii
from collections.abc import Callable, Mapping
from typing import Any

from service.errors import InvalidRequest, ParameterUnknown

Check = Callable[[Any, str, str], None]

_KINDS: dict[type, str] = {
    str: "string",
    bool: "boolean",
    int: "integer",
    float: "number",
    list: "array",
    dict: "object",
    type(None): "null",
}
_ARTICLES = {"array": "an", "object": "an", "integer": "an"}


def join(at: str, name: str) -> str:
    """The path of `name` inside `at`."""
    return f"{at}.{name}" if at and name else at or name


def wrong_type(value: Any, at: str, name: str, expected: str) -> InvalidRequest:
    """The refusal of a value of the wrong JSON type."""
    article = _ARTICLES.get(expected, "a")
    got = _KINDS.get(type(value), "value")
    path = join(at, name)
    return InvalidRequest(f"The value is invalid for '{path}'. Expected {article} {expected}, got {got}.")


def unsupported(value: Any, at: str, name: str) -> InvalidRequest:
    """The refusal of a value that is not one of those allowed."""
    place = f" at '{at}'" if at else ""
    return InvalidRequest(f"The value '{value}' is not supported for '{name}'{place}.")


def unknown(name: str, at: str) -> ParameterUnknown:
    """The refusal of a member that does not exist."""
    return ParameterUnknown(
        f"Unknown parameter '{name}' at '{at}'." if at else f"Unknown parameter '{name}'."
    )


def missing(name: str, at: str) -> InvalidRequest:
    """The refusal of an object that lacks a member it must have."""
    return InvalidRequest(f"Missing required parameter '{name}' at '{at}'.")


def anything(value: Any, at: str, name: str) -> None:
    """Accepts every value."""


def text(value: Any, at: str, name: str) -> None:
    """Accepts a string."""
    if not isinstance(value, str):
        raise wrong_type(value, at, name, "string")


def boolean(value: Any, at: str, name: str) -> None:
    """Accepts true and false."""
    if not isinstance(value, bool):
        raise wrong_type(value, at, name, "boolean")


def integer(value: Any, at: str, name: str) -> None:
    """Accepts an integer."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type(value, at, name, "integer")


def number(value: Any, at: str, name: str) -> None:
    """Accepts a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise wrong_type(value, at, name, "number")


def mapping(value: Any, at: str, name: str) -> None:
    """Accepts an object with any members."""
    if not isinstance(value, dict):
        raise wrong_type(value, at, name, "object")


def base64_text(value: Any, at: str, name: str) -> None:
    """Accepts base64, of either alphabet."""
    text(value, at, name)
    try:
        binascii.a2b_base64(value.replace("-", "+").replace("_", "/"))
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"Invalid value at '{join(at, name)}': Base64 decoding failed.") from None


def between(low: int, high: int) -> Check:
    """Accepts an integer from `low` to `high`."""

    def check(value: Any, at: str, name: str) -> None:
        integer(value, at, name)
        if not low <= value <= high:
            raise InvalidRequest(f"The value {value} is out of range for '{join(at, name)}'.")

    return check


def one_of(*allowed: str) -> Check:
    """Accepts one of some strings."""
    values = frozenset(allowed)

    def check(value: Any, at: str, name: str) -> None:
        text(value, at, name)
        if value not in values:
            raise unsupported(value, at, name)

    return check


def array(item: Check) -> Check:
    """Accepts an array whose every item passes `item`."""

    def check(value: Any, at: str, name: str) -> None:
        if not isinstance(value, list):
            raise wrong_type(value, at, name, "array")
        for index, element in enumerate(value):
            item(element, at, f"{name}[{index}]")

    return check


def members(table: Mapping[str, Check], required: tuple[str, ...] = ()) -> Check:
    """Accepts an object that has no members but those of `table`, and all of `required`."""

    def check(value: Any, at: str, name: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(value, at, name, "object")
        path = join(at, name)
        for member, content in value.items():
            rule = table.get(member)
            if rule is None:
                raise unknown(member, path)
            if content is not None:
                rule(content, path, member)
        for member in required:
            if value.get(member) is None:
                raise missing(member, path)

    return check


def by_type(variants: Mapping[str, Check]) -> Check:
    """Accepts an object whose `type` names one of `variants` and which passes that one."""

    def check(value: Any, at: str, name: str) -> None:
        if not isinstance(value, dict):
            raise wrong_type(value, at, name, "object")
        path = join(at, name)
        kind = value.get("type")
        if kind is None:
            raise missing("type", path)
        variant = variants.get(kind) if isinstance(kind, str) else None
        if variant is None:
            raise unsupported(kind, path, "type")
        variant(value, at, name)

    return check


def either(kind: type, first: Check, otherwise: Check) -> Check:
    """Applies `first` to values of Python type `kind` and `otherwise` to the rest."""

    def check(value: Any, at: str, name: str) -> None:
        (first if isinstance(value, kind) else otherwise)(value, at, name)

    return check
