"""Export and import: everything that filters select, whole, and the same again in another database."""

from __future__ import annotations

import asyncio
import base64
import csv
import io
import json
import socket
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

import aiohttp
import orjson
import psutil
import pytest
from pyarrow import parquet
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from service.audit.export import Export
from service.audit.filters import Filters
from service.audit.importing import Importer, Told
from service.interactions.calls import Principal
from service.store.codec import Codec
from service.store.engine import open_engine, open_reports
from service.store.media import uri_digest
from service.store.records import now
from service.store.regions import SHARED_FROM
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT
from service.upstream.files import file_of
from service.wire import ids
from tests.audit.history import LATE_FIGURES, past
from tests.support.gateway import MODEL, Gateway, eventually
from tests.support.gateways import StartGateway, gateway_starter
from tests.support.replies import Json, Reply
from tests.support.store import ANYTHING, is_sqlite, literal, open_store, query
from tests.support.upstreams import Emulated, Scripted, answering, deployment

WAITING_FOR_ROWS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
)
#: Whatever ends is derived from soon: exports wait for it.
PROMPT = {"index_interval": 0.02}
WEATHER = {"type": "function", "name": "get_weather", "description": "The weather."}


@pytest.fixture
def start_gateway(running: AsyncExitStack, store_url: str) -> StartGateway:
    """Start the service with some settings, on a database of each kind."""
    return gateway_starter(running, store_url, **PROMPT)


@pytest.fixture
def other_url(request: pytest.FixtureRequest, store_url: str) -> str:
    """A database of the other kind."""
    url: str = request.getfixturevalue("postgres_url" if is_sqlite(store_url) else "sqlite_url")
    return url


async def get(gateway: Gateway, path: str) -> Reply:
    reply = await gateway.request("GET", path)
    assert reply.status == 200, reply.raw
    return reply


async def settled(gateway: Gateway) -> None:
    """Wait until everything has been derived from what has ended."""

    async def done() -> bool:
        rows = await gateway.database.rows()
        return all(row["completed_at"] is None or row["derived_state"] in (1, 2) for row in rows)

    await eventually(done)


async def lines(gateway: Gateway, filters: str = "") -> tuple[list[bytes], Json]:
    """The lines of an export, and its manifest, which must be right."""
    await settled(gateway)
    reply = await get(gateway, f"/api/export?format=jsonl{filters}")
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    *told, last = reply.raw.splitlines(keepends=True)
    manifest: Json = orjson.loads(last)["manifest"]
    assert manifest["count"] == len(told)
    assert manifest["sha256"] == sha256(b"".join(told)).hexdigest()
    return told, manifest


async def brought(gateway: Gateway, data: bytes) -> Json:
    reply = await gateway.request("POST", "/api/import", data=data)
    assert reply.status == 200, reply.raw
    return reply.body


async def listened_to(gateway: Gateway, upstream: Emulated) -> str:
    """The id of a run in the background whose events somebody has heard, which are kept since."""
    run = await gateway.ask("Tell me", background=True)
    key = ids.from_text(run.id)
    assert key is not None
    url = gateway.database.url
    hearing = asyncio.create_task(gateway.events(run.id))

    async def is_kept() -> bool:
        return bool(await query(url, f"SELECT 1 FROM events WHERE interaction_id = {literal(url, key)}"))

    await eventually(is_kept)
    upstream.clock.advance(100)
    await hearing
    return (await gateway.finished(run.id)).id


async def everything(gateway: Gateway, upstream: Emulated) -> dict[str, str]:
    """One interaction of every kind; their ids by kind."""
    made: dict[str, str] = {}
    first = await gateway.ask('One – «e4» \u2028 {"a": 1}', generation_config={"seed": 7})
    made["unary"] = first.id
    made["follow-up"] = (await gateway.ask("Two", previous_interaction_id=first.id)).id
    made["stream"] = (await gateway.stream("Stream", wish="story")).id
    made["tools"] = (await gateway.ask("Weather in Oslo?", tools=[WEATHER])).id
    made["unstored"] = (await gateway.ask("Leave no trace", store=False)).id
    spaced = b'{ "model": "gemini-2.5-flash",\n  "input": "On two lines" }'
    made["pretty"] = (await gateway.post(spaced)).id
    failed = await gateway.refused(429, "Too much", fault="status;code=429")
    made["failed"] = failed.headers["x-interaction-id"]
    running = await gateway.ask("Take your time", background=True)
    made["running"] = running.id
    upstream.clock.advance(100)
    background = await gateway.ask("Soon", background=True)
    upstream.clock.advance(100)
    made["background"] = (await gateway.finished(background.id)).id
    made["listened to"] = await listened_to(gateway, upstream)
    deleted = await gateway.ask("Gone")
    await gateway.delete(deleted.id)
    made["deleted"] = deleted.id
    replayed = await gateway.request("POST", f"/api/interactions/{first.id}/replay", data=b"{}")
    made["replay"] = replayed.body["interaction"]["id"]
    for _ in range(2):
        turns = [{"role": "user", "content": "x" * SHARED_FROM}, {"role": "model", "content": "y"}]
        made["resent"] = (await gateway.ask([*turns, {"role": "user", "content": "z"}])).id
    return made


