"""What two requests have in common, and how a request is made whole again.

A client without state sends the conversation so far with every turn. The *region* of a request is its list of inputs,
from the first element to the end of the last one. Each of its prefixes that ends with an element has a digest, so a
later request whose list begins with the same bytes, its follower, is recognised by one look for its own prefixes, and
is stored without them. They are bytes, not values: a request comes back exactly as it was sent. Digests are keyed with
the project, so that what one project has sent can never stand in for what another one sends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple

from service.errors import StoreError
from service.wire import ids
from service.wire.spans import list_span

#: Bytes of a list from which storing it once is worth a row and a look. What is shorter is not looked for when a chain
#: is read, so a larger number would hide what is stored already.
SHARED_FROM: Final = 2048
#: How many prefixes are looked for: elements that a turn may add to the list of the one before.
PREFIXES: Final = 64
DIGEST_BYTES: Final = 16
_NO_DIGEST: Final = b""


class Base(NamedTuple):
    """An earlier request whose whole region is a prefix of a new one's."""

    id: bytes
    size: int


@dataclass(frozen=True, slots=True)
class Region:
    """Where a request's list lies; ``prefixes`` are the lengths of its last prefixes, itself among them, by digest."""

    start: int
    size: int
    digest: bytes
    prefixes: Mapping[bytes, int]

    def row(self, key: bytes, base: Base | None) -> tuple[bytes, bytes, int, int, bytes | None]:
        """The members in the order of ``INSERT_INPUT``.

        A request that only repeats its base has no digest: it is nobody's base, so a thousand repetitions lie beside
        each other and not behind one another, and none of them has to be looked through.
        """
        repeats = base is not None and base.size == self.size
        digest = _NO_DIGEST if repeats else self.digest
        return (key, digest, self.start, self.size, None if base is None else base.id)

    def without(self, base: Base, request: bytes) -> bytes:
        """The request as it is stored."""
        return request[: self.start] + request[self.start + base.size :]


def region_of(project_id: bytes, request: bytes) -> Region | None:
    """The region of a request; None when its ``input`` is no list or a short one."""
    span = list_span(request, "input")
    if span is None or span.ends[-1] - span.start < SHARED_FROM:
        return None
    view = memoryview(request)
    hashed = _hash(project_id)
    prefixes: dict[bytes, int] = {}
    place, first = span.start, len(span.ends) - PREFIXES
    for number, end in enumerate(span.ends):
        hashed.update(view[place:end])
        place = end
        if number >= first and end - span.start >= SHARED_FROM:
            prefixes[hashed.digest()] = end - span.start
    return Region(span.start, place - span.start, hashed.digest(), prefixes)


class Stored(NamedTuple):
    """A request as it is stored; one that was not worth sharing has no region."""

    project_id: bytes
    digest: bytes | None
    start: int | None
    size: int | None
    base_id: bytes | None
    body: bytes


def whole_requests(stored: Mapping[bytes, Stored], wanted: Iterable[bytes]) -> dict[bytes, bytes]:
    """The wanted requests as they were sent; what is not stored is left out. Takes time linear in what comes out.

    Raises :class:`StoreError` naming the request whose base is missing or not what it was.
    """
    found = {key: stored[key] for key in wanted if key in stored}
    whole: dict[bytes, bytes] = {}
    # Of a row of requests that build on one another the longest holds all others' regions.
    regions: dict[bytes, bytes] = {}
    for key, request in sorted(found.items(), key=lambda item: -(item[1].size or 0)):
        if request.base_id is None:
            whole[key] = request.body
            continue
        region = _region(stored, regions, key)
        start, base_size = request.start or 0, stored[request.base_id].size or 0
        whole[key] = b"".join((request.body[:start], region, request.body[start + len(region) - base_size :]))
    return whole


def _region(stored: Mapping[bytes, Stored], regions: dict[bytes, bytes], tip: bytes) -> bytes:
    """The region of a request that has a base; it becomes the region of all its bases that have none yet."""
    parts: list[memoryview] = []
    lineage: list[bytes] = []
    key: bytes | None = tip
    while key is not None and key not in regions:
        request = stored.get(key)
        # Damage may lead in a circle.
        circles = len(lineage) == len(stored)
        if request is None or request.start is None or request.size is None or circles:
            raise _damaged(tip)
        base = stored.get(request.base_id or b"")
        end = request.start + request.size - ((base.size or 0) if base is not None else 0)
        if not request.start <= end <= len(request.body):
            raise _damaged(tip)
        parts.append(memoryview(request.body)[request.start : end])
        lineage.append(key)
        key = request.base_id
    if key is not None:
        parts.append(memoryview(regions[key])[: stored[key].size])
    region = b"".join(reversed(parts))
    _check(stored, tip, region)
    regions.update(dict.fromkeys(lineage, region))
    return region


def _check(stored: Mapping[bytes, Stored], key: bytes, region: bytes) -> None:
    request = stored[key]
    digest = request.digest or stored[request.base_id or b""].digest
    if len(region) != request.size or _hash(request.project_id, region).digest() != digest:
        raise _damaged(key)


def _hash(project_id: bytes, data: bytes = b"") -> blake2b:
    return blake2b(data, digest_size=DIGEST_BYTES, key=project_id)


def _damaged(key: bytes) -> StoreError:
    return StoreError(
        f"The stored request of the interaction {ids.to_text(key)} is damaged: what it has in common with an earlier "
        "one is missing or not what it was."
    )
