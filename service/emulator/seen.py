"""Every request that the emulator has seen, so that a test can compare it with what should have been sent.

Counts are exact and unbounded. What is kept of a request is small and shares its body with the record it
made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

#: Headers that are kept, besides all that begin with `x-`.
_KEPT = frozenset({"accept", "api-revision", "content-length", "content-type", "traceparent", "user-agent"})
_MOST_COMMON = 1000
_KEY_IN_QUERY = re.compile(r"(^|&)key=[^&]*")
_SECRET = frozenset({"x-goog-api-key", "x-api-key"})


@dataclass(slots=True)
class Seen:
    """One request; `order` counts from 1."""

    order: int
    at: float
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    key: str
    body: bytes = b""
    #: The status that was answered, and the interaction that was made; None if there was none.
    status: int | None = None
    interaction: str | None = None

    def shown(self) -> dict[str, Any]:
        """The request in the form of the admin API; of the key only the end is shown."""
        return {
            "order": self.order,
            "at": self.at,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": dict(self.headers),
            "key": self.key[-4:],
            "body": _body(self.body),
            "status": self.status,
            "interaction": self.interaction,
        }


class SeenRequests:
    """The requests in the order of their arrival."""

    def __init__(self, *, keep: bool) -> None:
        self._keep = keep
        self._requests: list[Seen] = []
        self._counts: Counter[str] = Counter()
        self._order = 0
        self._common: dict[tuple[str, str], tuple[str, str]] = {}

    def note(
        self, at: float, method: str, path: str, query: str, headers: Mapping[str, str], key: str
    ) -> Seen:
        """Take down that a request has arrived."""
        self._order += 1
        self._counts[method] += 1
        kept = self._worth_keeping(headers) if self._keep else ()
        query = _KEY_IN_QUERY.sub(r"\1key=...", query) if query else query
        seen = Seen(self._order, at, method, path, query, kept, key)
        if self._keep:
            self._requests.append(seen)
        return seen

    def counts(self) -> dict[str, Any]:
        """How many requests there were, in all and by method."""
        return {"count": self._order, "by_method": dict(self._counts)}

    def after(self, order: int, limit: int | None) -> list[Seen]:
        """The requests that are kept and came after `order`, at most `limit` of them."""
        first = self._requests[0].order if self._requests else 1
        start = max(0, order + 1 - first)
        return self._requests[start : None if limit is None else start + limit]

    def _worth_keeping(self, headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """The headers that are kept; what many requests have in common is stored once."""
        kept = []
        for name, value in headers.items():
            lowered = name.lower()
            if (lowered in _KEPT or lowered.startswith("x-")) and lowered not in _SECRET:
                pair = (lowered, value)
                if len(self._common) < _MOST_COMMON:
                    self._common.setdefault(pair, pair)
                kept.append(self._common.get(pair, pair))
        return tuple(kept)

    def clear(self) -> None:
        """Begin again at nothing."""
        self._requests.clear()
        self._counts.clear()
        self._order = 0


def _body(raw: bytes) -> Any:
    """The body as JSON if it is JSON, else as text."""
    if not raw:
        return None
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError:
        return raw.decode(errors="replace")