async def test_export_import_export_is_identical(
    gateway: Gateway, upstream: Emulated, other_url: str, running: AsyncExitStack
) -> None:
    made = await everything(gateway, upstream)
    key = ids.from_text(made["unary"])
    assert key is not None
    statement = (
        "UPDATE interactions SET labels = :labels, attempts = :attempts "
        f"WHERE id = {literal(gateway.database.url, key)}"
    )
    attempts = '[{"n":18446744073709551617}]'
    await query(gateway.database.url, statement, labels='{"n":"1","team":"ä"}', attempts=attempts)
    first, _ = await lines(gateway, "&deleted=any")
    assert len(first) == await gateway.database.count()
    other = await gateway_starter(running, other_url, **PROMPT)(upstream)
    assert await brought(other, b"".join(first)) == {"imported": len(first), "known": 0, "left_out": 0}
    second, _ = await lines(other, "&deleted=any")
    assert second == first
    assert await brought(other, b"".join(first)) == {"imported": 0, "known": len(first), "left_out": 0}
    assert (await lines(other, "&deleted=any"))[0] == first
    for name in (
        "unary",
        "follow-up",
        "stream",
        "tools",
        "pretty",
        "background",
        "listened to",
        "replay",
        "resent",
    ):
        here, there = await gateway.got(made[name]), await other.got(made[name])
        assert here.raw == there.raw
        assert await other.database.request(made[name]) == (await request_of(gateway, made[name]))
    for name in ("stream", "listened to"):
        assert (await other.events(made[name])).raw == (await gateway.events(made[name])).raw
    assert (await other.get(made["deleted"])).status == 404
    follow_up = await other.ask("Three", previous_interaction_id=made["follow-up"])
    assert '"Two"' in follow_up.text


@pytest.mark.parametrize("filters", ["", "&deleted=any"])
async def test_what_was_deleted_stays_so_elsewhere_for_its_follow_ups_too(
    gateway: Gateway, upstream: Emulated, other_url: str, running: AsyncExitStack, filters: str
) -> None:
    first = await gateway.ask("A secret")
    second = await gateway.ask("Two", previous_interaction_id=first.id)
    await gateway.delete(first.id)
    told, _ = await lines(gateway, filters)
    assert not any(b'"A secret"' in orjson.dumps(orjson.loads(line)["request"]) for line in told)
    other = await gateway_starter(running, other_url, **PROMPT)(upstream)
    await brought(other, b"".join(told))
    assert (await other.get(first.id)).status == 404
    assert (await other.got(second.id)).body == (await gateway.got(second.id)).body
    await other.ask("Three", previous_interaction_id=second.id)
    replayed = await other.request("POST", f"/api/interactions/{second.id}/replay", data=b"{}")
    assert (replayed.status, replayed.error["code"]) == (404, "not_found")
    assert first.id in replayed.error["message"]
    upstream.forget()
    refused = await other.refused(400, "Four", previous_interaction_id=second.id)
    assert refused.error["code"] == "failed_precondition"


async def request_of(gateway: Gateway, name: str) -> bytes:
    """A request as it was sent, as the export of its interaction tells it."""
    for line in (await lines(gateway))[0]:
        told = orjson.loads(line)
        if told["id"] == name:
            text: str | None = told.get("request_text")
            return orjson.dumps(told["request"]) if text is None else text.encode()
    raise AssertionError(f"{name} was not exported")


async def test_what_was_imported_can_be_played_again(
    gateway: Gateway, upstream: Emulated, other_url: str, running: AsyncExitStack
) -> None:
    other = await gateway_starter(running, other_url, **PROMPT)(upstream)
    recorded = {"x-replay": "recorded; pace=none"}
    # What is there has been gone through already when what is older comes.
    streamed = await gateway.stream("Recorded there")
    own = await other.stream("Before")
    assert (await other.stream("Before", headers=recorded)).events == own.events
    await brought(other, b"".join((await lines(gateway))[0]))
    upstream.clear()
    assert (await other.stream("Recorded there", headers=recorded)).events == streamed.events
    assert upstream.requests == []


async def test_an_export_has_what_the_filters_select(gateway: Gateway) -> None:
    names = [(await gateway.ask(f"Say {number}", store=number % 2 == 0)).id for number in range(6)]
    stored, _ = await lines(gateway, "&store=true")
    assert [orjson.loads(line)["id"] for line in stored] == names[::2]
    found, _ = await lines(gateway, "&q=say")
    assert len(found) == 6
    for every in (
        "status=completed,failed",
        "model=gemini-2.5-flash",
        "project=default&from=1d",
        "min_depth=0",
    ):
        assert len((await lines(gateway, f"&{every}"))[0]) == 6
    assert (await lines(gateway, "&status=completed&label:team=none"))[0] == []
    none, manifest = await lines(gateway, "&status=failed")
    assert (none, manifest["count"], manifest["last"]) == ([], 0, None)


