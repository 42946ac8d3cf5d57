"""From a query string to filters: which interactions are meant. Lists, exports, replays and reports share them.

Several values of one filter are alternatives, written with commas or by repeating it; different filters must all
hold. ``any``, alone or among others, asks for those that have the member at all. The time of an interaction, by which
``from`` (inclusive) and ``to`` (exclusive) bound and by which lists are sorted, is the one in its id.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, tzinfo
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from hashlib import blake2b
from types import MappingProxyType
from typing import Final, Literal, TypeVar

from service.audit import moments
from service.audit.fields import FIELDS, LABEL_PREFIXES, Field, names
from service.errors import InvalidRequest
from service.settings.values import near
from service.store.records import STATUSES
from service.wire import ids

ANY: Final = "any"
Deleted = Literal["false", "true", "any"]

_FLAGS: Final = {"true": 1, "1": 1, "false": 0, "0": 0}
_BOUND: Final = re.compile(r"(min|max)_(\w+)", re.ASCII)
_LABEL: Final = "label"
#: Other words for parameters, as the command line and other services have them.
_MEANT: Final = {
    "since": "from",
    "after": "from",
    "until": "to",
    "before": "to",
    "timezone": "tz",
    "query": "q",
    "search": "q",
}
_DELETED: Final[Mapping[str, Deleted]] = MappingProxyType({"false": "false", "true": "true", "any": "any"})
_LARGEST: Final = 2**62
_MOST_VALUES: Final = 100
_LONGEST_NUMBER: Final = 40

#: What a value is compared as: text, a flag as a number, or a key.
Value = str | int | bytes
_Some = TypeVar("_Some", bound=Value)


@dataclass(frozen=True, slots=True)
class Choice:
    """A field that must have one of these values; with :data:`ANY` for the only one, any value."""

    field: Field
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Bounds:
    """A number that must lie between these, both included, in the units of the tables."""

    field: Field
    least: int | None = None
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Label:
    """A label that must have one of these values; without values, any."""

    name: str
    values: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Filters:
    """Which interactions are meant. Times are microseconds since the epoch."""

    choices: tuple[Choice, ...] = ()
    bounds: tuple[Bounds, ...] = ()
    labels: tuple[Label, ...] = ()
    since: int | None = None
    until: int | None = None
    text: str | None = None
    deleted: Deleted = "false"

    def digest(self) -> bytes:
        """The same for the same filters: 8 bytes. Times have no part in it: how long ago is another time each time."""
        told = (
            sorted((choice.field.name, choice.values) for choice in self.choices),
            sorted((bound.field.name, str((bound.least, bound.most))) for bound in self.bounds),
            sorted((label.name, label.values) for label in self.labels),
            (self.text, self.deleted),
        )
        return blake2b(repr(told).encode("utf-8", "surrogatepass"), digest_size=8).digest()


class _Parsing:
    """The filters of one query string, as they are found."""

    def __init__(self, zone: tzinfo) -> None:
        self.zone = zone
        self.found = Filters()
        self.choices: dict[str, tuple[Value, ...]] = {}
        self.bounds: dict[str, Bounds] = {}
        self.labels: dict[str, tuple[str, ...]] = {}
        self.once: set[str] = set()

    def take(self, name: str, value: str) -> bool:
        """Take a parameter in; False when there is no such filter."""
        if label := _label(name):
            self._label(label, value)
        elif name in FIELDS:
            self._field(FIELDS[name], value)
        elif (bound := _BOUND.fullmatch(name)) and (field := FIELDS.get(bound[2])) and field.kind == "number":
            self._bound(name, field, bound[1], value)
        elif name in ("from", "to", "q", "deleted"):
            self._other(name, value)
        else:
            return False
        return True

    def filters(self) -> Filters:
        """What was taken in."""
        return replace(
            self.found,
            choices=tuple(Choice(FIELDS[name], values) for name, values in self.choices.items()),
            bounds=tuple(self.bounds.values()),
            labels=tuple(
                Label(name, () if ANY in values else values) for name, values in self.labels.items()
            ),
        )

    def _label(self, label: str, value: str) -> None:
        if not value:
            # All of it may have been encoded as a name.
            label, _, value = label.partition("=")
        # Commas stand in values of labels, so it is one value; none at all is any.
        self.labels[label] = _added(f"label:{label}", self.labels.get(label, ()), (value or ANY,))

    def _field(self, field: Field, value: str) -> None:
        _required(field.name, value)
        if field.kind == "number":
            self._take_once(field.name)
            number = _number(field.name, value, field)
            self._narrow(field, _whole(number, ROUND_CEILING), _whole(number, ROUND_FLOOR))
            return
        given = tuple(_value(field, part.strip()) for part in value.split(",") if part.strip())
        _required(field.name, given)
        self.choices[field.name] = _added(field.name, self.choices.get(field.name, ()), given)

    def _bound(self, name: str, field: Field, bound: str, value: str) -> None:
        _required(name, value)
        self._take_once(name)
        number = _number(name, value, field)
        if bound == "min":
            self._narrow(field, _whole(number, ROUND_CEILING), None)
        else:
            self._narrow(field, None, _whole(number, ROUND_FLOOR))

    def _narrow(self, field: Field, least: int | None, most: int | None) -> None:
        known = self.bounds.get(field.name, Bounds(field))
        lowest = [bound for bound in (known.least, least) if bound is not None]
        highest = [bound for bound in (known.most, most) if bound is not None]
        self.bounds[field.name] = Bounds(field, max(lowest, default=None), min(highest, default=None))

    def _other(self, name: str, value: str) -> None:
        _required(name, value.strip())
        self._take_once(name)
        match name:
            case "from":
                self.found = replace(self.found, since=moments.parse(name, value, self.zone))
            case "to":
                self.found = replace(self.found, until=moments.parse(name, value, self.zone))
            case "q":
                self.found = replace(self.found, text=value)
            case _:
                self.found = replace(self.found, deleted=_deleted(value))

    def _take_once(self, name: str) -> None:
        if name in self.once:
            raise InvalidRequest(f"The parameter '{name}' is given twice; give it once.")
        self.once.add(name)


def parse(
    query: Iterable[tuple[str, str]], *, others: Collection[str] = (), zone: tzinfo = UTC
) -> tuple[Filters, dict[str, str]]:
    """The filters of a query string, and those of its parameters that are ``others``, each once.

    Times without an offset are of ``zone``. Raises :class:`InvalidRequest` for a parameter that is neither, naming the
    one that may be meant, and for a value that cannot be one of its filter.
    """
    parsing = _Parsing(zone)
    rest: dict[str, str] = {}
    for name, value in query:
        if name in others:
            if name in rest:
                raise InvalidRequest(f"The parameter '{name}' is given twice; give it once.")
            rest[name] = value
        elif not parsing.take(name, value):
            raise InvalidRequest(f"Unknown parameter '{name[:100]}'; {_hint(name[:100], others)}.")
    found = parsing.filters()
    if found.since is not None and found.until is not None and found.since >= found.until:
        raise InvalidRequest("The value is invalid for 'from'. Expected a time before 'to'.")
    return found, rest


def _hint(name: str, others: Collection[str]) -> str:
    known = frozenset((*names(), *others, _LABEL))
    prefix, separator, _ = name.partition(":")
    meant = _MEANT.get(prefix)
    found = meant if meant in known else near(prefix, known)
    if found == _LABEL or (separator and prefix not in known):
        found = f"{_LABEL}:NAME"
    if found is None:
        return "GET /openapi.json tells all that there are"
    return f"the nearest known one is {found!r}"


def _label(name: str) -> str | None:
    for prefix in LABEL_PREFIXES:
        if name.startswith(prefix):
            label = name[len(prefix) :]
            if not label:
                raise InvalidRequest(f"The parameter '{name}' names no label; write label:team=search.")
            return label
    return None


def _added(name: str, known: tuple[_Some, ...], given: tuple[_Some, ...]) -> tuple[_Some, ...]:
    values = tuple(dict.fromkeys((*known, *given)))
    if len(values) > _MOST_VALUES:
        raise InvalidRequest(f"The parameter '{name}' has more than {_MOST_VALUES} values.")
    return values


def _value(field: Field, value: str) -> Value:
    if "\0" in value:
        raise InvalidRequest(f"The value is invalid for '{field.name}'. Remove the NUL character.")
    if value == ANY:
        return ANY
    match field.kind:
        case "text" if field.name == "status" and value not in STATUSES:
            raise _wrong("status", f"one of {', '.join(sorted(STATUSES))}", value)
        case "flag":
            flag = _FLAGS.get(value.lower())
            if flag is None:
                raise _wrong(field.name, "true or false", value)
            return flag
        case "reference":
            key = ids.from_text(value)
            if key is None:
                raise _wrong(field.name, "the id of an interaction (int_...)", value)
            return key
        case _:
            return value


def _number(name: str, value: str, field: Field) -> Decimal:
    """In the units of the tables."""
    try:
        number = Decimal(value.strip()[:_LONGEST_NUMBER]) * field.scale
    except ArithmeticError:
        raise _wrong(name, "a number", value) from None
    if not number.is_finite() or abs(number) > _LARGEST:
        raise _wrong(name, f"a number up to {_LARGEST // field.scale}", value)
    return number


def _whole(number: Decimal, rounding: str) -> int:
    return int(number.to_integral_value(rounding))


def _deleted(value: str) -> Deleted:
    chosen = _DELETED.get(value.lower())
    if chosen is None:
        raise _wrong("deleted", "false, true or any", value)
    return chosen


def _required(name: str, value: object) -> None:
    if not value:
        raise InvalidRequest(f"The value is invalid for '{name}'. Expected a value, got nothing.")


def _wrong(name: str, expected: str, value: str) -> InvalidRequest:
    return InvalidRequest(f"The value is invalid for '{name}'. Expected {expected}, got {value[:50]!r}.")
