"""The language in which faults and unusual behaviour are asked for.

A directive is `name;param=value;param=value`; several are separated by commas. Tests send them in the request
headers `x-emulator-fault` and `x-emulator-behavior` (a proxy under test must pass headers that begin with
`x-emulator-` on), or queue them through the admin API. Prompts never carry them.

Every directive and parameter that exists is in `VOCABULARY`, with the parameter's default.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import inf
from typing import Final

from service.errors import InvalidRequest

Value = str | int | float | bool

#: Faults: the way to and from the model misbehaves.
FAULTS: dict[str, dict[str, Value]] = {
    # Wait before anything else happens.
    "latency": {"seconds": 1.0},
    # Refuse with a status. `shape` is steps or classic (contract 7.1, 7.3); `retry_after` sets the header
    # and, in the classic shape, RetryInfo; `retry_delay` sets RetryInfo alone; with `done` the request is
    # carried out all the same.
    "status": {
        "code": 500,
        "shape": "steps",
        "retry_after": "",
        "retry_delay": "",
        "error": "",
        "message": "",
        "done": False,
    },
    # Answer with a page of HTML instead; or carry the request out and send JSON that breaks off, or nothing.
    "html": {"code": 502, "done": False},
    "broken_json": {"code": 200},
    "empty": {"code": 200},
    # Reset the connection before the request is read, after it was carried out, or once the headers have been
    # sent.
    "reset_before": {},
    "reset_after": {},
    "reset_headers": {},
    # Send the body in small pieces.
    "trickle": {"bytes": 16, "seconds": 0.01},
    # After so many events: abort the body (`partial`: inside the next event; `reset`: reset the connection), say
    # nothing more, end the body politely, append a JSON error array, or send an `error` event and then end.
    "cut": {"after": 3, "partial": False, "reset": False},
    "stall": {"after": 3},
    "end": {"after": 3},
    "malformed_tail": {"after": 3},
    "error_event": {
        "after": 3,
        "code": "gateway_timeout",
        "message": "Deadline expired before operation could complete.",
    },
    # Cut this stream after so many seconds of the emulator's clock; `tail` is array or abort (contract 4.6).
    "limit": {"seconds": 600.0, "tail": "array"},
    # Leave out the final `done` block.
    "no_done": {},
    # Write events without `event_type`, with CRLF line ends, or with comments between them.
    "missing_event_type": {},
    "crlf": {},
    "comments": {},
    # Leave `usage` out of the answer; GET shows it again after so many seconds or so many GETs.
    "missing_usage": {"seconds": 0.0, "gets": 0},
    # Answer GETs of the new interaction with 404 for so many seconds, or so many times; once if neither is
    # given.
    "not_found_after_create": {"seconds": 0.0, "gets": 0},
    # Treat the interaction that the request names as lost: 404, 410, or the bare 400 (contract 6).
    "stale": {"code": 404},
    # Lose the new interaction at once.
    "forget": {},
    # Answer with flat `outputs`, as Lyria may (contract 1.4). A stream has them in its last event, and no steps:
    # with `thoughts` the steps that outputs leave out, with `repeated` all of them.
    "flat_outputs": {"thoughts": False, "repeated": False},
}

#: Behaviour: the model does something a model may do.
BEHAVIORS: dict[str, dict[str, Value]] = {
    # Spread the answer over so many interactions by `requires_continuation` (contract 4.7).
    "continuation": {"hops": 2},
    # Offer a `continuation_token` inside the stream after so many events.
    "checkpoint": {"after": 6},
    # End as `failed`, `incomplete` or `budget_exceeded` (contract 3.4).
    "failed": {"code": "api_error", "message": "The model has failed."},
    "incomplete": {},
    "budget_exceeded": {},
    # Refuse the content (contract 7.2).
    "blocked": {"code": "safety"},
    # Call the functions again although results are there.
    "call": {},
    # Send signatures in so many fragments.
    "fragments": {"count": 2},
    # Put an `event_id` on every event of a foreground stream.
    "event_ids": {},
    # Several `model_output` steps with a picture and thoughts between them.
    "story": {},
    # Steps, events, deltas and members of types that no schema knows.
    "unknown": {},
    # Separate lines by a raw U+2028 and U+0085 inside the text.
    "u2028": {},
    # Make the text at least this long.
    "length": {"bytes": 2048},
    # A background run with its own times, or one that never ends.
    "background": {"queued": 1.0, "running": 2.0},
    "zombie": {},
}

VOCABULARY: dict[str, dict[str, Value]] = {**FAULTS, **BEHAVIORS}

#: The statuses of whole answers.
_CODES: Final = range(200, 600)
#: Nothing can be divided into fewer parts.
_LEAST: Final = {"hops": 1, "count": 1}


@dataclass(frozen=True, slots=True)
class Directive:
    """One thing asked for, with every parameter it has."""

    name: str
    params: Mapping[str, Value]

    def text(self, name: str) -> str:
        """A parameter as text."""
        return str(self.params[name])

    def flag(self, name: str) -> bool:
        """A parameter as a truth value."""
        return bool(self.params[name])

    def integer(self, name: str) -> int:
        """A parameter as an integer."""
        return int(self.params[name])

    def number(self, name: str) -> float:
        """A parameter as a number."""
        return float(self.params[name])


class Plan:
    """What one request has been asked to meet with; usually nothing."""

    __slots__ = ("_directives",)

    def __init__(self, directives: Mapping[str, Directive] | None = None) -> None:
        self._directives = directives or {}

    def __bool__(self) -> bool:
        return bool(self._directives)

    def __contains__(self, name: str) -> bool:
        return name in self._directives

    def __iter__(self) -> Iterator[str]:
        return iter(self._directives)

    def get(self, name: str) -> Directive | None:
        """The directive of that name, if it was asked for."""
        return self._directives.get(name)

    def merged(self, other: Plan) -> Plan:
        """Both plans; `other` wins where they disagree."""
        return Plan({**self._directives, **other._directives}) if other else self


NOTHING = Plan()


def parse(text: str) -> Plan:
    """The plan that `text` describes.

    Raises InvalidRequest for names, parameters and values that do not exist.
    """
    directives = {}
    for part in text.split(","):
        if part.strip():
            directive = _directive(part.strip())
            directives[directive.name] = directive
    return Plan(directives)


def _directive(text: str) -> Directive:
    name, *assignments = (piece.strip() for piece in text.split(";"))
    defaults = VOCABULARY.get(name)
    if defaults is None:
        raise InvalidRequest(f"The emulator knows no directive '{name}'. It knows: {', '.join(VOCABULARY)}.")
    params = dict(defaults)
    for assignment in assignments:
        param, _, value = assignment.partition("=")
        if param not in defaults:
            known = ", ".join(defaults) or "none"
            raise InvalidRequest(f"The directive '{name}' has no parameter '{param}'. It has: {known}.")
        params[param] = _value(name, param, value, defaults[param])
    return Directive(name, params)


def _value(name: str, param: str, text: str, default: Value) -> Value:
    if isinstance(default, bool):
        return text.lower() in ("1", "true", "yes")
    if isinstance(default, str):
        return text
    try:
        value = type(default)(text)
    except ValueError:
        raise _no_value(name, param, text) from None
    if not _LEAST.get(param, 0) <= value < inf or (param == "code" and value not in _CODES):
        raise _no_value(name, param, text)
    return value


def _no_value(name: str, param: str, text: str) -> InvalidRequest:
    return InvalidRequest(f"'{text}' is no value for the parameter '{param}' of '{name}'.")