@pytest.mark.parametrize("every", [2, 12, 25], ids=["many", "few", "none"])
async def test_what_stands_between_what_is_selected_is_left_out(gateway: Gateway, every: int) -> None:
    deleted = ""
    for number in range(24):
        made = (await gateway.ask(f"Question {number}", store=number % every != every - 1)).id
        deleted = made if number == 8 else deleted
    whole, _ = await lines(gateway)
    await gateway.request("DELETE", f"/v1beta/interactions/{deleted}")
    wanted = [
        line
        for line in whole
        if orjson.loads(line)["interaction"]["store"] and orjson.loads(line)["id"] != deleted
    ]
    told, _ = await lines(gateway, "&store=true")
    assert told == wanted


async def test_an_export_goes_on_where_it_stopped(gateway: Gateway) -> None:
    for number in range(5):
        await gateway.ask(f"Say {number}")
    whole, _ = await lines(gateway)
    for place, line in enumerate(whole):
        last = orjson.loads(line)["id"]
        rest, manifest = await lines(gateway, f"&cursor={last}")
        assert (rest, manifest["after"]) == (whole[place + 1 :], last)


@pytest.mark.parametrize("size", [10, 1_000_000], ids=["short", "long"])
async def test_parts_of_an_export_are_one_when_they_are_put_together(
    gateway: Gateway, upstream: Emulated, other_url: str, running: AsyncExitStack, size: int
) -> None:
    first = await gateway.ask("x" * size)
    for number in range(4):
        await gateway.ask(f"{number} " + "x" * size, previous_interaction_id=first.id)
    told, _ = await lines(gateway)
    part = (await get(gateway, f"/api/export?cursor={first.id}")).raw
    other = await gateway_starter(running, other_url, **PROMPT)(upstream)
    assert await brought(other, part) == {"imported": 4, "known": 0, "left_out": 0}
    assert await brought(other, told[0] + part) == {"imported": 1, "known": 4, "left_out": 0}
    assert (await lines(other))[0] == told
    table = (await get(gateway, "/api/export?format=csv")).raw
    rest = (await get(gateway, f"/api/export?format=csv&cursor={first.id}")).raw
    assert rest.startswith(orjson.loads(told[1])["id"].encode())
    assert table.endswith(b"\r\n" + rest)
    nothing = await get(gateway, f"/api/export?format=csv&cursor={orjson.loads(told[-1])['id']}")
    assert nothing.raw == b""


