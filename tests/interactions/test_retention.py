"""Retention with a moved clock: what is due expires, what is held or needed stays, figures survive."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest

from service.interactions.retention import Report, Retention
from service.settings.model import RetentionRule
from service.store.kept_holds import Holds
from service.store.records import now
from service.store.regions import SHARED_FROM
from service.store.retained import Living, Retained
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids
from tests.interactions.conversations import assert_quotes, gone_on_with, said, talk
from tests.support.gateway import Gateway, eventually
from tests.support.gateways import StartGateway, gateway_starter
from tests.support.replies import Json, Reply
from tests.support.stateless import Client
from tests.support.store import adopted, derived, is_sqlite, literal, open_store, outcome, query
from tests.support.store import intent as plain_intent
from tests.support.upstreams import Emulated

DAY = 86_400
ALL = RetentionRule(keep=30 * DAY)


@pytest.fixture
def start_gateway(running: AsyncExitStack, database_url: str) -> StartGateway:
    """Services that derive soon from whatever ends: only then can it be deleted."""
    return gateway_starter(running, database_url, index_interval=0.02)


@asynccontextmanager
async def retaining(gateway: Gateway, *rules: RetentionRule, days: float = 100) -> AsyncIterator[Retention]:
    """Retention as another process would apply it, so many days from now."""
    url = gateway.database.url
    async with open_store(url) as opened:
        yield Retention(opened.store, rules, url, clock=lambda: now() + int(days * DAY * 1_000_000))


async def applied(gateway: Gateway, *rules: RetentionRule, days: float = 100, **options: bool) -> Report:
    await settled(gateway)
    async with retaining(gateway, *rules, days=days) as retention:
        return await retention.run(**options)


async def settled(gateway: Gateway) -> None:
    """Wait until everything has been derived from what has ended."""

    async def done() -> bool:
        rows = await gateway.database.rows()
        return all(row["completed_at"] is None or row["derived_state"] in (1, 2) for row in rows)

    await eventually(done)


async def labelled(gateway: Gateway, content: str, **labels: str) -> Reply:
    """An interaction with labels; the emulator, like Google's own API, takes none in a request."""
    reply = await gateway.ask(content)
    key = ids.from_text(reply.id)
    assert key is not None
    url = gateway.database.url
    statement = f"UPDATE interactions SET labels = :labels WHERE id = {literal(url, key)}"
    await query(url, statement, labels=orjson.dumps(labels).decode())
    return reply


async def is_there(gateway: Gateway, reply: Reply) -> bool:
    return (await gateway.get(reply.id)).status == 200


async def is_there_by_id(gateway: Gateway, key: bytes) -> bool:
    return (await gateway.get(ids.to_text(key))).status == 200


async def put(gateway: Gateway, path: str, method: str = "PUT", **body: Any) -> Json:
    reply = await gateway.request(method, path, data=orjson.dumps(body))
    assert reply.status == 200, reply.raw
    return reply.body


async def test_what_is_due_is_gone_and_its_figures_stay(gateway: Gateway) -> None:
    unary = await gateway.ask("Hello")
    streamed = await gateway.stream("Stream it")
    await settled(gateway)
    before = {row["id"]: row for row in await gateway.database.rows()}
    report = await applied(gateway, ALL)
    assert (report.expired, report.erased) == (2, 2)
    assert report.rules[0].bytes > 100
    for name in (unary.id, streamed.id):
        assert (await gateway.get(name)).error["code"] == "not_found"
        assert await gateway.database.bodies(name) == {}
        row = await gateway.database.row(name)
        old = before[row["id"]]
        assert row["expired_at"] == row["deleted_at"] == row["erased_at"] == report.at
        changed = {"expired_at", "deleted_at", "erased_at", "updated_at"}
        assert {member for member in row if row[member] != old[member]} == changed
        assert row["total_tokens"] > 0
    assert await query(gateway.database.url, "SELECT * FROM events") == []
    assert (await applied(gateway, ALL)).expired == 0


