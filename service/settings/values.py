"""What a configuration value may be, and what to call it when it is something else."""

from __future__ import annotations

import difflib
import math
import re
from typing import TypeVar

from service.errors import ConfigurationError

T = TypeVar("T")

_UNITS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")
_TYPE_NAMES = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a number",
    list: "a list",
    dict: "a mapping",
}
_FLAGS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def given(value: T | None, default: T) -> T:
    """``value``, or ``default`` when nothing was given."""
    return default if value is None else value


def mapping(name: str, value: object) -> dict[object, object]:
    """``value``, if it is a mapping; raises `ConfigurationError` naming ``name``."""
    if not isinstance(value, dict):
        raise ConfigurationError(f"{name}: expected a mapping, got {describe(value)}")
    return value


def sequence(name: str, value: object) -> list[object]:
    """``value``, if it is a list; raises `ConfigurationError` naming ``name``."""
    if not isinstance(value, list):
        raise ConfigurationError(f"{name}: expected a list, got {describe(value)}")
    return value


def strings(name: str, value: object) -> tuple[str, ...]:
    """``value`` as strings; one string alone is a list of one."""
    items = [value] if isinstance(value, str) else sequence(name, value)
    return tuple(string(f"{name}[{position}]", item) for position, item in enumerate(items))


def string(name: str, value: object) -> str:
    """``value``, if it is a string with anything in it; raises `ConfigurationError` naming ``name``."""
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"{name}: expected a string, got {describe(value)}")
    return value


def parse_seconds(value: object) -> float | None:
    """Seconds from a number or from text like `55d`; None when it is neither."""
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip().lower())
        return float(match[1]) * _UNITS[match[2] or "s"] if match else None
    return number(value)


def describe(value: object) -> str:
    """The value's type in a reader's words; never the value, which may be a secret."""
    if value is None:
        return "nothing"
    if value == "":
        return "an empty string"
    return _TYPE_NAMES.get(type(value), f"a {type(value).__name__}")


def nearest(word: str, known: tuple[str, ...] | frozenset[str]) -> str:
    """The known word that looks most like this one."""
    return difflib.get_close_matches(word.lower(), sorted(known), n=1, cutoff=0.0)[0]


def near(word: str, known: frozenset[str]) -> str | None:
    """The known word that this one may be meant for; None where it looks like none of them."""
    return next(iter(difflib.get_close_matches(word.lower(), sorted(known), n=1)), None)


def number(value: object) -> float | None:
    """The finite number that this is or spells, if it does."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        parsed = float(value)
    except (ValueError, OverflowError):
        return None
    return parsed if math.isfinite(parsed) else None


def integer(value: object) -> int | None:
    """The whole number that this is or spells, if it does."""
    parsed = number(value)
    if parsed is None or not parsed.is_integer():
        return None
    return value if isinstance(value, int) else int(parsed)


def flag(value: object) -> bool | None:
    """The boolean that this is or spells, if it does."""
    if isinstance(value, str):
        return _FLAGS.get(value.strip().lower())
    return value if isinstance(value, bool) else None
