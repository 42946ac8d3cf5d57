"""Usage against sums over the rows, on random data, on both databases, at every stage of what is derived from them."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text as sql

from service.audit import usage_request
from service.audit.backlog import MOST
from service.audit.groups import Groups
from service.audit.histogram import RELATIVE_ERROR, Histogram
from service.audit.intervals import Places, divided, pieces_of
from service.audit.usage import UsageReports
from service.audit.usage_rollups import RollUps
from service.errors import InvalidRequest, ServiceUnavailable
from service.store.codec import Codec
from service.store.records import USAGE_FINAL, USAGE_MISSING, Usage, now
from service.store.tables import DEFAULT_PROJECT
from tests.audit.history import HOUR, PRICES, Past, Told, add, answer_of, cost_of, delete, finish, past
from tests.support.store import query

Json = dict[str, Any]


def sums(told: list[Told]) -> Json:
    """The sums over interactions, by looking at each."""
    final = [one for one in told if one.usage.state == USAGE_FINAL]
    costs = [cost_of(one) for one in final]
    modalities: dict[str, int] = defaultdict(int)
    for one in final:
        for name, count in one.modalities.items():
            if count:
                modalities[name] += count
    known = sum(cost for cost in costs if cost is not None)
    unpriced = sum(cost is None for cost in costs)
    unmeasured = sum(one.usage.state == USAGE_MISSING for one in told)
    return {
        "requests": len(told),
        "errors": sum(one.status == "failed" for one in told),
        "unmeasured": unmeasured,
        "tokens": {
            name: sum(getattr(one.usage, f"{name}_tokens") or 0 for one in final)
            for name in ("input", "output", "thought", "cached", "tool_use", "total")
        },
        "modalities": {"input": dict(modalities)} if modalities else {},
        "cost": None if (unpriced or unmeasured) and not known else known / 1e9,
        "unpriced": unpriced,
    }


def quantile(values: list[int], share: float) -> float:
    ranked = sorted(values)
    return max(ranked[max(0, -(-int(share * 1000) * len(ranked) // 1000) - 1)], 100) / 1e6


VALUES: dict[str, Callable[[Told], Any]] = {
    "model": lambda told: told.model if told.model is not None else told.model_requested,
    "project": lambda told: "default",
    "agent": lambda told: told.agent,
    "deployment": lambda told: told.deployment,
    "status": lambda told: told.status,
    "error_code": lambda told: told.error_code,
    "service_tier": lambda told: told.service_tier,
    "stream": lambda told: told.stream,
    "background": lambda told: told.background,
    "label:team": lambda told: told.labels.get("team"),
    "label:env": lambda told: told.labels.get("env"),
}


def time_of(unit: str, zone: ZoneInfo) -> Callable[[Told], Any]:
    def named(told: Told) -> str:
        local = datetime.fromtimestamp(told.moment / 1e6, UTC).astimezone(zone)
        if unit == "hour":
            return local.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes")
        if unit == "week":
            local -= timedelta(days=local.weekday())
        return local.strftime("%Y-%m" if unit == "month" else "%Y-%m-%d")

    return named


async def usage(made: Past, text: str, *, most_waiting: int = MOST) -> Json:
    asked = usage_request.parse(parse_qsl(text))
    reports = UsageReports(made.reports, Codec(), PRICES, most_waiting=most_waiting)
    report = await reports.report(DEFAULT_PROJECT, asked.filters, asked.grouping, asked.zone)
    return usage_request.told(asked, report)


async def check(
    made: Past,
    text: str,
    chosen: Callable[[Told], bool] = lambda told: True,
    **values: Callable[[Told], Any],
) -> None:
    answered = await usage(made, text)
    ended = [told for told in made.of_default() if told.completed_at is not None and chosen(told)]
    groups: dict[tuple[Any, ...], list[Told]] = defaultdict(list)
    for told in ended:
        groups[tuple(value(told) for value in values.values())].append(told)
    names = answered["group_by"]
    assert names == [name.replace("__", ":") for name in values]
    found = {tuple(group[name] for name in names): group for group in answered["groups"]}
    assert found.keys() == groups.keys(), text
    for key, members in groups.items():
        check_sums(found[key], members)
    if ended:
        check_sums(answered["total"], ended)


def check_sums(answered: Json, told: list[Told]) -> None:
    expected = sums(told)
    shown = {name: answered[name] for name in expected}
    assert shown == expected
    durations = [one.completed_at - one.created_at for one in told if one.completed_at is not None]
    first = [one.first_byte_at - one.created_at for one in told if one.first_byte_at is not None]
    for name, values in (("duration", durations), ("first_event", first)):
        for share, word in ((0.5, "p50"), (0.95, "p95")):
            assert answered[name][word] == pytest.approx(
                quantile(values, share), rel=RELATIVE_ERROR * 1.01, abs=1e-6
            )


async def check_all(made: Past) -> None:
    for name, value in VALUES.items():
        await check(made, f"group_by={name}", **{name.replace(":", "__"): value})
    await check(made, "")
    names = {key: name for name, key in made.keys.items()}
    await check(made, "group_by=key", key=lambda told: None if told.key_id is None else names[told.key_id])
    await check(
        made,
        "group_by=model,label:team&group_by=day",
        model=VALUES["model"],
        label__team=VALUES["label:team"],
        day=time_of("day", ZoneInfo("UTC")),
    )
    for zone in ("UTC", "Europe/Berlin", "Asia/Kolkata", "Asia/Kathmandu", "America/St_Johns"):
        for unit in ("hour", "day", "week", "month"):
            grouped = {unit: time_of(unit, ZoneInfo(zone))}
            if unit == "hour" and zone != "UTC":
                grouped = {unit: hour_of(ZoneInfo(zone))}
            await check(made, f"group_by={unit}&tz={zone}", **grouped)
    told = made.of_default()
    since, until = told[len(told) // 5].moment, told[len(told) // 2].moment
    times = f"from={since / 1e6:.6f}&to={until / 1e6:.6f}"
    await check(made, times, lambda one: since <= one.moment < until)
    await check(
        made,
        f"{times}&status=failed,completed&label:team=search&group_by=stream",
        lambda one: (
            since <= one.moment < until
            and one.status in ("failed", "completed")
            and one.labels.get("team") == "search"
        ),
        stream=VALUES["stream"],
    )
    await check(made, "key_id=alpha&stream=true", lambda one: one.key_id == made.keys["alpha"] and one.stream)
    await check(made, "model=gemini-2.5-pro", lambda one: VALUES["model"](one) == "gemini-2.5-pro")
    await check(made, "agent=any&project=default", lambda one: one.agent is not None)
    await check(made, "project=other", lambda one: False)


def hour_of(zone: ZoneInfo) -> Callable[[Told], Any]:
    def named(told: Told) -> str:
        local = datetime.fromtimestamp(told.moment / 1e6, UTC).astimezone(zone)
        return local.replace(minute=0, second=0, microsecond=0).isoformat(timespec="minutes")

    return named


async def late_usage(made: Past, told: Told) -> None:
    """Upstream tells the usage of an interaction after its end, as the supervisor writes it."""
    told.usage, told.modalities = Usage(USAGE_FINAL, 100, 50, 0, 0, 0, 150), {}
    response = answer_of(told) if told.answer and not told.deleted else None
    await made.opened.store.held.settle_usage(told.key, told.usage, response)


async def test_usage_is_the_sum_over_the_rows(store_url: str) -> None:
    async with past(store_url, 150) as made:
        for told in random.Random(4).sample(made.told, 15):
            if told.completed_at is not None:
                await delete(made, told)
        await add(made, 60, random.Random(3))
        missing = [told for told in made.of_default() if told.usage.state == USAGE_MISSING and told.answer]
        for told in missing[::2]:
            await late_usage(made, told)
        await check_all(made)
        await made.indexer.catch_up()
        await check_all(made)
        statement = "SELECT count(*) FROM interactions WHERE deleted_at IS NOT NULL AND labels IS NOT NULL"
        assert await query(store_url, f"{statement} AND derived_state = 2") == [(0,)]


async def test_what_is_told_of_parts_of_hours_is_whole_however_they_came_to_be_split(store_url: str) -> None:
    """An hour is split once; what comes to it later, also by a version that knows nothing of that, is in the sums."""
    kolkata = ZoneInfo("Asia/Kolkata")
    async with past(store_url, 60) as made:
        noted = "SELECT count(*) FROM split_hours WHERE requests IS {} NULL AND start < {}"
        over = now() - 2 * HOUR
        assert await query(store_url, noted.format("", over)) == [(0,)]
        ((split,),) = await query(store_url, noted.format("NOT", over))
        assert split
        hours = dict(await query(store_url, "SELECT DISTINCT start, requests FROM split_hours"))
        assert -1 not in hours.values()
        await add(made, 20, random.Random(6))
        await made.indexer.catch_up()
        await query(store_url, f"UPDATE split_hours SET requests = requests + 1 WHERE start = {min(hours)}")
        await check(made, "group_by=hour&tz=Asia/Kolkata", hour=hour_of(kolkata))
        # From here on nothing can be told by looking at the rows.
        hidden = "UPDATE interactions SET completed_at = NULL WHERE derived_state = 2"
        await query(
            store_url,
            f"{hidden} AND created_at >= {min(hours) + HOUR} AND created_at < {over // HOUR * HOUR}",
        )
        grouped = {"hour": hour_of(kolkata), "label__team": VALUES["label:team"]}
        await check(made, "group_by=label:team,hour&tz=Asia/Kolkata", **dict(reversed(grouped.items())))


async def test_a_report_over_too_much_that_is_in_no_sum_yet_says_so(store_url: str) -> None:
    async with past(store_url, 40, derive=False) as made:
        ended = [told for told in made.of_default() if told.completed_at is not None]
        with pytest.raises(ServiceUnavailable) as refused:
            await usage(made, "group_by=model", most_waiting=len(ended) - 1)
        assert f"more than {len(ended) - 1} interactions" in refused.value.message
        assert f"which {len(made.told)} interactions still wait for" in refused.value.message
        assert refused.value.retry_after == 2
        few = f"to={ended[9].moment / 1e6:.6f}"
        assert (await usage(made, few, most_waiting=9))["total"]["requests"] == 9
        assert (await usage(made, "", most_waiting=len(ended)))["total"]["requests"] == len(ended)
        await made.indexer.catch_up()
        assert (await usage(made, "", most_waiting=0))["total"]["requests"] == len(ended)


async def test_nothing_is_counted_twice_or_missed_while_everything_happens_at_once(store_url: str) -> None:
    async with past(store_url, 40, derive=False) as made:
        source = random.Random(5)
        running = [told for told in made.of_default() if told.completed_at is None]
        stop = asyncio.Event()

        async def index() -> None:
            while not stop.is_set():
                await made.indexer.step()

        async def work() -> None:
            for told in running:
                told.status, told.http_status = "completed", 200
                told.completed_at = told.first_byte_at = max(now(), told.created_at)
                told.usage = Usage(USAGE_MISSING)
                await finish(made.opened, told)
                await late_usage(made, told)
            await add(made, 30, source)
            stop.set()

        await asyncio.gather(index(), index(), work())
        await made.indexer.catch_up()
        await check(made, "")
        await check(made, "group_by=model", model=VALUES["model"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("group_by=modle", "the nearest known one is 'model'"),
        ("group_by=day,hour", "Group by 'day' or 'hour'"),
        ("group_by=", "invalid for 'group_by'"),
        ("group_by=label:", "invalid for 'group_by'"),
        ("tz=Mars/Olympus", "invalid for 'tz'. Expected a time zone such as UTC"),
        ("tz=../etc", "invalid for 'tz'"),
        ("min_cost=1", "Usage cannot be filtered by 'cost'. It can by model, project"),
        ("q=word", "Usage cannot be filtered by 'q'"),
        ("chain=int_aaaaaaaaaaaaaaaaaaaaaaaaaa", "Usage cannot be filtered by 'chain'"),
        ("from=1h&to=2h", "invalid for 'from'. Expected a time before 'to'"),
        ("groupby=day", "Unknown parameter 'groupby'; the nearest known one is 'group_by'"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        usage_request.parse(parse_qsl(text, keep_blank_values=True))
    assert message in refused.value.message


async def test_years_of_days_that_begin_within_an_hour_are_told(store_url: str) -> None:
    async with past(store_url, 0) as made:
        await add(made, 40, random.Random(3), within=6 * 365 * 24 * HOUR)
        zone = "Asia/Kolkata"
        for _ in range(2):
            await check(made, f"group_by=day&tz={zone}", day=time_of("day", ZoneInfo(zone)))
            await made.indexer.catch_up()


async def test_a_label_that_is_no_string_counts_as_none(store_url: str) -> None:
    async with past(store_url, 20, derive=False) as made:
        ended = [told for told in made.of_default() if told.completed_at is not None]
        odd = """{"team":{"a":1},"env":"prod"}"""
        await query(store_url, "UPDATE interactions SET labels = :odd", odd=odd)
        for _ in range(2):
            (group,) = (await usage(made, "group_by=label:team,label:env"))["groups"]
            assert (group["label:team"], group["label:env"]) == (None, "prod")
            assert group["requests"] == len(ended)
            await made.indexer.catch_up()


async def test_a_report_of_nothing_is_empty(store_url: str) -> None:
    async with past(store_url, 0) as made:
        answered = await usage(made, "group_by=model,day")
    assert answered["groups"] == []
    assert answered["total"]["requests"] == 0
    assert answered["total"]["duration"] == {"p50": None, "p95": None}


def test_histograms_merge_and_keep_their_error() -> None:
    source = random.Random(1)
    values = [int(source.lognormvariate(13, 2)) + 101 for _ in range(3_000)]
    merged = Histogram()
    for start in range(0, len(values), 100):
        part = Histogram()
        for value in values[start : start + 100]:
            part.add(value)
        merged.merge(Histogram.from_bytes(part.to_bytes()))
    for share in (0.01, 0.5, 0.95, 0.99, 1.0):
        (found,) = merged.quantiles(share)
        exact = sorted(values)[max(0, -(-int(share * 3_000) // 1) - 1)]
        assert found == pytest.approx(exact, rel=RELATIVE_ERROR * 1.01)
    assert Histogram.from_bytes(Histogram().to_bytes()) == Histogram()


@pytest.mark.parametrize(("group_by", "hashed"), [("model,day", "off"), ("label:team,day", "on")])
async def test_the_few_series_of_a_report_are_looked_up_and_not_all_read(
    postgres_url: str, group_by: str, hashed: str
) -> None:
    async with past(postgres_url, 50) as made, made.reports.reading() as reading:
        asked = usage_request.parse([("group_by", group_by)])
        intervals = divided(now() - 100 * 24 * HOUR, now(), asked.grouping.unit, asked.zone)
        groups = Groups(DEFAULT_PROJECT, asked.filters, asked.grouping, Places(intervals))
        await RollUps(reading, DEFAULT_PROJECT, groups).add(pieces_of(intervals))
        assert groups.sums
        assert await reading.fetch(sql("SHOW enable_hashjoin")) == [(hashed,)]
