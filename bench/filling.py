"""Fills databases with conversations: rows as the service writes them, put in past it by the drivers' bulk loads.

Interactions are spread evenly over the last :data:`DAYS` days. Ordinary ones belong to conversations of mixed length
that run side by side; the chains to be measured have their links between them, so that each link lies on pages of its
own, in whatever partition its day has.
"""

from __future__ import annotations

import random
import sqlite3
import uuid
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from operator import attrgetter, itemgetter
from typing import Any, Protocol

import asyncpg
import orjson
from sqlalchemy import Boolean

from bench.dictionary import WORDS
from bench.mock_upstream import answer_body
from service.store.codec import Codec
from service.store.records import USAGE_FINAL, Intent, Outcome, Usage, now
from service.store.statements import FINISH, INSERT_INTENT
from service.store.tables import (
    DEFAULT_PROJECT,
    NOBODY,
    REQUEST_PAYLOAD,
    RESPONSE_PAYLOAD,
    interactions,
    payloads,
)

DAYS = 60
REQUEST_SIZE = 1024
ANSWER_SIZE = 2048

_CHUNK = 20_000
#: Bodies are chosen from so many different ones of each kind: packing a million would take longer than storing them.
_BODIES = 2_000
#: Conversations that run side by side, and how many turns one has.
_OPEN = 5_000
_LENGTHS = (1, 1, 1, 2, 3, 5, 10, 30)

Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an interaction stands: in time, and in its conversation."""

    created_at: int
    key: bytes
    previous: bytes | None
    root: bytes | None
    depth: int


class Filling(Protocol):
    """A database that takes rows in bulk."""

    async def put(self, table: str, names: Sequence[str], rows: Sequence[Row]) -> None:
        """Append rows."""

    async def finish(self) -> None:
        """Make what was put in ready for queries."""


class SqliteFilling:
    """A migrated SQLite file."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None)
        self._connection.execute("PRAGMA synchronous = OFF")
        self._connection.execute("PRAGMA cache_size = -500000")

    async def put(self, table: str, names: Sequence[str], rows: Sequence[Row]) -> None:
        self._connection.execute("BEGIN")
        places = ", ".join("?" * len(names))
        self._connection.executemany(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({places})", rows)
        self._connection.execute("COMMIT")

    async def finish(self) -> None:
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._connection.close()


class PostgresFilling:
    """A migrated PostgreSQL database with the partitions of the last :data:`DAYS` days."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self._connection = connection
        self._flags = {c.name for c in interactions.columns if isinstance(c.type, Boolean)}

    @classmethod
    async def open(cls, url: str) -> PostgresFilling:
        """Connect; keys travel as 16 bytes."""
        connection = await asyncpg.connect(url, server_settings={"synchronous_commit": "off"})
        await connection.set_type_codec(
            "uuid", schema="pg_catalog", format="binary", encoder=lambda key: key, decoder=bytes
        )
        return cls(connection)

    async def put(self, table: str, names: Sequence[str], rows: Sequence[Row]) -> None:
        flags = [place for place, name in enumerate(names) if name in self._flags]
        if flags:
            rows = [_with_flags(row, flags) for row in rows]
        await self._connection.copy_records_to_table(table, records=rows, columns=names)

    async def execute(self, statement: str) -> None:
        """Run a statement that bulk loads need."""
        await self._connection.execute(statement)

    async def finish(self) -> None:
        await self._connection.execute("VACUUM (ANALYZE)")
        await self._connection.execute("CHECKPOINT")
        await self._connection.close()


def _with_flags(row: Row, flags: Sequence[int]) -> Row:
    values = list(row)
    for place in flags:
        values[place] = bool(values[place])
    return tuple(values)


def key_at(moment: int, source: random.Random) -> bytes:
    """A UUIDv7 of a moment in microseconds (RFC 9562 5.7), not unique within one but as good as."""
    bits = (moment // 1000) << 80 | 0x7 << 76 | moment % 1000 << 66 | 0b10 << 62 | source.getrandbits(62)
    return uuid.UUID(int=bits).bytes


def conversations(count: int, source: random.Random, first: int, last: int) -> Iterator[Place]:
    """``count`` interactions in order of time, in conversations of mixed length."""
    latest: list[Place | None] = [None] * _OPEN
    left = [0] * _OPEN
    for number in range(count):
        moment = first + (last - first) * number // count
        slot = source.randrange(_OPEN)
        if left[slot] == 0:
            latest[slot], left[slot] = None, source.choice(_LENGTHS)
        left[slot] -= 1
        latest[slot] = place = _after(latest[slot], moment, source)
        yield place


def long_chain(depth: int, source: random.Random, first: int, last: int) -> list[Place]:
    """One conversation of ``depth`` turns, spread evenly."""
    links: list[Place] = []
    for number in range(depth):
        moment = first + (last - first) * (2 * number + 1) // (2 * depth) + source.randrange(1000)
        links.append(_after(links[-1] if links else None, moment, source))
    return links


def _after(previous: Place | None, moment: int, source: random.Random) -> Place:
    key = key_at(moment, source)
    if previous is None:
        return Place(moment, key, None, None, 0)
    return Place(moment, key, previous.key, previous.root or previous.key, previous.depth + 1)


def prose(source: random.Random, size: int) -> str:
    """Words to the length of ``size``."""
    return " ".join(source.choices(WORDS, k=size // 3))[:size]


def request_body(source: random.Random) -> bytes:
    """A create of about 1 KB."""
    body = {"model": "gemini-2.5-flash", "input": ""}
    body["input"] = prose(source, REQUEST_SIZE - len(orjson.dumps(body)))
    return orjson.dumps(body)


def response_body(source: random.Random) -> bytes:
    """The mock upstream's answer of about 2 KB, in words and with a signature of its own."""
    answer = orjson.loads(answer_body(ANSWER_SIZE))
    thought, output = answer["steps"]
    thought["signature"] = b64encode(source.randbytes(93)).decode()
    output["content"][0]["text"] = prose(source, len(output["content"][0]["text"]))
    return orjson.dumps(answer)


async def fill(
    fillings: Sequence[Filling], count: int, depths: Mapping[int, int], *, seed: int
) -> dict[int, list[bytes]]:
    """Put ``count`` interactions, and for each depth so many chains of it, into all databases alike.

    Returns the newest keys of the chains of each depth.
    """
    source = random.Random(seed)
    last = now()
    first = last - DAYS * 86_400_000_000
    chains = {
        depth: [long_chain(depth, source, first, last) for _ in range(n)] for depth, n in depths.items()
    }
    measured = sorted(
        (place for several in chains.values() for chain in several for place in chain),
        key=attrgetter("created_at"),
    )
    everything = merge(conversations(count, source, first, last), measured, key=attrgetter("created_at"))
    rows = Rows(source)
    while chunk := list(islice(everything, _CHUNK)):
        records = [rows.interaction(place) for place in chunk]
        bodies = [row for place in chunk for row in rows.payloads(place)]
        for filling in fillings:
            await filling.put("interactions", rows.names, records)
            await filling.put("payloads", [column.name for column in payloads.columns], bodies)
    for filling in fillings:
        await filling.finish()
    return {depth: [chain[-1].key for chain in several] for depth, several in chains.items()}


class Rows:
    """Makes the rows of completed interactions, as the store's own statements would write them."""

    def __init__(self, source: random.Random) -> None:
        codec = Codec()
        self._source = source
        self._requests = [request_body(source) for _ in range(_BODIES)]
        self._responses = [response_body(source) for _ in range(_BODIES)]
        self._packed_requests = codec.pack(self._requests)
        self._packed_responses = codec.pack(self._responses)
        written = [*INSERT_INTENT.columns, *FINISH.columns]
        places = {column.name: place for place, column in enumerate(written)}
        self.names = list(places)
        self._choose = itemgetter(*places.values())

    def interaction(self, place: Place) -> Row:
        """The row of one interaction, after its outcome."""
        intent = Intent(
            id=place.key,
            project_id=DEFAULT_PROJECT,
            key_id=None,
            previous_id=place.previous,
            root_id=place.root,
            depth=place.depth,
            created_at=place.created_at,
            revision=1,
            stream=False,
            background=False,
            store=True,
            model_requested="gemini-2.5-flash",
            agent=None,
            labels=None,
            deployment_id="flash",
            upstream_stored=True,
            owner_id=NOBODY,
        )
        outcome = Outcome(
            id=place.key,
            deployment_id="flash",
            upstream_id=f"v1_{self._source.getrandbits(256):064x}",
            upstream_stored=True,
            status="completed",
            model="gemini-2.5-flash",
            service_tier="standard",
            http_status=200,
            error_code=None,
            error_message=None,
            attempts=None,
            updated_at=place.created_at + 2_000_000,
            first_byte_at=place.created_at + 2_000_000,
            completed_at=place.created_at + 2_000_000,
            usage=Usage(USAGE_FINAL, 7, 20, 22, 0, 0, 49),
            owner_id=NOBODY,
        )
        row: Row = self._choose(intent.row(REQUEST_SIZE) + outcome.row(ANSWER_SIZE))
        return row

    def payloads(self, place: Place) -> tuple[Row, Row]:
        """The rows of its two bodies."""
        request = self._packed_requests[self._source.randrange(_BODIES)]
        response = self._packed_responses[self._source.randrange(_BODIES)]
        return (place.key, REQUEST_PAYLOAD, *request), (place.key, RESPONSE_PAYLOAD, *response)
