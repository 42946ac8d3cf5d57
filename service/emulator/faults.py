"""The queue of directives that wait for the requests they match."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from service.emulator.checks import boolean, integer, members, text
from service.emulator.directives import NOTHING, Plan, parse
from service.errors import InvalidRequest

#: Carried out before the body of a request has been read.
UNREAD = "reset_before"


@dataclass(slots=True)
class Fault:
    """A plan for the next requests that match."""

    wish: str
    plan: Plan
    #: Each must hold: method, part of the path, the key, part of the body, whether a stream is asked for.
    method: str | None = None
    path: str | None = None
    key: str | None = None
    contains: bytes | None = None
    stream: bool | None = None
    #: How many requests it still applies to; None for all until the queue is cleared.
    remaining: int | None = 1
    #: How many matching requests it lets pass first.
    skip: int = 0

    def matches(self, method: str, path: str, key: str, body: bytes) -> bool:
        """Whether the request is one that this fault waits for."""
        return (
            (self.method is None or self.method == method)
            and (self.path is None or self.path in path)
            and (self.key is None or self.key == key)
            and (self.contains is None or self.contains in body)
            and (self.stream is None or self.stream == _asks_for_stream(path, body))
        )

    def reads_body(self) -> bool:
        """Whether the body must be there before it can be told whether this matches."""
        return self.contains is not None or self.stream is not None

    def shown(self) -> dict[str, Any]:
        """The fault in the form of the admin API."""
        return {"fault": self.wish, "remaining": self.remaining, "skip": self.skip}


class FaultQueue:
    """Faults in the order in which they were asked for; a request meets the first that matches."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, fault: Fault) -> None:
        """Queue a fault."""
        self._waiting.append(fault)

    def clear(self) -> None:
        """Forget every fault."""
        self._waiting.clear()

    def shown(self) -> list[dict[str, Any]]:
        """The queue in the form of the admin API."""
        return [fault.shown() for fault in self._waiting]

    def take_unread(self, method: str, path: str, key: str) -> bool:
        """Whether the connection is to be reset before the request is read; that fault is then used up."""
        for fault in self._waiting:
            if not fault.reads_body() and fault.matches(method, path, key, b""):
                return UNREAD in fault.plan and not fault.skip and bool(self._use(fault))
        return False

    def take(self, method: str, path: str, key: str, body: bytes) -> Plan:
        """The plan of the first fault that matches, which is used up by one."""
        for fault in self._waiting:
            if fault.matches(method, path, key, body):
                return self._use(fault)
        return NOTHING

    def _use(self, fault: Fault) -> Plan:
        if fault.skip > 0:
            fault.skip -= 1
            return NOTHING
        if fault.remaining is not None:
            fault.remaining -= 1
            if fault.remaining <= 0:
                self._waiting.remove(fault)
        return fault.plan


_match = members({"method": text, "path": text, "key": text, "contains": text, "stream": boolean})
_fault = members({"fault": text, "match": _match, "count": integer, "skip": integer}, required=("fault",))


def fault_of(value: Mapping[str, Any], name: str) -> Fault:
    """The fault that an admin request describes; `name` is its place there.

    Raises InvalidRequest for what cannot be understood.
    """
    _fault(value, "", name)
    plan = parse(value["fault"])
    if not plan:
        raise InvalidRequest(f"'{name}.fault' names no directive.")
    match = value.get("match") or {}
    contains = match.get("contains")
    return Fault(
        wish=value["fault"],
        plan=plan,
        method=match.get("method"),
        path=match.get("path"),
        key=match.get("key"),
        contains=None if contains is None else contains.encode(),
        stream=match.get("stream"),
        remaining=value.get("count", 1) or None,
        skip=value.get("skip") or 0,
    )


def _asks_for_stream(path: str, body: bytes) -> bool:
    return b'"stream":true' in body or b'"stream": true' in body or "stream=true" in path
