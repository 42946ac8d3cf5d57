"""The filters of lists as options, named as the parameters of ``GET /api/interactions``."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar

import click

_P = ParamSpec("_P")
_R = TypeVar("_R")
#: What gives a command an option.
Option = Callable[[Any], Any]

_VALUES: Final = {
    "status": "Its status, such as completed or failed.",
    "model": "The model that served it.",
    "model_requested": "The model as the caller named it.",
    "agent": "The agent that was asked.",
    "deployment": "The deployment that served it.",
    "project": "Its project.",
    "key_id": "The key that asked.",
    "error_code": "The code of its error.",
    "service_tier": "The service tier.",
    "previous_interaction_id": "The interaction that it follows.",
    "chain": "Any interaction of its conversation.",
    "replay_of": "The interaction that it replays, or 'any'.",
}
_FLAGS: Final = {
    "stream": "Whether it was streamed.",
    "background": "Whether it ran in the background.",
    "store": "Whether its caller wanted it stored.",
}
NUMBERS: Final = (
    "input_tokens",
    "output_tokens",
    "thought_tokens",
    "cached_tokens",
    "tool_use_tokens",
    "total_tokens",
    "http_status",
    "request_bytes",
    "response_bytes",
    "depth",
    "cost",
    "duration",
    "first_event",
)


def _numbers() -> list[str]:
    """A number by itself and its bounds, for each."""
    return [f"{kind}{name}" for name in NUMBERS for kind in ("", "min_", "max_")]


def _spelled(name: str) -> str:
    return f"--{name.replace('_', '-')}"


class _Moment(click.ParamType[str]):
    """A moment as the API takes it."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        # What reads moments is loaded by few commands.
        from service.audit import moments
        from service.errors import InvalidRequest

        try:
            moments.parse(self.name, value)
        except InvalidRequest as error:
            _, _, expected = error.message.partition(". ")
            self.fail(expected, param, ctx)
        return value


def since(parameter: str) -> Option:
    """The option for the earliest moment, as this parameter of the command."""
    return click.option(
        "--since",
        parameter,
        type=_Moment(),
        metavar="TIME",
        help="The earliest: ISO 8601, or how long ago (24h).",
    )


def until(parameter: str) -> Option:
    """The option for the moment before which it must be, as this parameter of the command."""
    return click.option(
        "--until", parameter, type=_Moment(), metavar="TIME", help="The time before which it must be."
    )


def _options(search: bool) -> list[Option]:
    found = [
        since("from"),
        until("to"),
        click.option("--label", multiple=True, metavar="NAME=VALUE", help="A label that it carries."),
    ]
    if search:
        found.append(click.option("--search", "-q", "q", metavar="WORDS", help="Words in input or output."))
    found += [
        click.option(_spelled(name), name, multiple=True, metavar="VALUE", help=meaning)
        for name, meaning in _VALUES.items()
    ]
    found += [
        click.option(f"{_spelled(name)}/{_spelled(f'no_{name}')}", name, default=None, help=meaning)
        for name, meaning in _FLAGS.items()
    ]
    found += [click.option(_spelled(name), name, metavar="N", help="") for name in _numbers()]
    found.append(
        click.option("--deleted", type=click.Choice(["false", "true", "any"]), help="Deleted ones as well.")
    )
    return found


def chosen(*, search: bool = True) -> Callable[[Callable[_P, _R]], Callable[..., _R]]:
    """Give a command the filters as options, and what they say as the argument ``filters``."""

    def decorate(command: Callable[_P, _R]) -> Callable[..., _R]:
        @wraps(command)
        def wrapped(*args: Any, **kwargs: Any) -> _R:
            return command(*args, filters=_taken(kwargs), **kwargs)  # type: ignore[arg-type]

        for option in reversed(_options(search)):
            wrapped = option(wrapped)
        return wrapped

    return decorate


def _taken(kwargs: dict[str, Any]) -> list[tuple[str, str]]:
    """The parameters of the query string; takes the options out of ``kwargs``."""
    filters: list[tuple[str, str]] = []
    for label in kwargs.pop("label"):
        name, _, value = label.partition("=")
        filters.append((f"label:{name}", value or "any"))
    for name in _VALUES:
        filters += [(name, value) for value in kwargs.pop(name)]
    for name in _FLAGS:
        if (flag := kwargs.pop(name)) is not None:
            filters.append((name, str(flag).lower()))
    for name in ("from", "to", "q", "deleted", *_numbers()):
        if (value := kwargs.pop(name, None)) is not None:
            filters.append((name, value))
    return filters