async def test_what_comes_in_while_rules_are_applied_expires_with_the_next_run(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    await gateway.ask("Hello")
    await settled(gateway)
    row = adopted()
    async with retaining(gateway, ALL) as retention, open_store(gateway.database.url) as other:
        living = Retained.living

        async def with_one_more(self: Retained, after: bytes, before: bytes) -> list[Living]:
            found = await living(self, after, before)
            await other.store.adopt(row)
            return found

        monkeypatch.setattr(Retained, "living", with_one_more)
        assert (await retention.run()).expired == 1
        monkeypatch.undo()
        await settled(gateway)
        assert (await retention.run()).expired == 1
    assert not await is_there_by_id(gateway, row.id)


async def test_what_is_younger_than_its_rule_stays(gateway: Gateway) -> None:
    reply = await gateway.ask("Hello")
    for days, there in ((29.9, True), (30.1, False)):
        await applied(gateway, ALL, days=days)
        assert await is_there(gateway, reply) is there


async def test_the_first_rule_that_matches_counts(gateway: Gateway) -> None:
    research = await labelled(gateway, "One", team="research", kind="x")
    legal = await labelled(gateway, "Two", team="legal")
    other = await gateway.ask("Three")
    rules = (
        RetentionRule(keep=10 * DAY, label="team", label_value="research"),
        RetentionRule(keep=None, label="team"),
        RetentionRule(keep=1 * DAY, project="another"),
        RetentionRule(keep=50 * DAY, project="default"),
        RetentionRule(keep=5 * DAY),
    )
    seen, left = [], []
    for days in (4, 11, 49, 51, 9999):
        report = await applied(gateway, *rules, days=days)
        left = [rule.due for rule in report.rules]
        seen.append([await is_there(gateway, reply) for reply in (research, legal, other)])
    assert seen == [
        [True, True, True],
        [False, True, True],
        [False, True, True],
        [False, True, False],
        [False, True, False],
    ]
    assert left == [0] * 5


async def test_without_a_rule_everything_stays(gateway: Gateway) -> None:
    reply = await gateway.ask("Hello")
    for rules in ((), (RetentionRule(keep=None),), (RetentionRule(keep=DAY, label="team"),)):
        assert (await applied(gateway, *rules, days=99_999)).expired == 0
    assert await is_there(gateway, reply)


async def test_a_dry_run_tells_and_changes_nothing(start_gateway: StartGateway, upstream: Emulated) -> None:
    gateway = await start_gateway(upstream, retention_policies=(RetentionRule(keep=1e-6),))
    reply = await gateway.ask("Hello")
    await settled(gateway)
    rows = await gateway.database.rows()
    told = await put(gateway, "/api/retention", "POST", dry_run=True)
    assert told["rules"] == [
        {
            "rule": "all",
            "keep_seconds": 1e-6,
            "due": 1,
            "held": 0,
            "running": 0,
            "waiting": 0,
            "bytes": told["rules"][0]["bytes"],
        }
    ]
    assert (told["dry_run"], told["expired"], told["erased"]) == (True, 0, 0)
    assert await gateway.database.rows() == rows
    told = await put(gateway, "/api/retention", "POST")
    assert (told["dry_run"], told["expired"], told["erased"]) == (False, 1, 1)
    assert not await is_there(gateway, reply)


async def test_the_service_applies_its_rules_by_itself(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    rules = (RetentionRule(keep=0.001),)
    gateway = await start_gateway(upstream, retention_policies=rules, retention_interval=0.05)
    reply = await gateway.ask("Hello")
    async with asyncio.timeout(20):
        while await is_there(gateway, reply):
            await asyncio.sleep(0.02)


async def test_what_runs_is_left_until_it_has_ended(gateway: Gateway, upstream: Emulated) -> None:
    running = await gateway.ask("Take your time", background=True)
    report = await applied(gateway, ALL)
    assert (report.expired, report.rules[0].running) == (0, 1)
    upstream.clock.advance(100)
    await gateway.finished(running.id)
    assert (await applied(gateway, ALL)).expired == 1


async def test_of_what_has_expired_a_follow_up_keeps_what_was_told_before_its_checkpoint(
    gateway: Gateway, upstream: Emulated
) -> None:
    parent, told, hop = await gone_on_with(gateway)
    await put(gateway, f"/api/interactions/{hop.id}/hold")
    for _ in range(2):
        await applied(gateway, ALL)
    assert (await gateway.get(parent, stream="true")).status == 404
    upstream.forget()
    await gateway.ask("And then?", previous_interaction_id=hop.id)
    assert upstream.creates[-1]["input"] == [said("A long story"), *told, *hop.steps, said("And then?")]


async def test_a_hold_beats_every_rule(gateway: Gateway) -> None:
    held = await gateway.ask("Held")
    legal = await labelled(gateway, "Legal", team="legal")
    plain = await labelled(gateway, "Plain", team="other")
    hold = await put(gateway, f"/api/interactions/{held.id}/hold", reason="case 7")
    assert (hold["interaction"], hold["reason"], hold["released"]) == (held.id, "case 7", None)
    assert await put(gateway, f"/api/interactions/{held.id}/hold") == hold
    again = await put(gateway, f"/api/interactions/{held.id}/hold", reason="case 7")
    assert again == hold == await put(gateway, f"/api/interactions/{held.id}/hold")
    assert (await gateway.request("GET", "/api/holds")).body["holds"] == [hold]
    wrong = await gateway.request("PUT", f"/api/interactions/{held.id}/hold", data=b'{"reason": 7}')
    assert (wrong.status, "'reason'" in wrong.error["message"]) == (400, True)
    on_label = await put(gateway, "/api/holds", "POST", label="team=legal")
    report = await applied(gateway, ALL)
    assert (report.expired, report.rules[0].held) == (1, 2)
    assert [await is_there(gateway, reply) for reply in (held, legal, plain)] == [True, True, False]
    for reply in (held, legal):
        refused = await gateway.delete(reply.id)
        assert (refused.status, refused.error["code"]) == (400, "failed_precondition")
        assert "legal hold" in refused.error["message"]
    await put(gateway, f"/api/interactions/{held.id}/hold", "DELETE")
    await put(gateway, f"/api/holds/{on_label['id']}", "DELETE")
    holds = (await gateway.request("GET", "/api/holds")).body["holds"]
    assert [hold["released"] is None for hold in holds] == [False, False]
    assert (await applied(gateway, ALL)).expired == 2
    assert (await gateway.request("DELETE", f"/api/interactions/{legal.id}/hold")).status == 404


async def test_what_is_held_for_two_reasons_is_held_until_both_are_over(gateway: Gateway) -> None:
    held = (await gateway.ask("Hold me twice")).id
    path = f"/api/interactions/{held}/hold"
    plain = await put(gateway, path)
    first, second = await put(gateway, path, reason="case 7"), await put(gateway, path, reason="case 8")
    assert len({one["id"] for one in (plain, first, second)}) == 3
    unnamed = await gateway.request("DELETE", path)
    assert (unnamed.status, unnamed.error["code"]) == (400, "failed_precondition")
    assert first["id"] in unnamed.error["message"]
    assert (await gateway.request("DELETE", f"{path}?hold=none")).status == 404
    for hold in (plain, first):
        assert (await gateway.request("DELETE", f"{path}?hold={hold['id']}")).status == 200
    refused = await gateway.delete(held)
    assert "case 8" in refused.error["message"]
    await asyncio.gather(*(put(gateway, path, reason="case 8") for _ in range(3)))
    assert (await gateway.request("DELETE", path)).status == 200
    assert (await gateway.delete(held)).status == 200


async def test_a_whole_project_can_be_held(gateway: Gateway) -> None:
    replies = await talk(gateway, "One", "Two")
    foreign = await gateway.ask("Theirs")
    await gateway.database.give_away(foreign.id)
    hold = await put(gateway, "/api/holds", "POST", reason="all of it")
    assert (await applied(gateway, ALL)).expired == 1
    assert await is_there(gateway, replies[1])
    await put(gateway, f"/api/holds/{hold['id']}", "DELETE")
    assert (await applied(gateway, ALL)).expired == 2


async def test_a_hold_that_comes_while_rules_are_applied_beats_them(gateway: Gateway) -> None:
    reply = await gateway.ask("Just in time")
    key = ids.from_text(reply.id)
    assert key is not None
    async with open_store(gateway.database.url) as opened:
        known: Holds = await opened.store.holds.all()
        await opened.store.holds.place(DEFAULT_PROJECT, key=key)
        await opened.store.retained.expire([key], now(), known.count)
    assert await is_there(gateway, reply)


async def test_what_cannot_be_held_is_refused(gateway: Gateway) -> None:
    refusals: list[tuple[str, str, Any, int]] = [
        ("PUT", "/api/interactions/int_x/hold", {}, 404),
        ("DELETE", "/api/interactions/int_x/hold", {}, 404),
        ("POST", "/api/holds", {"label": "=x"}, 400),
        ("POST", "/api/holds", {"labels": "x"}, 400),
        ("POST", "/api/holds", {"reason": 7}, 400),
        ("DELETE", "/api/holds/none", {}, 404),
        ("POST", "/api/retention", {"dry_run": "yes"}, 400),
        ("POST", "/api/retention", [], 400),
    ]
    for method, path, body, status in refusals:
        reply = await gateway.request(method, path, data=orjson.dumps(body))
        assert reply.status == status
        assert reply.error["message"]


async def test_what_a_follow_up_needs_is_kept_until_it_expires_as_well(
    gateway: Gateway, upstream: Emulated
) -> None:
    first, second, third = await talk(gateway, "One apple", "Two pears", "Three plums")
    await put(gateway, f"/api/interactions/{third.id}/hold")
    report = await applied(gateway, ALL)
    assert (report.expired, report.erased) == (2, 0)
    assert not await is_there(gateway, first)
    upstream.forget()
    fourth = await gateway.ask("Four figs", previous_interaction_id=third.id)
    assert_quotes(fourth, "One apple", "Two pears", "Three plums", "Four figs")
    await put(gateway, f"/api/interactions/{third.id}/hold", "DELETE")
    report = await applied(gateway, ALL)
    assert report.expired == 2
    for reply in (first, second, third, fourth):
        assert await gateway.database.bodies(reply.id) == {}


@pytest.mark.damages
async def test_the_base_of_a_resent_history_is_kept_for_it(database_url: str) -> None:
    turns = Client().turns(8)
    assert len(turns[-1][0]) > 2 * SHARED_FROM
    async with open_store(database_url) as opened:
        keys = []
        for request, answer in turns:
            begun = plain_intent()
            await opened.store.begin(begun, request, listed=True)
            await opened.store.finish(outcome(begun.id), answer)
            keys.append(begun.id)
        await derived(database_url)
        assert (await query(database_url, "SELECT count(*) FROM inputs WHERE base_id IS NOT NULL"))[0][0] > 2
        await opened.store.holds.place(DEFAULT_PROJECT, key=keys[-1])
        clock: Callable[[], int] = lambda: now() + 100 * DAY * 1_000_000  # noqa: E731
        retention = Retention(opened.store, (ALL,), database_url, clock=clock)
        assert (await retention.run()).expired == len(turns) - 1
        assert await opened.store.request_of(keys[-1]) == turns[-1][0]
        for hold in await opened.store.holds.on(keys[-1]):
            await opened.store.holds.release(hold)
        assert (await retention.run()).expired == 1
    assert await query(database_url, "SELECT * FROM payloads") == []


async def test_rules_are_applied_under_load(gateway: Gateway) -> None:
    """What is written while older ones expire is all there, chains across the border go on, and figures stay."""
    old = await asyncio.gather(*(gateway.ask(f"Old {number}") for number in range(20)))
    held = old[::5]
    await settled(gateway)
    for reply in held:
        await put(gateway, f"/api/interactions/{reply.id}/hold")
    border = now()
    figures = f"/api/usage?group_by=model,day&to={border / 1e6:.6f}"
    before = (await gateway.request("GET", figures)).body
    assert (before["total"]["requests"], before["total"]["cost"] > 0) == (len(old), True)
    rule = RetentionRule(keep=DAY)
    made: list[Reply] = []

    async def working() -> None:
        for number in range(15):
            parent = held[number % len(held)]
            made.append(await gateway.ask(f"New {number}", previous_interaction_id=parent.id))

    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(open_store(gateway.database.url))
        retention = Retention(
            opened.store, (rule,), gateway.database.url, clock=lambda: border + DAY * 1_000_000
        )
        tasks = [asyncio.create_task(working()) for _ in range(3)]
        reports = [await retention.run() for _ in range(5)]
        await asyncio.gather(*tasks)
        reports.append(await retention.run())
    assert sum(report.expired for report in reports) == len(old) - len(held)
    assert all([await is_there(gateway, reply) for reply in (*held, *made)])
    assert len(made) == 45
    assert not any([await is_there(gateway, reply) for reply in old if reply not in held])
    assert (await gateway.request("GET", figures)).body == before
    await settled(gateway)
    total = (await gateway.request("GET", "/api/usage")).body["total"]
    rows = await gateway.database.rows()
    assert total["tokens"]["total"] == sum(row["total_tokens"] for row in rows)
    assert total["cost"] == pytest.approx(sum(row["cost_nanos"] for row in rows) / 1e9)
    assert total["requests"] == len(old) + len(made)


async def test_holds_and_exports_amid_rules_that_are_applied_by_several_processes(gateway: Gateway) -> None:
    """What was held before it was due is all there, and what an export tells is whole."""
    replies = await asyncio.gather(*(labelled(gateway, f"Old {n}", case=str(n % 4)) for n in range(32)))
    await settled(gateway)
    border = now()
    rule = RetentionRule(keep=DAY)
    moved: list[int] = [border]
    held = {reply.id for number, reply in enumerate(replies) if number % 4 in (0, 1)}
    lines: list[Any] = []

    async def exporting() -> None:
        for _ in range(6):
            told = (await gateway.request("GET", "/api/export")).raw.splitlines()[:-1]
            lines.extend(orjson.loads(line) for line in told)

    async def asking() -> None:
        for number in range(12):
            await gateway.ask(f"New {number}")

    async with AsyncExitStack() as stack:
        urls = [gateway.database.url] * (1 if is_sqlite(gateway.database.url) else 2)
        opened = [await stack.enter_async_context(open_store(url)) for url in urls]
        several = [
            Retention(one.store, (rule,), gateway.database.url, clock=lambda: moved[0]) for one in opened
        ]
        tasks = [asyncio.create_task(work()) for work in (exporting, asking, asking)]
        for number in range(2):
            await asyncio.gather(*(retention.run() for retention in several))
            await put(gateway, "/api/holds", "POST", label=f"case={number}")
        # Only now the time comes.
        moved[0] = border + DAY * 1_000_000
        reports = [
            report for _ in range(3) for report in await asyncio.gather(*(one.run() for one in several))
        ]
        await asyncio.gather(*tasks)
        reports += [await several[0].run()]
    assert {reply.id for reply in replies if await is_there(gateway, reply)} == held
    assert sum(report.expired for report in reports) >= len(replies) - len(held)
    assert await gateway.database.count() == len(replies) + 24
    ended = [line for line in lines if line["interaction"]["completed_at"] is not None]
    assert all(line["request"] and line["response"] for line in ended)
    assert {line["id"] for line in lines} >= held


@pytest.mark.damages
async def test_a_sqlite_file_gets_smaller(sqlite_url: str) -> None:
    async with open_store(sqlite_url) as opened:
        for _ in range(40):
            begun = plain_intent()
            await opened.store.begin(begun, os.urandom(100_000))
            await opened.store.finish(outcome(begun.id), b"{}")
        await derived(sqlite_url)
        clock: Callable[[], int] = lambda: now() + 100 * DAY * 1_000_000  # noqa: E731
        report = await Retention(opened.store, (ALL,), sqlite_url, clock=clock).run()
        assert report.bytes_given_back > 2_000_000
        rest = await Retention(opened.store, (ALL,), sqlite_url, clock=clock).run(whole=True)
        assert rest.bytes_given_back > 500_000
        size = (await query(sqlite_url, "PRAGMA page_count"))[0][0]
    assert size * 4096 < 1_000_000
