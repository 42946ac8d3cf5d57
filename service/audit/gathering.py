"""Finds what waits to be derived from, and works out what each interaction gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any, Final

import orjson
from sqlalchemy import BindParameter, Select, SmallInteger, literal, literal_column, select, text

from service.audit import derivation, measures, series, terms, texts
from service.audit.derivation import Derived
from service.audit.measures import Modalities
from service.audit.prices import Prices
from service.audit.summaries import TOKENS
from service.errors import StoreError
from service.store.codec import Codec
from service.store.records import USAGE_MISSING
from service.store.reports import Reading
from service.store.statement import Query, key_parameters, named_keys
from service.store.tables import REQUEST_PAYLOAD, RESPONSE_PAYLOAD, Key, inputs, interactions, payloads
from service.store.tables import series as series_table
from service.wire import codec

#: Interactions of one transaction, beside other work and when much waits and nothing else does; bytes of their bodies
#: that are in memory at once (but for a larger one alone).
AT_ONCE: Final = 8
MANY_AT_ONCE: Final = 64
_BYTES_AT_ONCE: Final = 8 * 1024 * 1024
_FIRST_KEY: Final = bytes(16)
#: The condition of the index, word for word.
WAITING: Final = text("derived_state IN (0, 3)")

#: The columns that anything is derived from.
COLUMNS: Final = (
    "id",
    "project_id",
    "key_id",
    "replay_of",
    "depth",
    "created_at",
    "first_byte_at",
    "completed_at",
    "deleted_at",
    "stream",
    "background",
    "store",
    "model_requested",
    "model",
    "agent",
    "labels",
    "deployment_id",
    "status",
    "service_tier",
    "http_status",
    "error_code",
    "attempts",
    "usage_state",
    "usage_detail",
    "cost_nanos",
    "derived_state",
    "series_id",
    "request_bytes",
    "response_bytes",
    *TOKENS,
)

Row = dict[str, Any]


def waiting_after(key: bytes, limit: int) -> Select[Any]:
    """Those that have ended and wait, in the order of keys."""
    return (
        select(*(interactions.c[name] for name in COLUMNS))
        .where(WAITING, interactions.c.completed_at.is_not(None), interactions.c.id > literal(key, Key))
        .order_by(interactions.c.id)
        .limit(limit)
    )


@cache
def _oldest(count: int) -> Query:
    return Query(f"oldest {count} that wait", waiting_after(_FIRST_KEY, count))


def rows_of(found: Sequence[Sequence[Any]]) -> list[Row]:
    """Rows of :data:`COLUMNS` by the names of their columns."""
    return [dict(zip(COLUMNS, row, strict=True)) for row in found]


class Gathering:
    """Reads batches in the order of keys, from the oldest on again once the newest is reached."""

    def __init__(self, packing: Codec, prices: Prices) -> None:
        self._packing = packing
        self._prices = prices

    async def next(self, reading: Reading, most: int = AT_ONCE) -> tuple[list[Row], list[Sequence[Any]]]:
        """The rows of the next batch, and the bodies of those that have any; no rows when nothing waits."""
        found = rows_of(await reading.ask(_oldest(most), {}))
        rows: list[Row] = []
        size = 0
        for row in found:
            size += (row["request_bytes"] or 0) + (row["response_bytes"] or 0)
            if rows and size > _BYTES_AT_ONCE:
                break
            rows.append(row)
        if not rows:
            return [], []
        await self._add_series(reading, rows)
        keys = [row["id"] for row in rows]
        return rows, list(await reading.ask(_bodies(len(keys)), named_keys(keys)))

    async def _add_series(self, reading: Reading, rows: Sequence[Row]) -> None:
        """What those whose usage came late were counted under: their own labels may be gone."""
        wanted = {row["series_id"] for row in rows if is_late(row)}
        if not wanted:
            return
        found = await reading.fetch(select(series_table).where(series_table.c.id.in_(wanted)))
        known = {row[0]: series.of_columns(row[1:]) for row in found}
        for row in rows:
            if is_late(row):
                row["series"] = known[row["series_id"]]

    def derived(self, rows: Sequence[Row], bodies: Sequence[Sequence[Any]]) -> list[Derived]:
        """What the interactions give; may be called in a thread."""
        by_key: dict[bytes, dict[int, Sequence[Any]]] = {}
        for body in bodies:
            by_key.setdefault(body[0], {})[body[1]] = body
        return [self._one(row, by_key.get(row["id"], {})) for row in rows]

    def figures(self, row: Row, answer: Sequence[Any] | None) -> tuple[int | None, str | None]:
        """What an interaction costs, in billionths of a dollar, and its usage as upstream told it, as JSON.

        ``answer`` is its answer as :func:`bodies_of` tells it.
        """
        return self._figures(row, self.unpacked(answer))[:2]

    def _figures(self, row: Row, response: bytes | None) -> tuple[int | None, str | None, Modalities]:
        if not is_counted(row):
            return None, row["usage_detail"], {}
        detail = usage_detail(row, response)
        modalities = modalities_of(detail)
        return self._prices.of_row(row, modalities), detail, modalities

    def _one(self, row: Row, bodies: Mapping[int, Sequence[Any]]) -> Derived:
        response = self.unpacked(bodies.get(RESPONSE_PAYLOAD))
        cost, detail, modalities = self._figures(row, response)
        priced = {**row, "cost_nanos": cost}
        late = is_late(row)
        full = row["series"] if late else series.of_row(row)
        added = measures.of_late_usage if late else measures.of_outcome
        return Derived(
            id=row["id"],
            project_id=row["project_id"],
            old_state=row["derived_state"],
            old_usage_state=row["usage_state"],
            state=derivation.WITHOUT_USAGE if row["usage_state"] == USAGE_MISSING else derivation.WHOLE,
            series=series.all_grains(full),
            cost_nanos=cost,
            usage_detail=detail,
            terms=frozenset(terms.of_usage(priced) if late else terms.of_row(priced)),
            document=None if late else self._document(row, bodies, response),
            measures=added(priced, modalities) if is_counted(row) else None,
        )

    def _document(
        self, row: Row, bodies: Mapping[int, Sequence[Any]], response: bytes | None
    ) -> tuple[str, str] | None:
        if row["deleted_at"] is not None:
            return None
        request = bodies.get(REQUEST_PAYLOAD)
        asked = ""
        if request is not None and (raw := self.unpacked(request)) is not None:
            start, base_id = request[5], request[6]
            asked = texts.of_request(raw, start=None if base_id is None else start)
        return asked, "" if response is None else texts.of_response(response)

    def unpacked(self, body: Sequence[Any] | None) -> bytes | None:
        """A body of :func:`bodies_of`; None without one, or where it is damaged."""
        if body is None:
            return None
        try:
            return self._packing.unpack(body[2], body[3], body[4])
        except StoreError:
            # What is damaged cannot be searched; it is told to whoever reads the interaction.
            return None


@cache
def _bodies(count: int) -> Query:
    """Requests and answers of so many interactions."""
    chosen = _bodies_of(key_parameters(count), REQUEST_PAYLOAD, RESPONSE_PAYLOAD)
    return Query(f"bodies of {count}", chosen)


@cache
def answers(count: int) -> Query:
    """The answers of so many interactions, as :func:`bodies_of` tells them."""
    return Query(f"answers of {count}", _bodies_of(key_parameters(count), RESPONSE_PAYLOAD))


def by_size(rows: Sequence[Row], column: str) -> Iterator[list[bytes]]:
    """The keys of rows in order, so many at a time that their bodies, of the sizes in a column, fit in memory."""
    keys: list[bytes] = []
    size = 0
    for row in rows:
        size += row[column] or 0
        if keys and (size > _BYTES_AT_ONCE or len(keys) >= MANY_AT_ONCE):
            yield keys
            keys, size = [], row[column] or 0
        keys.append(row["id"])
    if keys:
        yield keys


def bodies_of(keys: Sequence[bytes], *kinds: int) -> Select[Any]:
    """The bodies of these kinds as they are stored, and where a request lacks what its base has."""
    return _bodies_of([literal(key, Key) for key in keys], *kinds)


def _bodies_of(keys: Sequence[BindParameter[bytes]], *kinds: int) -> Select[Any]:
    return (
        select(
            payloads.c.interaction_id,
            payloads.c.kind,
            payloads.c.codec,
            payloads.c.size,
            payloads.c.body,
            inputs.c.start,
            inputs.c.base_id,
        )
        .select_from(payloads.outerjoin(inputs, inputs.c.interaction_id == payloads.c.interaction_id))
        .where(
            payloads.c.interaction_id.in_(keys),
            payloads.c.kind.in_([literal_column(str(kind), SmallInteger) for kind in kinds]),
        )
    )


def usage_detail(row: Mapping[str, Any], response: bytes | None) -> str | None:
    """The JSON of upstream's ``usage``: as the row has it, or as the answer tells it."""
    if row["usage_detail"] is not None and row["derived_state"] != derivation.USAGE_CAME:
        kept: str = row["usage_detail"]
        return kept
    if response is not None and (row["http_status"] or 0) < 300:
        usage = texts.parsed(response).get("usage")
        if isinstance(usage, dict) and usage:
            return codec.dumps(usage).decode()
    detail: str | None = row["usage_detail"]
    return detail


def modalities_of(detail: str | None) -> Modalities:
    """What a row's ``usage_detail`` says by modality."""
    usage = {} if detail is None else orjson.loads(detail)
    return measures.modalities_of(usage) if isinstance(usage, dict) else {}


def is_late(row: Mapping[str, Any]) -> bool:
    """Whether all but its usage was derived from it before."""
    return row["derived_state"] == derivation.USAGE_CAME and row["series_id"] is not None


def is_counted(row: Mapping[str, Any]) -> bool:
    """Whether usage is ours to count: that of what was made elsewhere and taken in is not."""
    made = orjson.loads(row["attempts"]) if row["attempts"] else ()
    return not any("adopted" in attempt for attempt in made)
