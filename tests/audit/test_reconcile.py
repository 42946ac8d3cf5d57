"""Reconciliation counts what is there and names what does not fit, each by its reason."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from service.audit.mismatches import Mismatch
from service.audit.reconcile import Reconciliation, Report, Span
from service.store.codec import Codec
from service.store.kept_events import EventBatch
from service.store.records import USAGE_MISSING, USAGE_PARTIAL, Usage, now
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids
from service.wire.webhooks import WebhookConfig
from tests.interactions.conftest import database_url
from tests.support.pauses import time_in_this_hour
from tests.support.store import OpenStore, intent, literal, open_store, outcome, query, running

__all__ = ("database_url",)

SENT = '[{"deployment":"dep-1","started":1,"us":5,"status":200}]'
TOLD = b'event: step.start\ndata: {"event_type":"step.start"}\n\n'
END = b'event: interaction.completed\ndata: {"event_type":"interaction.completed"}\n\n'
ERROR = b'event: error\ndata: {"event_type":"error"}\n\n'


class Audited:
    """A store, and what reconciliation says of it."""

    def __init__(self, opened: OpenStore, url: str) -> None:
        self.store = opened.store
        self.url = url
        self._backend = opened.backend

    async def report(
        self, *, start: int = 0, project: bytes | None = None, grace: float = 0.0, interval: int = 3_600
    ) -> Report:
        span = Span(start=start, end=now() + 10_000_000, interval=interval)
        return await Reconciliation(self._backend.fetch, Codec(), grace=grace).report(span, project)

    async def reasons(self, **options: Any) -> list[tuple[bytes, str]]:
        return [(found.id, found.reason) for found in (await self.report(**options)).mismatches]

    async def ended(self, log: bytes | None = None, **changes: Any) -> bytes:
        """An interaction that upstream completed, with a log of one batch if it is given."""
        begun = intent(stream=log is not None)
        await self.store.begin(begun, b"{}")
        batches = []
        if log is not None:
            batch = EventBatch(1, log.count(b"\n\n"), log, None)
            batches = [batch.write_last(begun.id, begun.owner_id)]
        await self.store.finish(outcome(begun.id, attempts=SENT, **changes), b"{}", log=batches)
        return begun.id

    async def change(self, statement: str, key: bytes) -> None:
        await query(self.url, statement.replace(":id", literal(self.url, key)))


@pytest.fixture
async def audited(database_url: str) -> AsyncIterator[Audited]:
    """An empty store on each kind of database."""
    async with open_store(database_url) as opened:
        yield Audited(opened, database_url)


async def test_an_empty_store_fits_itself(audited: Audited) -> None:
    report = await audited.report()
    assert (report.figures, report.mismatches) == ([], [])


async def test_what_is_there_is_counted(audited: Audited) -> None:
    await time_in_this_hour(30.0)
    await audited.ended()
    await audited.ended(TOLD + END)
    await audited.ended(TOLD + ERROR, status="failed", usage=Usage(USAGE_MISSING))
    await audited.ended(status="cancelled", usage=Usage(USAGE_PARTIAL))
    begun = intent()
    await audited.store.begin(begun, b"{}")
    report = await audited.report(grace=60)
    assert report.mismatches == []
    (figures,) = report.shown()["intervals"]
    assert figures == {
        "start": now() // 3_600_000_000 * 3_600,
        "accepted": 5,
        "attempts": 4,
        "outcomes": {"cancelled": 1, "completed": 2, "failed": 1},
        "open": 1,
        "usage": {"final": 2, "partial": 1, "missing": 1},
        "events": 4,
    }


async def test_intervals_and_spans_are_of_the_time_of_creation(audited: Audited) -> None:
    old, new = ids.derived(7_200_000, "old"), ids.derived(10_800_000, "new")
    for key in (old, new):
        await audited.store.begin(intent(key), b"{}")
        await audited.store.finish(outcome(key, attempts=SENT), b"{}")
    report = await audited.report()
    assert [figures.start for figures in report.figures] == [7_200_000_000, 10_800_000_000]
    (figures,) = (await audited.report(start=7_300_000_000)).figures
    assert (figures.start, figures.accepted) == (10_800_000_000, 1)


async def test_more_than_a_page_is_read(audited: Audited) -> None:
    await time_in_this_hour(60.0)
    begun = [intent() for _ in range(1_100)]
    await asyncio.gather(*(audited.store.begin(one, b"{}") for one in begun))
    await asyncio.gather(*(audited.ended(TOLD + END) for _ in range(150)))
    report = await audited.report(grace=60)
    assert report.mismatches == []
    (figures,) = report.figures
    assert (figures.accepted, figures.open, figures.events) == (1_250, 1_100, 300)


async def test_a_project_sees_its_own(audited: Audited) -> None:
    other = ids.mint()
    begun = intent(project_id=other)
    await audited.store.begin(begun, b"{}")
    await audited.store.finish(outcome(begun.id, attempts=None), b"{}")
    key = await audited.ended()
    await audited.change("DELETE FROM payloads WHERE interaction_id = :id AND kind = 2", key)
    assert await audited.reasons(project=DEFAULT_PROJECT) == [(key, "response_missing")]
    assert await audited.reasons(project=other) == [(begun.id, "attempts_missing")]


Break = Callable[[Audited], Awaitable[bytes]]


def damaged(statement: str, log: bytes | None = None, **changes: Any) -> Break:
    async def damage(audited: Audited) -> bytes:
        key = await audited.ended(log, **changes)
        await audited.change(statement, key)
        return key

    return damage


def logged(log: bytes, **changes: Any) -> Break:
    async def write(audited: Audited) -> bytes:
        return await audited.ended(log, **changes)

    return write


async def left_open(audited: Audited) -> bytes:
    begun = intent()
    await audited.store.begin(begun, b"{}")
    return begun.id


async def answered_only(audited: Audited) -> bytes:
    begun = intent()
    await audited.store.begin(begun, b"{}")
    await audited.store.finish(running(begun.id, attempts=SENT), None)
    return begun.id


async def untold(audited: Audited) -> bytes:
    begun = intent(background=True)
    await audited.store.begin(begun, b"{}", webhooks=WebhookConfig(("https://a.example/",), None))
    await audited.store.finish(outcome(begun.id, attempts=SENT, announced=False), b"{}")
    return begun.id


async def overdue(audited: Audited) -> bytes:
    begun = intent(background=True)
    await audited.store.begin(begun, b"{}", webhooks=WebhookConfig(("https://a.example/",), None))
    await audited.store.finish(outcome(begun.id, attempts=SENT), b"{}")
    return begun.id


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (damaged("DELETE FROM payloads WHERE interaction_id = :id AND kind = 2"), "response_missing"),
        (damaged("UPDATE interactions SET attempts = NULL WHERE id = :id"), "attempts_missing"),
        (damaged("UPDATE interactions SET usage_state = 0 WHERE id = :id"), "usage_missing"),
        (damaged("DELETE FROM events WHERE interaction_id = :id", TOLD + END), "log_missing"),
        (damaged("UPDATE events SET first_seq = 2 WHERE interaction_id = :id", TOLD + END), "log_gap"),
        (damaged("UPDATE events SET last_seq = 5 WHERE interaction_id = :id", TOLD + END), "log_gap"),
        (logged(TOLD + TOLD), "log_end_missing"),
        (logged(END + END), "log_end_repeated"),
        (logged(TOLD + ERROR + TOLD), "log_end_missing"),
        (logged(END + ERROR), "log_end_passed"),
        (logged(END + TOLD), "log_end_passed"),
        (left_open, "abandoned"),
        (answered_only, "outcome_missing"),
        (untold, "webhook_missing"),
        (overdue, "webhook_overdue"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_what_does_not_fit_is_named(audited: Audited, make: Break, reason: str) -> None:
    await audited.ended(TOLD + END)
    key = await make(audited)
    assert await audited.reasons() == [(key, reason)]


@pytest.mark.parametrize("table", ["payloads", "events", "webhooks"])
async def test_rows_of_nothing_are_named(audited: Audited, table: str) -> None:
    begun = intent(background=True, stream=True)
    await audited.store.begin(begun, b"{}", webhooks=WebhookConfig(("https://a.example/",), None))
    last = EventBatch(1, 1, END, None).write_last(begun.id, begun.owner_id)
    await audited.store.finish(outcome(begun.id, attempts=SENT), b"{}", log=[last])
    await query(audited.url, "UPDATE webhooks SET due_at = NULL, settled_at = 1")
    for other in {"payloads", "events", "webhooks"} - {table}:
        await audited.change(f"DELETE FROM {other} WHERE interaction_id = :id", begun.id)
    await audited.change("DELETE FROM interactions WHERE id = :id", begun.id)
    report = await audited.report()
    assert report.mismatches == [Mismatch(begun.id, "interaction_missing", f"{table} has rows of it")]
    assert (await audited.report(project=DEFAULT_PROJECT)).mismatches == []


async def test_what_goes_on_is_no_mismatch(audited: Audited) -> None:
    owner = ids.mint()
    begun = intent(owner_id=owner, stream=True)
    await audited.store.begin(begun, b"{}")
    await audited.store.events.append(EventBatch(1, 1, TOLD, None).write(begun.id, owner))
    assert await audited.reasons() == [(begun.id, "abandoned")]
    assert await audited.reasons(grace=60) == []
    alive = f"INSERT INTO leases (interaction_id, kind, due_at, tries) VALUES (:id, 'process', {now() + 10**8}, 0)"
    await audited.change(alive, owner)
    try:
        assert await audited.reasons() == []
    finally:
        await audited.change("DELETE FROM leases WHERE interaction_id = :id", owner)


async def test_what_is_refused_deleted_or_cut_short_fits(audited: Audited) -> None:
    refused = intent(stream=True)
    await audited.store.begin(refused, b"{}")
    await audited.store.finish(
        outcome(refused.id, status="failed", http_status=404, attempts="[]", usage=Usage()), None
    )
    deleted = await audited.ended(TOLD + END)
    await audited.store.delete(deleted, now(), None)
    whole = SENT.replace("}]", ',"whole":true}]')
    begun = intent(stream=True)
    await audited.store.begin(begun, b"{}")
    await audited.store.finish(outcome(begun.id, attempts=whole), b"{}")
    await audited.ended(TOLD + ERROR, status="failed")
    await audited.ended(TOLD + ERROR + TOLD + END)
    killed = await audited.ended(END)
    away = "first_seq = first_seq + 1000000, last_seq = last_seq + 1000000"
    await audited.change(f"UPDATE events SET {away} WHERE interaction_id = :id", killed)
    assert await audited.reasons() == []
