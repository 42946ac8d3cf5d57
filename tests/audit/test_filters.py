"""Every filter against a brute-force computation on random data, on both databases, by every way that finds it."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

import pytest

from service.audit import filters
from service.audit.filters import Label
from service.audit.indexer import AFTERLIFE_SECONDS, Indexer
from service.audit.listing import Listing
from service.audit.terms import later, leading, of_later, term
from service.audit.wanted import Order
from service.errors import InvalidRequest
from service.store import migrate
from service.store.codec import Codec
from service.store.engine import open_reports
from service.store.records import USAGE_FINAL, USAGE_MISSING, Usage, now
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids
from tests.audit.history import (
    HOUR,
    LATE_FIGURES,
    MODELS,
    PRICES,
    TEAMS,
    Past,
    Told,
    add,
    answer_of,
    cost_of,
    past,
    request_of,
)
from tests.support.store import USAGE, OpenStore, intent, outcome
from tests.support.store import query as ask

Check = Callable[[Told], bool]
#: What is still to be given terms.
MARKS = "SELECT name FROM progress WHERE name LIKE 'terms%'"
ORDERS: tuple[Order, ...] = ("desc", "asc")


def model_of(told: Told) -> str | None:
    return told.model if told.model is not None else told.model_requested


def duration(told: Told) -> float | None:
    return None if told.completed_at is None else (told.completed_at - told.created_at) / 1e6


def within(value: float | None, least: float | None = None, most: float | None = None) -> bool:
    return value is not None and (least is None or value >= least) and (most is None or value <= most)


def request_bytes(told: Told) -> int:
    return len(request_of(told))


def response_bytes(told: Told) -> int | None:
    return len(answer_of(told)) if told.answer else None


def final(told: Told) -> bool:
    return told.usage.state == USAGE_FINAL


CASES: dict[str, Check] = {
    "": lambda told: True,
    "status=completed": lambda told: told.status == "completed",
    "status=failed,incomplete": lambda told: told.status in ("failed", "incomplete"),
    "status=in_progress": lambda told: told.status == "in_progress",
    "model=gemini-2.5-pro": lambda told: model_of(told) == "gemini-2.5-pro",
    "model=gemini-2.5-pro&model=gemini-3.5-flash": lambda told: model_of(told) in MODELS[1:3],
    "model_requested=gemini%2Fgemini-2.5-pro": lambda told: told.model_requested == "gemini/gemini-2.5-pro",
    "model=any": lambda told: model_of(told) is not None,
    "deployment=dep-2": lambda told: told.deployment == "dep-2",
    "agent=deep-research": lambda told: told.agent is not None,
    "agent=any": lambda told: told.agent is not None,
    "agent=nobody": lambda told: False,
    "error_code=rate_limit_exceeded": lambda told: told.error_code == "rate_limit_exceeded",
    "error_code=any": lambda told: told.error_code is not None,
    "http_status=429": lambda told: told.http_status == 429,
    "min_http_status=400": lambda told: within(told.http_status, 400),
    "service_tier=flex": lambda told: told.service_tier == "flex",
    "project=default": lambda told: True,
    "project=00000000-0000-7000-8000-000000000001": lambda told: True,
    "project=other": lambda told: False,
    "project=00000000-0000-7000-8000-0000000000aa": lambda told: False,
    "label:team=search": lambda told: told.labels.get("team") == "search",
    "label.team=search,": lambda told: False,
    "label.team=qu%22ote": lambda told: told.labels.get("team") == TEAMS[2],
    "label.team=%C3%BCn%C3%AF,code": lambda told: told.labels.get("team") == TEAMS[3],
    "label:team=search&label:team=ads": lambda told: told.labels.get("team") in ("search", "ads"),
    "label:team=search&label.env=prod": lambda told: told.labels == {"team": "search", "env": "prod"},
    "label.env=": lambda told: "env" in told.labels,
    "label:env=any": lambda told: "env" in told.labels,
    "label:team=search&label:team=any": lambda told: "team" in told.labels,
    "label:team=any&label.team=nobody": lambda told: "team" in told.labels,
    "label:env=prod&label:env=": lambda told: "env" in told.labels,
    "status=failed,any": lambda told: True,
    "agent=nobody&agent=any": lambda told: told.agent is not None,
    "label.te=search": lambda told: False,
    "stream=true": lambda told: told.stream,
    "stream=false": lambda told: not told.stream,
    "background=true": lambda told: told.background,
    "store=false": lambda told: not told.store,
    "store=true&stream=true": lambda told: told.store and told.stream,
    "min_total_tokens=6000": lambda told: final(told) and within(told.usage.total_tokens, 6000),
    "max_total_tokens=2500": lambda told: final(told) and within(told.usage.total_tokens, None, 2500),
    "min_input_tokens=1000&max_input_tokens=1700": lambda told: (
        final(told) and within(told.usage.input_tokens, 1000, 1700)
    ),
    "min_output_tokens=0": final,
    "max_output_tokens=0": lambda told: final(told) and told.usage.output_tokens == 0,
    "min_thought_tokens=50": lambda told: within(told.usage.thought_tokens, 50),
    "max_thought_tokens=0": lambda told: within(told.usage.thought_tokens, None, 0),
    "max_cached_tokens=10": lambda told: within(told.usage.cached_tokens, None, 10),
    "min_cached_tokens=95": lambda told: within(told.usage.cached_tokens, 95),
    "min_tool_use_tokens=90": lambda told: within(told.usage.tool_use_tokens, 90),
    "tool_use_tokens=0": lambda told: told.usage.tool_use_tokens == 0,
    "min_duration=30": lambda told: within(duration(told), 30),
    "min_duration=2.5&max_duration=20": lambda told: within(duration(told), 2.5, 20),
    "max_first_event=0.5": lambda told: (
        told.first_byte_at is not None and told.first_byte_at - told.created_at <= 500_000
    ),
    "min_first_event=1.8": lambda told: (
        told.first_byte_at is not None and told.first_byte_at - told.created_at >= 1_800_000
    ),
    "depth=0": lambda told: told.depth == 0,
    "depth=2": lambda told: told.depth == 2,
    "min_depth=3": lambda told: told.depth >= 3,
    "min_request_bytes=1": lambda told: True,
    "min_request_bytes=99999999999999": lambda told: False,
    "replay_of=any": lambda told: told.replay_of is not None,
    "previous_interaction_id=any": lambda told: told.previous is not None,
    "previous_interaction_id=any&min_depth=3": lambda told: told.depth >= 3,
    "chain=any": lambda told: told.depth > 0,
    "key_id=any": lambda told: told.key_id is not None,
    "key_id=any&stream=true": lambda told: told.key_id is not None and told.stream,
    "status=failed&min_duration=10&stream=false": lambda told: (
        told.status == "failed" and within(duration(told), 10) and not told.stream
    ),
}


def of_chain(root: bytes) -> Check:
    return lambda told: told.root == root


def following(key: bytes) -> Check:
    return lambda told: told.previous == key


def replays(key: bytes) -> Check:
    return lambda told: told.replay_of == key


async def everything(made: Past, query: str, order: Order, limit: int) -> list[str]:
    """The ids of all pages."""
    chosen, _ = filters.parse(parse_qsl(query, keep_blank_values=True))
    listing = Listing(made.reports, LATE_FIGURES)
    found: list[str] = []
    cursor = None
    while True:
        page, cursor = await listing.summaries(
            DEFAULT_PROJECT, chosen, order=order, limit=limit, cursor=cursor
        )
        found += [summary["id"] for summary in page]
        if cursor is None:
            return found
        assert len(page) == limit


async def check(made: Past, query: str, expected: Check) -> None:
    wanted = [told.id for told in made.of_default() if not told.deleted and expected(told)]
    assert await everything(made, query, "asc", 1000) == wanted, query
    assert await everything(made, query, "desc", 61) == wanted[::-1], query
    if query in ("min_total_tokens=6000", "max_total_tokens=2500"):
        # Pages far smaller than what their terms have.
        assert await everything(made, query, "asc", 3) == wanted, query
        assert await everything(made, query, "desc", 2) == wanted[::-1], query


async def check_all(made: Past) -> None:
    for query, expected in CASES.items():
        await check(made, query, expected)
    told = made.of_default()
    alpha = made.keys["alpha"]
    for query in ("key_id=alpha", f"key_id={uuid.UUID(bytes=alpha)}"):
        await check(made, query, lambda one: one.key_id == alpha)
    await check(made, "key_id=alpha,beta", lambda one: one.key_id is not None)
    await check(made, "key_id=nobody", lambda one: False)
    since, until = told[len(told) // 4].moment, told[len(told) // 2].moment
    times = f"from={since / 1e6:.6f}&to={until / 1e6:.6f}"
    await check(made, times, lambda one: since <= one.moment < until)
    await check(
        made, f"{times}&status=failed", lambda one: since <= one.moment < until and one.status == "failed"
    )
    await check(
        made,
        f"{times}&min_total_tokens=4000",
        lambda one: since <= one.moment < until and final(one) and within(one.usage.total_tokens, 4000),
    )
    requests = sorted(map(request_bytes, told))
    least, most = requests[len(requests) // 4], requests[len(requests) // 2]
    sizes = f"min_request_bytes={least}&max_request_bytes={most}"
    await check(made, sizes, lambda one: within(request_bytes(one), least, most))
    answers = sorted(size for size in map(response_bytes, told) if size is not None)
    low, high = answers[len(answers) // 4], answers[len(answers) // 2]
    sizes = f"min_response_bytes={low}&max_response_bytes={high}"
    await check(made, sizes, lambda one: within(response_bytes(one), low, high))
    originals = [one.replay_of for one in told if one.replay_of is not None]
    assert len(originals) > 5
    for original in originals[:4]:
        await check(made, f"replay_of={ids.to_text(original)}", replays(original))
    for one in random.Random(1).sample(told, 4):
        await check(made, f"chain={one.id}", of_chain(one.root))
        await check(made, f"previous_interaction_id={one.id}", following(one.key))
    every = [one.id for one in told]
    assert await everything(made, "deleted=any", "asc", 50) == every
    assert await everything(made, "deleted=true", "asc", 50) == [one.id for one in told if one.deleted]


async def check_costs(made: Past) -> None:
    """Costs are known of what has been derived from."""
    costs = sorted(cost for cost in map(cost_of, made.of_default()) if cost is not None)
    low, high = costs[len(costs) // 4], costs[len(costs) // 2]
    least, most = f"min_cost={low / 1e9:.9f}", f"max_cost={high / 1e9:.9f}"
    await check(made, least, lambda told: within(cost_of(told), low))
    await check(made, most, lambda told: within(cost_of(told), None, high))
    await check(
        made,
        f"{least}&{most}&stream=false",
        lambda told: within(cost_of(told), low, high) and not told.stream,
    )


async def test_every_filter_finds_what_a_look_at_every_row_finds(store_url: str) -> None:
    async with past(store_url, 140) as made:
        # Some are listed by their terms, and some before anything was derived from them.
        await add(made, 70, random.Random(8))
        await check_all(made)
        await made.indexer.catch_up()
        assert await made.indexer.step() == 0
        await check_all(made)
        await check_costs(made)


async def terms_of(url: str) -> set[tuple[int, bytes]]:
    rows = await ask(url, "SELECT term, interaction_id FROM listing_terms")
    return {(number, key if isinstance(key, bytes) else key.bytes) for number, key in rows}


def columns_of(told: Told) -> dict[str, Any]:
    """What its row has that had no terms at first."""
    usage = told.usage
    return {
        "project_id": told.project_id,
        "key_id": told.key_id,
        "created_at": told.created_at,
        "first_byte_at": told.first_byte_at,
        "depth": told.depth,
        "request_bytes": request_bytes(told),
        "response_bytes": response_bytes(told),
        "thought_tokens": usage.thought_tokens,
        "cached_tokens": usage.cached_tokens,
        "tool_use_tokens": usage.tool_use_tokens,
    }


@pytest.mark.parametrize("better", ["status=failed", "model=gemini-2.5-pro", "min_depth=3", "label:team=ads"])
def test_that_there_is_any_key_leads_only_where_nothing_else_does(better: str) -> None:
    def led(query: str) -> list[int]:
        return leading(filters.parse(parse_qsl(query))[0], DEFAULT_PROJECT, ())

    assert led(f"key_id=any&{better}") == led(better)
    assert led("key_id=any") == [term(DEFAULT_PROJECT, "any key_id")]


class MovedClock:
    """A clock that stands still until it is moved."""

    moment = 0.0

    def indexer(self, made: Past, **options: int) -> Indexer:
        return Indexer(
            made.opened.backend, made.reports, Codec(), PRICES, clock=lambda: self.moment, **options
        )


async def bring_usage(made: Past, told: Told) -> None:
    """Have the usage come that an interaction still owes."""
    told.usage = USAGE
    await made.opened.store.held.settle_usage(told.key, USAGE, None)


async def without_later_terms(made: Past, url: str, version: str) -> None:
    """Have everything as it was derived from by a version."""
    found = {term(told.project_id, "any key_id") for told in made.told}
    if version < "0013":
        found |= {number for told in made.told for number in of_later(columns_of(told))}
    assert len({key for number, key in await terms_of(url) if number in found}) > 8
    await ask(url, f"DELETE FROM listing_terms WHERE term IN ({', '.join(map(str, found))})")


async def test_what_ends_may_go_on_for_a_while_before_terms_are_filled_in(store_url: str) -> None:
    async with past(store_url, 30) as made:
        await migrate.downgrade(store_url, "0014")
        before, held = ids.mint(), made.opened.store.held
        await held.enter(before, now() + HOUR)
        await migrate.upgrade(store_url)
        clock = MovedClock()
        indexer = clock.indexer(made)
        clock.moment += 2 * AFTERLIFE_SECONDS
        assert await indexer.fill_in() == 0
        await held.leave(before)
        clock.moment += AFTERLIFE_SECONDS - 1
        assert await indexer.fill_in() == 0
        assert await clock.indexer(made).fill_in() == 0
        clock.moment += 1
        assert (await indexer.fill_in() or 0) > 20
        await indexer.catch_up()
        assert await ask(store_url, MARKS) == []


@pytest.mark.parametrize("version", ["0012", "0014"])
async def test_what_was_derived_from_before_there_were_terms_of_its_kind_is_given_them(
    store_url: str, version: str
) -> None:
    cases = {text: expected for text, expected in CASES.items() if later(filters.parse(parse_qsl(text))[0])}
    assert len(cases) > 15
    async with past(store_url, 60) as made:
        whole = await terms_of(store_url)
        await without_later_terms(made, store_url, version)
        await migrate.downgrade(store_url, version)
        before, held = ids.mint(), made.opened.store.held
        await held.enter(before, now() + HOUR)
        await migrate.upgrade(store_url)
        await held.enter(ids.mint(), now() + HOUR)
        await add(made, 20, random.Random(9))
        owing = [told for told in made.told if told.usage.state == USAGE_MISSING and not told.deleted]
        assert len(owing) > 4
        for text, expected in cases.items():
            await check(made, text, expected)
        # What began before the update derives as long as it lives, as it always has.
        await made.indexer.catch_up()
        whole |= await terms_of(store_url)
        await without_later_terms(made, store_url, version)
        for text, expected in cases.items():
            await check(made, text, expected)
        # Usage that comes now waits for what is derived from it while its interaction is gone by.
        for told in owing:
            await bring_usage(made, told)
        clock = MovedClock()
        indexer = clock.indexer(made, filled_in_at_once=50)
        assert await indexer.fill_in() == 0
        await held.leave(before)
        clock.moment += AFTERLIFE_SECONDS
        # Some interactions more than what a first step has.
        assert await indexer.fill_in() == 50
        for text, expected in cases.items():
            await check(made, text, expected)
        await indexer.catch_up()
        assert await ask(store_url, MARKS) == []
        assert whole <= await terms_of(store_url)
        for text, expected in cases.items():
            await check(made, text, expected)


@pytest.mark.parametrize("query", ["min_response_bytes=100", "min_response_bytes=150&max_response_bytes=800"])
async def test_one_whose_answer_grew_when_its_usage_came_is_told_once(
    opened: OpenStore, store_url: str, query: str
) -> None:
    store, reports = opened.store, open_reports(store_url)
    await reports.start()
    try:
        indexer = Indexer(opened.backend, reports, Codec(), PRICES)
        keys = [await begun(store, size) for size in (200, 220, 240, 260, 280)]
        await indexer.catch_up()
        for key in keys:
            await store.held.settle_usage(key, USAGE, b"{}" + b" " * 600)
        await indexer.catch_up()
        chosen, _ = filters.parse(parse_qsl(query))
        for limit in (1, 2, 4, 5, 50):
            for order in ORDERS:
                told, cursor, pages = [], None, 0
                while pages == 0 or cursor is not None:
                    found, cursor = await Listing(reports, LATE_FIGURES).summaries(
                        DEFAULT_PROJECT, chosen, order=order, limit=limit, cursor=cursor
                    )
                    told += [one["id"] for one in found]
                    pages += 1
                assert told == [ids.to_text(key) for key in sorted(keys, reverse=order == "desc")]
                assert pages == -(-len(keys) // limit)
    finally:
        await reports.close()


async def begun(store: Store, size: int) -> bytes:
    """One that has ended without its usage, with an answer of so many bytes."""
    entry = intent()
    await store.begin(entry, b"{}")
    await store.finish(outcome(entry.id, usage=Usage(USAGE_MISSING)), b"{}" + b" " * (size - 2))
    return entry.id


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("statsu=failed", "Unknown parameter 'statsu'; the nearest known one is 'status'"),
        ("min_status=1", "Unknown parameter 'min_status'; the nearest known one is"),
        ("since=1d", "Unknown parameter 'since'; the nearest known one is 'from'"),
        ("before=1d", "Unknown parameter 'before'; the nearest known one is 'to'"),
        ("banana=2", "Unknown parameter 'banana'; GET /openapi.json tells all that there are"),
        ("=2", "Unknown parameter ''; GET /openapi.json tells all that there are"),
        ("total_token=1", "nearest known one is 'total_tokens'"),
        ("label=team", "nearest known one is 'label:NAME'"),
        ("labels:team=x", "nearest known one is 'label:NAME'"),
        ("lable:team=x", "nearest known one is 'label:NAME'"),
        ("status:failed=", "nearest known one is 'status'"),
        (
            "status=done",
            "invalid for 'status'. Expected one of budget_exceeded, cancelled, completed, failed",
        ),
        ("from=2026-11-25&to=2026-11-25", "invalid for 'from'. Expected a time before 'to'"),
        ("status=", "invalid for 'status'. Expected a value"),
        ("stream=perhaps", "invalid for 'stream'. Expected true or false, got 'perhaps'"),
        ("min_cost=much", "invalid for 'min_cost'. Expected a number, got 'much'"),
        ("min_cost=NaN", "invalid for 'min_cost'. Expected a number"),
        ("max_cost=1e999999999", "invalid for 'max_cost'. Expected a number"),
        (
            "min_total_tokens=9999999999999999999999",
            "invalid for 'min_total_tokens'. Expected a number up to",
        ),
        ("min_cost=1&min_cost=2", "'min_cost' is given twice"),
        ("http_status=200&http_status=400", "'http_status' is given twice"),
        ("from=yesterday", "invalid for 'from'. Expected a time such as"),
        ("to=1960-01-01", "invalid for 'to'. Expected a time from 1970 on"),
        ("chain=v1_upstream", "invalid for 'chain'. Expected the id of an interaction"),
        ("deleted=perhaps", "invalid for 'deleted'. Expected false, true or any"),
        ("label:=search", "names no label"),
        ("agent=a%00b", "Remove the NUL character"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused(query: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        filters.parse(parse_qsl(query, keep_blank_values=True))
    assert message in refused.value.message


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [
        ("label:a%3Db=c", "a=b", "c"),
        ("label.a%3Db=any", "a=b", filters.ANY),
        ("label%3Ateam%3Dsearch", "team", "search"),
        ("label:team=a%3Db", "team", "a=b"),
    ],
)
def test_a_label_has_the_name_that_it_was_given(query: str, name: str, value: str) -> None:
    found, _ = filters.parse(parse_qsl(query, keep_blank_values=True))
    assert found.labels == (Label(name, () if value == filters.ANY else (value,)),)


def test_times_are_read_as_people_write_them() -> None:
    def since(value: str) -> int | None:
        return filters.parse([("from", value)])[0].since

    noon = 1_795_608_000_000_000
    assert since("2026-11-25T12:00:00Z") == noon
    assert since("2026-11-25T14:00:00+02:00") == noon
    assert since("2026-11-25T14:00:00 02:00") == noon
    assert since("2026-11-25T12:00") == noon
    assert since("2026-11-25") == since("20261125") == noon - 12 * 3_600_000_000
    assert since("1795608000") == since("1795608000.0") == noon
    assert since("2026-11-25t12:00:00z") == since("2026-11-25t12:00:00.0z") == noon
    assert since("2026-11-25t14:00:00+02:00") == since("2026-11-25t12:00") == noon
    assert since("20261125t120000z") == noon
    # A leap second is taken as the one behind it.
    new_year = since("2017-01-01T00:00:00Z")
    assert since("2016-12-31T23:59:60Z") == since("2016-12-31t23:59:60z") == new_year
    assert since("2016-12-31T15:59:60-08:00") == since("2017-01-01T05:29:60+05:30") == new_year
    assert since("2016-12-31T23:59:60.25Z") == since("2017-01-01T00:00:00.25Z")
    recent = since("1h")
    assert recent is not None
    assert recent > noon - 10**15


@pytest.mark.parametrize(
    "value",
    [
        "2026-11-25T12:00:60Z",
        "2026-11-25T23:59:60+02:00",
        "2026-11-25T23:59:61Z",
        "9999-12-31T23:59:60Z",
        "2026-11-25tt12:00:00Z",
        "z",
    ],
)
def test_what_is_no_moment_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest, match=r"invalid for 'from'\. Expected a time"):
        filters.parse([("from", value)])


def test_a_number_between_two_whole_ones_is_neither() -> None:
    def bounds(query: str) -> tuple[int | None, int | None]:
        (found,) = filters.parse(parse_qsl(query))[0].bounds
        return found.least, found.most

    assert bounds("depth=1.5") == (2, 1)
    assert bounds("min_depth=1.5&max_depth=3.5") == (2, 3)
    assert bounds("duration=0.0000015") == (2, 1)
    assert bounds("depth=2.0") == (2, 2)
