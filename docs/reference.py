"""Writes the reference of the Python SDK from its docstrings: `python -m docs.reference`, or `make docs`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import service
from service.sdk.filters import ListCall, ListFilters
from service.sdk.models import ErrorDetail, ModalityTokens, Model
from service.sdk.opening import BaseClient
from service.sdk.params import CallOptions, Connection, CreateCall, CreateFields, CreateOptions, PlainCall
from service.sdk.replays import ReplayCall, ReplayChanges

PATH = Path(__file__).with_name("sdk.md")

_HEAD = """\
# Reference of the Python SDK

All names are imported from `service`. Written by `make docs` from the docstrings; README has the examples.
"""
_ARGUMENTS = (CreateFields, CallOptions, CreateOptions, Connection, ListFilters, ReplayChanges)
_CALLS = (CreateCall, PlainCall, ListCall, ReplayCall)
_ROLE = re.compile(r":\w+:`~?(?:[a-z_]+\.)*([\w.]+)`")
_FIELD = re.compile(r"    (\w+): (.+?)(?: = .*)?$")


def reference() -> str:
    """The page."""
    names: list[Any] = [getattr(service, name) for name in service.__all__ if name != "StreamEvent"]
    classes = [named for named in names if inspect.isclass(named)]
    errors = [named for named in classes if issubclass(named, service.InteractionsError)]
    events = [named for named in classes if issubclass(named, service.Event)]
    clients: list[type[Any]] = [service.InteractionsClient, service.AsyncInteractionsClient]
    models = [named for named in classes if issubclass(named, Model) and named not in events]
    rest = [named for named in classes if named not in (*errors, *events, *clients, *models)]
    functions = [named for named in names if inspect.isfunction(named)]
    sections = [
        ("Functions", [_function(named) for named in functions]),
        ("Clients", [_class(named) for named in clients]),
        ("Arguments", [*map(_fields, _ARGUMENTS), *map(_call, _CALLS)]),
        ("Interactions", [*map(_class, models), _class(ModalityTokens), _class(ErrorDetail)]),
        ("Streams, lists and replays", [_class(named) for named in rest]),
        ("Events", [_class(named) for named in events]),
        ("Errors", [_class(named) for named in sorted(errors, key=_depth)]),
    ]
    return "\n".join([_HEAD, *("\n".join([f"## {title}\n", *parts]) for title, parts in sections)])


def _depth(kind: type) -> tuple[int, str]:
    return len(kind.__mro__), kind.__name__


def _function(function: Callable[..., Any]) -> str:
    return f"### `{function.__name__}{_signature(function)}`\n\n{_text(function)}\n"


def _class(kind: type[Any]) -> str:
    bases = ", ".join(
        base.__name__
        for base in kind.__bases__
        if base.__module__.startswith("service.") and base.__name__[0] != "_"
    )
    told = f"({bases})" if bases else ""
    if issubclass(kind, BaseClient):
        told = _signature(kind.__init__).partition(" ->")[0]
    parts = [f"### `{kind.__name__}{told}`\n\n{_text(kind)}\n"]
    described = list(_described(kind))
    if described:
        parts.append("\n".join(described) + "\n")
    parts += [
        f"* `{name}{_signature(member)}`: {_text(member)}"
        for name, member in inspect.getmembers(kind, inspect.isfunction)
        if name[0] != "_" and member.__module__.startswith("service.") and name != "of"
    ]
    parts += [
        f"* `{name}`: {_text(member)}"
        for name, member in inspect.getmembers(kind, lambda member: isinstance(member, property))
        if (member.fget.__module__ or "").startswith("service.")
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def _fields(kind: type[Any]) -> str:
    return f"### `{kind.__name__}`\n\n{_text(kind)}\n\n" + "\n".join(_described(kind)) + "\n"


def _call(kind: type[Any]) -> str:
    head = inspect.getsource(kind).partition(", total=")[0]
    bases = " and ".join(f"`{name}`" for name in re.findall(r"\b[A-Z]\w+", head)[1:])
    return f"### `{kind.__name__}`\n\n{_text(kind)} These are {bases}.\n"


def _described(kind: type[Any]) -> Iterator[str]:
    """The fields that a class declares, with the comments before them."""
    comment: list[str] = []
    for line in inspect.getsource(kind).splitlines():
        if line.startswith("    #:"):
            comment.append(line.removeprefix("    #:").strip())
        elif (found := _FIELD.fullmatch(line)) and found[1][0] != "_":
            told = f": {_plain(' '.join(comment))}" if comment else ""
            yield f"* `{found[1]}: {found[2]}`{told}"
            comment = []
        elif line.strip():
            comment = []


def _signature(function: Callable[..., Any]) -> str:
    signature = inspect.signature(function)
    parameters = [parameter for name, parameter in signature.parameters.items() if name != "self"]
    return str(signature.replace(parameters=parameters)).replace("'", "")


def _text(documented: Any) -> str:
    return _plain(" ".join((inspect.getdoc(documented) or "").split()))


def _plain(text: str) -> str:
    """Markdown of what docstrings are written in."""
    return _ROLE.sub(r"`\1`", text.replace("``", "`"))


if __name__ == "__main__":
    PATH.write_text(reference(), "utf-8")
