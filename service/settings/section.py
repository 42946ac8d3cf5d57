"""One mapping of the configuration, read key by key.

Every reading method names the key's dotted path in what it raises, follows `os.environ/NAME`, and takes a
string that spells the wanted type, because an environment variable can hold nothing else. An absent or empty
value is None.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeGuard, TypeVar

from service.errors import ConfigurationError
from service.settings.keys import SECTIONS, Keys
from service.settings.secret import Secret
from service.settings.values import describe, flag, integer, mapping, nearest, number, parse_seconds, strings

_REFERENCE = "os.environ/"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading:
    """What the sections of one load share."""

    #: Where `os.environ/NAME` looks.
    environ: Mapping[str, str]
    #: Dotted paths of keys that mean nothing here.
    ignored: list[str] = field(default_factory=list)


class Section:
    """A mapping of the configuration at a dotted path; its keys are checked when it is made.

    Raises `ConfigurationError` when ``value`` is no mapping or holds a key known neither here nor to LiteLLM.
    ``names`` gives the names of values that are not from the file; ``fallback`` is the section that answers
    for the keys it shares with this one where this one is silent.
    """

    __slots__ = ("_data", "_fallback", "_keys", "_names", "path", "reading")

    def __init__(
        self,
        reading: Reading,
        path: str,
        value: object,
        keys: Keys,
        *,
        names: Mapping[str, str] | None = None,
        fallback: Section | None = None,
    ) -> None:
        self.reading = reading
        self.path = path
        self._keys = keys
        self._names = names or {}
        self._fallback = fallback
        self._data: dict[object, object] = (
            {} if value is None else mapping(path or "the configuration file", value)
        )
        for key in self._data:
            self._check(key)

    def names(self) -> tuple[str, ...]:
        """The keys that are there."""
        return tuple(str(key) for key in self._data)

    def name(self, key: str) -> str:
        """What messages call this key."""
        owner = self._owner(key)
        if owner is not self:
            return owner.name(key)
        return self._names.get(key) or (f"{self.path}.{key}" if self.path else key)

    def raw(self, key: str) -> object:
        """The value as YAML has it."""
        return self._owner(key)._data.get(key)

    def reference(self, key: str) -> str | None:
        """The `os.environ/NAME` that stands for the value, if one does."""
        value = self.raw(key)
        return value if _is_reference(value) else None

    def value(self, key: str, *, unset: str | None = None) -> object:
        """The value after following a reference; ``unset``, if given, replaces a variable that is not set."""
        return self._resolved(self.raw(key), self.name(key), unset)

    def text(self, key: str, *, unset: str | None = None) -> str | None:
        value = self.value(key, unset=unset)
        if value is None:
            return None
        if not isinstance(value, str):
            raise ConfigurationError(
                f"{self.name(key)}: expected a string, got {describe(value)}; put it in quotes"
            )
        return value.strip() or None

    def secret(self, key: str, *, unset: str | None = None) -> Secret | None:
        value = self.text(key, unset=unset)
        return None if value is None else Secret(value)

    def number(self, key: str, *, above: float | None = None, least: float | None = None) -> float | None:
        return self._scaled(key, "a number", number, above, least)

    def seconds(self, key: str, *, above: float | None = None, least: float | None = None) -> float | None:
        """A duration: seconds, or a number with one of the units s, m, h, d, w."""
        return self._scaled(
            key, "seconds or a duration like '30s', '12h', '55d'", parse_seconds, above, least
        )

    def integer(self, key: str, *, least: int = 0, most: int | None = None) -> int | None:
        value = self._converted(key, "an integer", integer)
        if value is not None and (value < least or (most is not None and value > most)):
            limits = f"at least {least}" if most is None else f"between {least} and {most}"
            raise ConfigurationError(f"{self.name(key)}: must be {limits}, got {value}")
        return value

    def flag(self, key: str) -> bool | None:
        return self._converted(key, "a boolean", flag)

    def strings(self, key: str) -> tuple[str, ...] | None:
        value = self.value(key)
        return None if value is None else strings(self.name(key), value)

    def choice(self, key: str, options: tuple[str, ...]) -> str | None:
        value = self.text(key)
        if value is not None and value not in options:
            near = nearest(value, options)
            raise ConfigurationError(
                f"{self.name(key)}: {value!r} is not one of {', '.join(options)}; did you mean {near!r}?"
            )
        return value

    def choices(self, key: str, options: tuple[str, ...], theirs: frozenset[str]) -> tuple[str, ...] | None:
        """Those of ``options`` that are listed; words that mean something to LiteLLM alone are noted as ignored."""
        values = self.strings(key)
        if values is None:
            return None
        for position, value in enumerate(values):
            name = f"{self.name(key)}[{position}]"
            if value in theirs:
                self.reading.ignored.append(f"{name} ({value})")
            elif value not in options:
                known = frozenset(options) | theirs
                raise ConfigurationError(
                    f"{name}: {value!r} is not one of {', '.join([*options, *sorted(theirs)])}; "
                    f"did you mean {nearest(value, known)!r}?"
                )
        return tuple(value for value in values if value in options)

    def _owner(self, key: str) -> Section:
        fallback = self._fallback
        silent = self._data.get(key) is None
        return fallback if silent and fallback is not None and key in fallback._keys.ours else self

    def _scaled(
        self,
        key: str,
        expected: str,
        convert: Callable[[object], float | None],
        above: float | None,
        least: float | None,
    ) -> float | None:
        value = self._converted(key, expected, convert)
        if value is None:
            return None
        if above is not None and value <= above:
            raise ConfigurationError(f"{self.name(key)}: must be more than {above:g}, got {value:g}")
        if least is not None and value < least:
            raise ConfigurationError(f"{self.name(key)}: must be at least {least:g}, got {value:g}")
        return value

    def _converted(self, key: str, expected: str, convert: Callable[[object], T | None]) -> T | None:
        value = self.value(key)
        if value is None or value == "":
            return None
        converted = convert(value)
        if converted is None:
            raise ConfigurationError(f"{self.name(key)}: expected {expected}, got {describe(value)}")
        return converted

    def _resolved(self, value: object, name: str, unset: str | None) -> object:
        if isinstance(value, list):
            return [self._resolved(item, f"{name}[{n}]", unset) for n, item in enumerate(value)]
        if isinstance(value, dict):
            return {key: self._resolved(item, f"{name}.{key}", unset) for key, item in value.items()}
        return self._follow(value, name, unset) if _is_reference(value) else value

    def _follow(self, reference: str, name: str, unset: str | None) -> str:
        variable = reference.removeprefix(_REFERENCE)
        value = self.reading.environ.get(variable) or unset
        if value is None:
            raise ConfigurationError(
                f"{name}: the environment variable {variable} is not set; set it, or write the value here"
            )
        return value

    def _check(self, key: object) -> None:
        keys = self._keys
        if not isinstance(key, str):
            raise ConfigurationError(
                f"{self.path or 'the configuration file'}: the key {key!r} is {describe(key)}; quote it"
            )
        if key in keys.ours:
            return
        if key not in keys.theirs and not keys.free:
            raise ConfigurationError(
                f"{self.name(key)}: unknown to this service and to LiteLLM; {_remedy(key, keys)}"
            )
        if keys.known():
            self.reading.ignored.append(self.name(key))


def _is_reference(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.startswith(_REFERENCE)


def _remedy(key: str, keys: Keys) -> str:
    if not difflib.get_close_matches(key.lower(), keys.known(), n=1, cutoff=0.75):
        homes = [section for section, other in SECTIONS.items() if key in other.known()]
        if homes:
            return f"{key!r} belongs under {homes[0]}"
    return f"the nearest known key is {nearest(key, keys.known())!r}"