async def test_a_table_has_a_row_for_each(gateway: Gateway, upstream: Emulated) -> None:
    await everything(gateway, upstream)
    told = [orjson.loads(line) for line in (await lines(gateway))[0]]
    reply = await get(gateway, "/api/export?format=csv")
    assert reply.headers["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(reply.raw.decode(), newline="")))
    assert [row["id"] for row in rows] == [line["id"] for line in told]
    for row, line in zip(rows, told, strict=True):
        assert orjson.loads(row["request"]) == line["request"]
        assert row["total_tokens"] == str(line["interaction"]["total_tokens"] or "")
        assert row["stream"] in ("true", "false")
    table = parquet.read_table(io.BytesIO((await get(gateway, "/api/export?format=parquet")).raw))
    assert table.column_names == list(rows[0])
    for name in table.column_names:
        assert [in_csv(value) for value in table.column(name).to_pylist()] == [row[name] for row in rows], (
            name
        )
    assert table.column("total_tokens").to_pylist() == [
        int(row["total_tokens"]) if row["total_tokens"] else None for row in rows
    ]
    empty = (await get(gateway, "/api/export?format=parquet&status=budget_exceeded")).raw
    assert parquet.read_table(io.BytesIO(empty)).num_rows == 0


def in_csv(value: Any) -> str:
    """A value of a table as CSV shows it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "" if value is None else str(value)


async def test_answers_that_are_pretty_printed_arrive_byte_for_byte(
    start_gateway: StartGateway, start_scripted: Any, other_url: str, running: AsyncExitStack
) -> None:
    body = b'{\n  "status": "completed",\n  "steps": []\n}\n'
    upstream: Scripted = await start_scripted(answering(body))
    gateway = await start_gateway(upstream)
    made = await gateway.ask("Hello")
    told, _ = await lines(gateway)
    assert orjson.loads(told[0])["response"] == orjson.loads(body)
    other = await gateway_starter(running, other_url, **PROMPT)(upstream)
    await brought(other, told[0])
    assert await other.database.response(made.id) == await gateway.database.response(made.id) == body


async def test_lines_that_were_written_anew_are_taken_as_well(
    gateway: Gateway, upstream: Emulated, other_url: str, running: AsyncExitStack
) -> None:
    made = await gateway.ask("Hello", generation_config={"temperature": 1.5})
    ((line,), _) = await lines(gateway)
    told = orjson.loads(line)
    other = await gateway_starter(running, other_url, **PROMPT)(upstream)
    await brought(other, orjson.dumps(dict(sorted(told.items()))))
    assert orjson.loads(await other.database.request(made.id) or b"") == told["request"]
    assert (await other.got(made.id)).body == (await gateway.got(made.id)).body


async def test_a_conversation_whose_lines_were_written_anew_goes_on(
    gateway: Gateway, upstream: Emulated, other_url: str, running: AsyncExitStack
) -> None:
    first = await gateway.post(b'{"model": "gemini-2.5-flash",  "input": "One"}')
    body = b'{"model": "gemini-2.5-flash",  "input": "Two", "previous_interaction_id": "%b"}'
    second = await gateway.post(body % first.id.encode())
    told, _ = await lines(gateway)
    other = await gateway_starter(running, other_url, **PROMPT)(upstream)
    anew = b"\n".join(orjson.dumps(orjson.loads(line)) for line in told)
    assert await brought(other, anew) == {"imported": 2, "known": 0, "left_out": 0}
    for row in await other.database.rows():
        key = ids.to_text(row["id"])
        assert row["request_bytes"] == len(await other.database.request(key) or b"")
        assert row["response_bytes"] == len(await other.database.response(key) or b"")
    upstream.clock.advance(60 * 86_400)
    follow_up = await other.ask("Three", previous_interaction_id=second.id)
    assert '"One"' in follow_up.text


async def test_an_import_changes_nothing_that_is_there(gateway: Gateway) -> None:
    kept, deleted = await gateway.ask("Keep"), await gateway.ask("Delete")
    foreign = await gateway.ask("Theirs")
    told, _ = await lines(gateway)
    await gateway.delete(deleted.id)
    await gateway.database.give_away(foreign.id)
    before = await gateway.database.told()
    changed = b"".join(line.replace(b'"completed"', b'"cancelled"') for line in told)
    assert await brought(gateway, changed) == {"imported": 0, "known": 3, "left_out": 0}
    await settled(gateway)
    assert await gateway.database.told() == before
    assert await gateway.database.bodies(deleted.id) == {}
    assert (await gateway.got(kept.id)).text


async def test_a_recording_is_found_though_what_it_follows_comes_in_after_it(
    gateway: Gateway, upstream: Emulated, other_url: str, running: AsyncExitStack
) -> None:
    first = await gateway.ask("One")
    second = await gateway.ask("Two", previous_interaction_id=first.id)
    third = await gateway.ask("Three", previous_interaction_id=second.id)
    told, _ = await lines(gateway)
    other = await gateway_starter(running, other_url, **PROMPT)(upstream)

    async def played(content: str, **members: Any) -> Reply:
        body = orjson.dumps({"model": "gemini-2.5-flash", "input": content, **members})
        path, wish = "/v1beta/interactions", {"x-replay": "recorded"}
        return await other.request("POST", path, headers=wish, data=body)

    for part in ((told[2],), (told[1],), told):
        await brought(other, b"".join(part))
        # Whatever is asked, what is there is looked through.
        assert (await played("Never asked")).status == 424
    one = await played("One")
    two = await played("Two", previous_interaction_id=one.body["id"])
    three = await played("Three", previous_interaction_id=two.body["id"])
    assert [reply.body["id"] for reply in (one, two, three)] == [first.id, second.id, third.id]


def as_it_ran(line: bytes, *, upstream_id: str | None = None) -> bytes:
    """The line of an interaction at a time when it had not ended."""
    told = orjson.loads(line)
    ended = (
        "completed_at",
        "http_status",
        "model",
        "service_tier",
        "error_code",
        "usage_detail",
        "cost_nanos",
    )
    counts = {name: None for name in told["interaction"] if name.endswith("_tokens")}
    told["interaction"].update(dict.fromkeys(ended), status="in_progress", usage_state=0, **counts)
    told["interaction"].update(upstream_id=upstream_id, response_bytes=None)
    told["response"] = {"status": "in_progress"}
    if "events" in told:
        told["events"] = [{"first_seq": 1, "last_seq": 3, "frames": "event: so.far\ndata: {}\n\n"}]
    return orjson.dumps(told) + b"\n"


async def test_the_end_of_what_was_exported_while_it_ran_takes_its_place(
    gateway: Gateway, upstream: Emulated, other_url: str, running: AsyncExitStack
) -> None:
    await gateway.ask("Unary")
    await gateway.stream("Stream", wish="story")
    gone = await gateway.ask("Gone")
    background = await gateway.ask("Take your time", background=True)
    unary, stream, deleted, asked = (await lines(gateway))[0]
    upstream.clock.advance(100)
    await gateway.finished(background.id)
    await gateway.delete(gone.id)
    whole, _ = await lines(gateway, "&deleted=any")
    early = b"".join((as_it_ran(unary), as_it_ran(stream, upstream_id="v1_known"), as_it_ran(deleted), asked))
    # Whoever made it knows better, however it comes back.
    before = await gateway.database.told()
    assert await brought(gateway, early) == {"imported": 0, "known": 4, "left_out": 0}
    assert await gateway.database.told() == before
    open_here = await gateway.ask("Still running", background=True)
    ((line,), _) = await lines(gateway, "&status=queued,in_progress")
    told = orjson.loads(line)
    told["interaction"].update(status="completed", completed_at=told["interaction"]["created_at"] + 1)
    assert await brought(gateway, orjson.dumps(told)) == {"imported": 0, "known": 1, "left_out": 0}
    assert (await gateway.database.row(open_here.id))["completed_at"] is None

    other = await gateway_starter(running, other_url, **PROMPT)(upstream)
    assert await brought(other, early) == {"imported": 4, "known": 0, "left_out": 0}
    assert [row["completed_at"] for row in await other.database.rows()] == [None] * 4
    assert await brought(other, b"".join(whole)) == {"imported": 4, "known": 0, "left_out": 0}
    for data in (b"".join(whole), early):
        assert (await lines(other, "&deleted=any"))[0] == whole
        assert await brought(other, data) == {"imported": 0, "known": 4, "left_out": 0}
    assert (await lines(other, "&deleted=any"))[0] == whole
    ((requests, tokens),) = await query(
        other_url,
        "SELECT sum(requests), sum(total_tokens) FROM rollups WHERE grain = 0 AND span = 3600000000",
    )
    figures = [orjson.loads(line)["interaction"]["total_tokens"] for line in whole]
    assert (requests, tokens) == (4, sum(figures))


MASTER = Principal(DEFAULT_PROJECT)


@dataclass(frozen=True, slots=True)
class Importing:
    """An importer into a PostgreSQL database, and what else goes on there."""

    store: Store
    importer: Importer
    engine: AsyncEngine


@pytest.fixture
async def importing(postgres_url: str) -> AsyncIterator[Importing]:
    reports, engine = open_reports(postgres_url), open_engine(postgres_url)
    await reports.start()
    async with open_store(postgres_url) as opened:
        yield Importing(opened.store, Importer(opened.store, reports), engine)
    await reports.close()
    await engine.dispose()


async def waiting_for_rows(url: str) -> None:
    """Wait until somebody waits for a row that another one has locked."""

    async def waits() -> bool:
        return await query(url, WAITING_FOR_ROWS) == [(1,)]

    await eventually(waits)


async def test_an_end_that_comes_while_its_interaction_is_taken_over_changes_nothing(
    upstream: Emulated, sqlite_url: str, postgres_url: str, importing: Importing, running: AsyncExitStack
) -> None:
    gateway = await gateway_starter(running, sqlite_url, **PROMPT)(upstream)
    await gateway.stream("Stream", wish="story")
    ((line,), _) = await lines(gateway)
    assert await importing.importer.lines(MASTER, as_it_ran(line)) == Told(1, 0, 0)
    contents = [
        await query(postgres_url, f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("payloads", "events")
    ]
    assert all(contents)
    async with importing.engine.begin() as claiming:
        # As a process does that takes it over.
        holder = "(SELECT owner_id FROM interactions)"
        alive = f"SELECT 1 FROM leases WHERE interaction_id = {holder} FOR SHARE"
        assert (await claiming.execute(text(alive))).all()
        await claiming.execute(text("UPDATE interactions SET owner_id = :me"), {"me": uuid.UUID(int=1)})
        bringing = asyncio.create_task(importing.importer.lines(MASTER, line))
        await waiting_for_rows(postgres_url)
    await bringing
    assert await query(postgres_url, "SELECT completed_at FROM interactions") == [(None,)]
    assert contents == [
        await query(postgres_url, f"SELECT * FROM {table} ORDER BY 1, 2") for table in ("payloads", "events")
    ]


async def test_nobody_takes_over_what_its_end_is_about_to_replace(
    upstream: Emulated, sqlite_url: str, postgres_url: str, importing: Importing, running: AsyncExitStack
) -> None:
    gateway = await gateway_starter(running, sqlite_url, **PROMPT)(upstream)
    await gateway.ask("Unary")
    ((line,), _) = await lines(gateway)
    await importing.importer.lines(MASTER, as_it_ran(line))
    # Nobody has lived on since.
    await query(postgres_url, "UPDATE leases SET due_at = 1")
    me = ids.mint()
    await importing.store.held.enter(me, now() + 60_000_000)
    async with importing.engine.begin() as reading:
        # The end waits for this row when it has its holder's.
        assert (await reading.execute(text("SELECT 1 FROM payloads FOR UPDATE"))).all()
        bringing = asyncio.create_task(importing.importer.lines(MASTER, line))
        await waiting_for_rows(postgres_url)
        assert await importing.store.held.claim(me, ANYTHING, now(), 10) == []
    await bringing
    assert await query(postgres_url, "SELECT status FROM interactions") == [("completed",)]


async def test_an_end_is_taken_though_its_interaction_comes_in_open_beside_it(
    upstream: Emulated, sqlite_url: str, postgres_url: str, importing: Importing, running: AsyncExitStack
) -> None:
    gateway = await gateway_starter(running, sqlite_url, **PROMPT)(upstream)
    for number in range(6):
        await gateway.ask(f"Number {number}")
    *told, last = (await lines(gateway))[0]
    # The same in one file, whichever comes first.
    assert await importing.importer.lines(MASTER, last + as_it_ran(last)) == Told(1, 0, 0)
    files = [data for line in told for data in (as_it_ran(line), line)]
    told_of = await asyncio.gather(*(importing.importer.lines(MASTER, data) for data in files))
    assert [one.left_out for one in told_of] == [0] * len(files)
    statuses = "SELECT DISTINCT status, completed_at IS NULL FROM interactions"
    assert await query(postgres_url, statuses) == [("completed", False)]


async def test_a_chain_never_leads_into_another_project(gateway: Gateway) -> None:
    parent = await gateway.ask("Theirs")
    await gateway.database.give_away(parent.id)
    made = await gateway.ask("Mine")
    ((line,), _) = await lines(gateway)
    told = orjson.loads(line)
    told["id"] = told["interaction"]["id"] = ids.to_text(ids.mint())
    told["interaction"].update(previous_id=parent.id, root_id=parent.id, depth=1)
    assert await brought(gateway, orjson.dumps(told)) == {"imported": 0, "known": 0, "left_out": 1}
    assert (await gateway.get(told["id"])).status == 404
    assert (await gateway.got(made.id)).status == 200


FAR = ids.to_text(b"\xff" * 16)
OTHER = ids.to_text(ids.mint())


async def test_a_chain_never_leads_back_to_where_it_began(gateway: Gateway) -> None:
    made = await gateway.ask("Hello")
    ((line,), _) = await lines(gateway)
    first, second = ids.to_text(ids.mint()), ids.to_text(ids.mint())
    circle = []
    for name, previous, depth in ((first, second, 1), (second, first, 2)):
        told = orjson.loads(line)
        told["id"] = name
        told["interaction"].update(id=name, previous_id=previous, root_id=made.id, depth=depth)
        circle.append(orjson.dumps(told))
    reply = await gateway.request("POST", "/api/import", data=b"\n".join(circle))
    assert (reply.status, "does not follow" in reply.error["message"]) == (400, True)
    assert (await brought(gateway, circle[0]))["imported"] == 1
    assert (await brought(gateway, circle[1]))["imported"] == 1
    chain = (await gateway.request("GET", f"/api/interactions/{second}/chain")).body
    assert ([one["id"] for one in chain["ancestors"]], chain["descendants"]) == ([first], [])
    for name in (first, second):
        assert (await gateway.got(name)).status == 200
        local = {"x-interactions-history": "local"}
        members = {"model": MODEL, "input": "Go on", "previous_interaction_id": name}
        assert (await gateway.post(members, **local)).status == 200


_WRONG: list[tuple[Json, str]] = [
    ({"v": 2}, "'v' is 2"),
    ({"interaction": None}, "'interaction' is not an object"),
    ({"request": "just a string"}, "'request' is not an object"),
    ({"project": {"id": "x"}}, "'project.id' is no UUID"),
    ({"interaction.id": "x"}, "'interaction.id' is no id"),
    ({"interaction.status": 7}, "'interaction.status' is not a string"),
    ({"interaction.depth": "0"}, "'interaction.depth' is not a whole number"),
    ({"interaction.depth": 2**64}, "'interaction.depth' is no number that fits"),
    ({"interaction.total_tokens": 2**53}, "'interaction.total_tokens' is no number that fits"),
    ({"interaction.output_tokens": -1}, "'interaction.output_tokens' is no number that fits"),
    ({"interaction.http_status": 2**15}, "'interaction.http_status' is no number that fits"),
    ({"interaction.id": FAR}, "'interaction.id' has a time that is more than a day ahead"),
    (
        {
            "interaction.id": OTHER,
            "interaction.previous_id": OTHER,
            "interaction.root_id": FAR,
            "interaction.depth": 1,
        },
        "its own id in neither",
    ),
    (
        {"interaction.previous_id": OTHER, "interaction.depth": 1},
        "has an id in both",
    ),
    ({"interaction.root_id": OTHER}, "and 'depth' contradict each other"),
    ({"interaction.previous_id": OTHER}, "and 'depth' contradict each other"),
    ({"interaction.depth": 1}, "and 'depth' contradict each other"),
    ({"interaction.status": "done"}, "'interaction.status' is 'done'"),
    ({"interaction.revision": 9}, "'interaction.revision' is 9. Expected one of 1, 2, 3."),
    ({"interaction.revision": 0}, "'interaction.revision' is 0. Expected one of 1, 2, 3."),
    ({"interaction.usage_state": 4}, "'interaction.usage_state' is 4. Expected one of 0, 1, 2, 3."),
    ({"interaction.attempts": 5}, "'interaction.attempts' is not a list of objects"),
    ({"interaction.labels": "team"}, "'interaction.labels' is not an object"),
    (
        {"interaction.labels": {"team": "a", "n": {"b": 2}}},
        "'interaction.labels' has 'n', which is not a string",
    ),
    ({"interaction.stream": 1}, "'interaction.stream' is not a boolean"),
    ({"interaction.created_at": None}, "'interaction.created_at' is missing"),
    ({"interaction.model": "a\0b"}, "'interaction.model' has a NUL character"),
    ({"events": {}}, "'events' is not a list"),
    ({"events": [{"first_seq": 1}]}, "'events' has a batch without"),
    ({"media": [{"uri_digest": "x"}]}, "'media' has a file without 'uri_digest'"),
    ({"request_base64": "?"}, "'request_base64' is not base64"),
]


async def test_lines_of_no_export_are_refused_by_number(gateway: Gateway) -> None:
    await gateway.ask("Hello")
    ((line,), _) = await lines(gateway)
    for change, named in _WRONG:
        told = orjson.loads(line)
        for name, value in change.items():
            place, _, member = name.partition(".")
            (told[place] if member else told)[member or place] = value
        data = line + b"\n" + json.dumps(told).encode()
        reply = await gateway.request("POST", "/api/import", data=data)
        assert (reply.status, reply.error["code"]) == (400, "invalid_request")
        assert reply.error["message"].startswith("Line 3: ")
        assert named in reply.error["message"]
    assert await gateway.database.count() == 1


async def test_batches_of_a_file_are_refused_by_its_lines(gateway: Gateway) -> None:
    for first, named in (("501", "Line 502: "), ("0", "'first_line'"), ("x", "'first_line'")):
        reply = await gateway.request(
            "POST", f"/api/import?first_line={first}", data=b'{"manifest":{}}\n{"a":'
        )
        assert (reply.status, reply.error["code"]) == (400, "invalid_request")
        assert named in reply.error["message"]
        assert "line 1" not in reply.error["message"]
    assert "'last_line'" in (await gateway.request("POST", "/api/import?last_line=1")).error["message"]


async def test_wrong_exports_are_refused(gateway: Gateway) -> None:
    for query_string in ("format=xml", "cursor=x", "cursor=int_x", "limit=3", "statuss=x"):
        reply = await gateway.request("GET", f"/api/export?{query_string}")
        assert (reply.status, reply.error["code"]) == (400, "invalid_request")


async def test_what_cannot_be_read_is_no_export(gateway: Gateway) -> None:
    await gateway.ask("Hello")
    await settled(gateway)
    key = ids.from_text((await gateway.ask("Damaged")).id)
    assert key is not None
    url = gateway.database.url
    where = f"interaction_id = {literal(url, key)} AND kind = 2"
    await query(url, f"UPDATE payloads SET codec = 9 WHERE {where}")
    reply = await gateway.request("GET", "/api/export")
    assert (reply.status, reply.error["code"]) == (500, "api_error")


PICTURE = bytes(range(256)) * 64


async def keeping(start: StartGateway, upstream: Emulated) -> Gateway:
    """A service that keeps media, and believes neither upstream's copies nor its files to live."""
    serving = deployment(upstream, MODEL, retention=0.0, file_retention=0.0)
    return await start(deployments=(serving,), keep_media=True)


async def test_kept_media_come_along(
    start_gateway: StartGateway, upstream: Emulated, other_url: str, running: AsyncExitStack
) -> None:
    gateway = await keeping(start_gateway, upstream)
    uri = upstream.put_file(PICTURE)
    picture = {"type": "image", "uri": uri, "mime_type": "image/png"}
    made = await gateway.ask([{"type": "text", "text": "Look"}, picture])
    await gateway.ask([picture, {"type": "text", "text": "The same once more"}])

    async def kept() -> bool:
        rows = await query(gateway.database.url, "SELECT count(*) FROM media")
        return [tuple(row) for row in rows] == [(2,)]

    await eventually(kept)
    told, _ = await lines(gateway)
    without, _ = await lines(gateway, "&media=false")
    assert [len(orjson.loads(line)["media"]) for line in told] == [1, 1]
    assert ["media" in orjson.loads(line) for line in without] == [False, False]
    other = await keeping(gateway_starter(running, other_url, **PROMPT), upstream)
    assert await brought(other, b"".join(without)) == {"imported": 2, "known": 0, "left_out": 0}
    assert (await other.refused(400, "And now?", previous_interaction_id=made.id)).error["code"] == (
        "failed_precondition"
    )
    # What came without its media gets them later.
    assert await brought(other, b"".join(told)) == {"imported": 0, "known": 2, "left_out": 0}
    assert (await lines(other))[0] == told
    upstream.clock.advance(3 * 86_400)
    await other.ask("And now?", previous_interaction_id=made.id)
    sent = upstream.creates[-1]["input"][0]["content"]
    assert sent[1] == {
        "type": "image",
        "mime_type": "image/png",
        "data": base64.b64encode(PICTURE).decode(),
    }


async def test_media_that_an_interaction_does_not_name_are_not_taken(
    gateway: Gateway, upstream: Emulated
) -> None:
    await gateway.ask("Nothing to see")
    ((line,), _) = await lines(gateway)
    told = orjson.loads(line)
    project = uuid.UUID(told["project"]["id"]).bytes
    file = file_of(upstream.put_file(PICTURE))
    assert file is not None
    digest = uri_digest(project, file.canonical).hex()
    forged = {"uri_digest": digest, "mime_type": "image/png", "kept_at": 1, "base64": "AAAA"}
    await brought(gateway, orjson.dumps({"media": [forged], **told}))
    assert await query(gateway.database.url, "SELECT count(*) FROM media_contents") == [(0,)]


async def large(gateway: Gateway, count: int = 5) -> list[str]:
    """Interactions of which a part cannot hold all."""
    return [(await gateway.ask(f"{number} " + "x" * 1_000_000)).id for number in range(count)]


async def test_a_long_export_has_a_process_of_its_own_and_is_the_same(gateway: Gateway) -> None:
    names = await large(gateway)
    whole, manifest = await lines(gateway)
    assert [orjson.loads(line)["id"] for line in whole] == names
    assert manifest["last"] == names[-1]
    short = await get(gateway, f"/api/export?chain={names[0]}")
    assert short.raw.splitlines(keepends=True)[:-1] == whole[:1]
    rest, _ = await lines(gateway, f"&cursor={names[0]}&status=completed&from=1d&model=gemini-2.5-flash")
    assert rest == whole[1:]
    none, _ = await lines(gateway, "&status=failed")
    assert none == []
    rows = (await get(gateway, "/api/export?format=csv")).raw.decode().splitlines()
    assert [row.partition(",")[0] for row in rows] == ["id", *names]
    table = parquet.read_table(io.BytesIO((await get(gateway, "/api/export?format=parquet")).raw))
    assert table.column("id").to_pylist() == names
    assert not exporting()


async def test_who_takes_long_over_an_export_keeps_nobody_from_reading(store_url: str) -> None:
    async with past(store_url, 20) as made:
        slow = [
            Export(made.reports, Codec(), LATE_FIGURES).parts(DEFAULT_PROJECT, Filters()) for _ in range(4)
        ]
        for parts in slow:
            assert await anext(parts)
        async with made.reports.reading() as reading:
            assert await reading.fetch(text("SELECT 1"))
        for parts in slow:
            await parts.aclose()


def exporting() -> list[int]:
    """The processes of exports that this process has started."""
    found = []
    for child in psutil.Process().children():
        with suppress(psutil.NoSuchProcess):
            if "service.audit.export_process" in child.cmdline():
                found.append(child.pid)
    return found


async def test_a_long_export_that_nobody_reads_any_more_is_ended(gateway: Gateway) -> None:
    await large(gateway, 8)
    await settled(gateway)
    async with aiohttp.ClientSession() as session:
        response = await session.get(f"{gateway.url}/api/export")
        assert await response.content.read(1000)
        assert exporting()
        response.close()

    async def ended() -> bool:
        return not exporting()

    await eventually(ended)


async def test_who_stops_reading_keeps_no_place_from_others(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await start_gateway(upstream, export_stall_timeout=2.0)
    names = await large(gateway, 8)
    await settled(gateway)
    stalled = []
    for _ in range(2):
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.setblocking(False)
        await asyncio.get_running_loop().sock_connect(
            narrow, ("127.0.0.1", int(gateway.url.rpartition(":")[2]))
        )
        narrow.sendall(b"GET /api/export HTTP/1.1\r\nHost: localhost\r\n\r\n")
        stalled.append(narrow)

    async def there_is_a_place() -> bool:
        return (await gateway.request("GET", "/api/export")).status == 200

    await eventually(there_is_a_place)
    told, _ = await lines(gateway)
    assert [orjson.loads(line)["id"] for line in told] == names

    async def ended() -> bool:
        return not exporting()

    await eventually(ended)
    # Nothing waits in the service for clients that never read it.
    assert not any(gateway.unsent())
    for narrow in stalled:
        received = b""
        with suppress(ConnectionError):
            while piece := await asyncio.get_running_loop().sock_recv(narrow, 1_000_000):
                received += piece
        narrow.close()
        assert received.startswith(b"HTTP/1.1 200")
        assert not received.endswith(b"0\r\n\r\n")


async def test_a_long_export_of_what_cannot_be_read_is_none(gateway: Gateway) -> None:
    names = await large(gateway)
    await settled(gateway)
    key = ids.from_text(names[0])
    assert key is not None
    url = gateway.database.url
    await query(url, f"UPDATE payloads SET codec = 9 WHERE interaction_id = {literal(url, key)} AND kind = 2")
    reply = await gateway.request("GET", "/api/export?format=parquet")
    assert (reply.status, reply.error["code"]) == (500, "api_error")
    assert "codec 9" in reply.error["message"]


async def test_a_spreadsheet_gets_no_formulas(gateway: Gateway) -> None:
    key = ids.from_text((await gateway.ask("Hello")).id)
    assert key is not None
    formula = '=HYPERLINK("http://elsewhere.example","x")'
    statement = (
        f"UPDATE interactions SET error_message = :told WHERE id = {literal(gateway.database.url, key)}"
    )
    await query(gateway.database.url, statement, told=formula)
    (row,) = csv.DictReader(io.StringIO((await get(gateway, "/api/export?format=csv")).raw.decode()))
    assert row["error_message"] == f"'{formula}"


async def test_a_text_with_line_breaks_stays_in_its_cell(gateway: Gateway) -> None:
    url = gateway.database.url
    texts = ("=cmd|x\n=2nd line", "-1\r+2nd line", "@a\r\n-b", "plain\n=c", "plain\r=d")
    for told in texts:
        key = ids.from_text((await gateway.ask("Hello")).id)
        assert key is not None
        statement = (
            f"UPDATE interactions SET model = :told, error_message = :told WHERE id = {literal(url, key)}"
        )
        await query(url, statement, told=told)
    _, manifest = await lines(gateway)
    raw = (await get(gateway, "/api/export?format=csv")).raw.decode()
    head, *rows = csv.reader(io.StringIO(raw, newline=""))
    assert len(rows) == manifest["count"] == len(texts)
    protected = [told if told.startswith("plain") else f"'{told}" for told in texts]
    for name in ("model", "error_message"):
        assert [row[head.index(name)] for row in rows] == protected
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row)


async def test_an_import_takes_no_time_that_no_date_can_be_written_of(gateway: Gateway) -> None:
    await gateway.ask("Hello")
    ((line,), _) = await lines(gateway)
    told = orjson.loads(line)
    told["interaction"]["completed_at"] = 2**62
    reply = await gateway.request("POST", "/api/import", data=orjson.dumps(told))
    assert "'interaction.completed_at' is no time" in reply.error["message"]
