"""Search in inputs and outputs: words, phrases, prefixes, other languages; against brute force, on both databases."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import sys
from collections.abc import Awaitable, Callable, Iterable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Final
from urllib.parse import parse_qsl, quote

import orjson
import pytest
from sqlalchemy import text as sql

from bench.filling import key_at
from service.audit import cursors, folding, listing, stretches, words
from service.audit.filters import Filters, Label, parse
from service.audit.listing import Listing
from service.audit.postgres import finding as on_postgres
from service.audit.sqlite import finding as on_sqlite
from service.audit.wanted import Order
from service.errors import InvalidRequest
from service.store.records import USAGE_MISSING, now
from service.store.tables import DEFAULT_PROJECT, interactions
from service.wire import ids
from tests.audit.history import HOUR, LATE_FIGURES, Past, Told, add, delete, past
from tests.support.gateway import Gateway, eventually
from tests.support.replies import Json
from tests.support.store import USAGE, intent, outcome, query, sqlite_path

#: The last moment that the calendar has, in microseconds.
LAST = 253_402_300_799_999_999
QUERIES = (
    "river",
    "RIVER",
    "strasse*",
    "ubung",
    "Übung",
    "naive",
    "naïve database",
    '"naïve database"',
    '"database naïve database"',
    "river -mountain",
    "mountain OR quantum",
    "mountain OR quantum -orange",
    "data*",
    '"river dat"*',
    'river -"naïve database"',
    'mountain OR "naïve database"',
    "東京",
    "京",
    "absent",
)


def folded(text: str) -> list[str]:
    plain = text.replace("ï", "i").replace("Ü", "U").replace("東京", "東 京")
    return plain.casefold().split()


def holds(told: Told, wanted: tuple[list[str], bool]) -> bool:
    """Whether an interaction has these words one after the other, the last of them perhaps as a beginning."""
    phrase, prefix = wanted
    for text in (told.request, told.answer):
        have = folded(text)
        for place in range(len(have) - len(phrase) + 1):
            *whole, last = have[place : place + len(phrase)]
            if whole == phrase[:-1] and (last.startswith(phrase[-1]) if prefix else last == phrase[-1]):
                return True
    return False


def expected(told: Told, text: str) -> bool:
    """The meaning of one of the queries."""

    def has(phrase: str) -> bool:
        prefix = phrase.endswith("*")
        return holds(told, (folded(phrase.rstrip("*").strip('"').replace("ubung", "Übung")), prefix))

    wanted, *unwanted = text.split(" -")
    if any(has(one) for one in unwanted):
        return False
    if " OR " in wanted:
        return any(has(one) for one in wanted.split(" OR "))
    return has(wanted) if wanted.startswith('"') else all(has(one) for one in wanted.split())


async def found(
    made: Past, text: str, order: Order = "desc", limit: int = 1000, given: Filters | None = None, **more: Any
) -> list[Json]:
    filters = replace(given or Filters(), text=text, **more)
    listed = Listing(made.reports, LATE_FIGURES)
    pages: list[Json] = []
    cursor = None
    while True:
        page, cursor = await listed.summaries(
            DEFAULT_PROJECT, filters, order=order, limit=limit, cursor=cursor
        )
        pages += page
        if cursor is None:
            return pages


async def test_a_search_finds_what_a_look_at_every_text_finds(store_url: str) -> None:
    async with past(store_url, 150) as made:
        ended = [told for told in made.of_default() if told.completed_at is not None and not told.deleted]
        for text in QUERIES:
            if text == "strasse*" and store_url.startswith("sqlite"):
                # SQLite takes case away, and leaves the sharp s.
                continue
            wanted = [told.id for told in ended if expected(told, text)]
            assert [one["id"] for one in await found(made, text, "asc")] == wanted, text
            assert [one["id"] for one in await found(made, text, "desc", 17)] == wanted[::-1], text
            ranked = [one["id"] for one in await found(made, text, "rank", 17)]
            assert sorted(ranked) == sorted(wanted), text
        labelled = await found(made, "river", labels=(Label("team", ("search",)),))
        assert [one["id"] for one in labelled] == [
            told.id for told in ended[::-1] if expected(told, "river") and told.labels.get("team") == "search"
        ]
        since, until = ended[20].moment, ended[-20].moment
        bounded = await found(made, "river", "asc", since=since, until=until)
        assert [one["id"] for one in bounded] == [
            told.id for told in ended if expected(told, "river") and since <= told.moment < until
        ]


FILTERED: dict[str, Callable[[Told], bool]] = {
    "label:team=search": lambda told: told.labels.get("team") == "search",
    "status=failed,incomplete": lambda told: told.status in ("failed", "incomplete"),
    "min_output_tokens=2000": lambda told: (
        told.usage.output_tokens is not None and told.usage.output_tokens >= 2000
    ),
    "key_id=any": lambda told: told.key_id is not None,
    "previous_interaction_id=any": lambda told: told.depth > 0,
    "deleted=any": lambda told: True,
}


_NO_FEW: Final[dict[str, float]] = {"_MOST": 0, "_MOST_OF_PREFIX": 0}
#: Bounds by which all that filters lead to is looked at one by one, or is walked along, or the first texts are looked
#: at or all of them.
WAYS: Final[dict[str, dict[ModuleType, dict[str, float]]]] = {
    "few": {},
    "led": {
        on_sqlite: {**_NO_FEW, "_LED": 12, "_LED_OF_PREFIX": 16, "_MOST_MATCHES": 0},
        on_postgres: {"_MOST_FOUND": 0, "_LED": 12, "_FIRST_LOOK": 10, "_AT_ONCE": 8},
        stretches: {"_RARE": 0, "_SAMPLE": 10, "_MOST": 20},
    },
    "near": {
        on_sqlite: _NO_FEW,
        on_postgres: {"_MOST_FOUND": 0, "_FIRST_LOOK": 20, "_COMMON": 0},
        stretches: {"_RARE": 10**9},
    },
    "all": {
        on_sqlite: _NO_FEW,
        on_postgres: {"_MOST_FOUND": 0, "_COMMON": 1},
        stretches: {"_RARE": 10**9},
    },
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("way", WAYS)
async def test_a_search_within_what_filters_mean_finds_what_a_look_at_every_text_finds(
    store_url: str, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    for module, bounds in WAYS[way].items():
        for name, bound in bounds.items():
            monkeypatch.setattr(module, name, bound)
    async with past(store_url, 120) as made:
        ended = [told for told in made.of_default() if told.completed_at is not None and not told.deleted]
        cases: dict[str, Callable[[Told], bool]] = {
            **FILTERED,
            "key_id=alpha": lambda told: told.key_id == made.keys["alpha"],
        }
        for one in [told for told in ended if told.depth > 1][:2]:
            cases[f"chain={one.id}"] = partial(of_chain, one.root)
            cases[f"previous_interaction_id={ids.to_text(one.previous or b'')}"] = partial(
                follows, one.previous
            )
        for number, (query, means) in enumerate(cases.items()):
            filters, _ = parse(parse_qsl(query))
            for place, text in enumerate(("river", '"naïve database"', "data*", "river -mountain")):
                # Small pages take many times as long: one text of each query has them.
                rising, falling, best = (3, 7, 5) if (number + place) % 4 == 0 else (31, 37, 29)
                wanted = [told.id for told in ended if expected(told, text) and means(told)]
                case = (query, text)
                assert [one["id"] for one in await found(made, text, "asc", rising, filters)] == wanted, case
                assert [one["id"] for one in await found(made, text, "desc", falling, filters)] == (
                    wanted[::-1]
                ), case
                ranked = [one["id"] for one in await found(made, text, "rank", best, filters)]
                assert sorted(ranked) == sorted(wanted), case


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("text", ["river", '"naïve database"'])
async def test_a_rank_goes_on_among_what_its_first_page_was_of(
    store_url: str, monkeypatch: pytest.MonkeyPatch, way: str, text: str
) -> None:
    for module, bounds in WAYS[way].items():
        for name, bound in bounds.items():
            monkeypatch.setattr(module, name, bound)
    # Seven are enough as soon as any were hard to find.
    for name, bound in {"_LONG": 0, "_LONG_WALK": 0, "_ENOUGH_RANKED": 7}.items():
        monkeypatch.setattr(on_postgres, name, bound)
    monkeypatch.setattr(listing, "MOST_RANKED", 11)
    async with past(store_url, 0) as made:
        source = random.Random(11)
        await add(made, 150, source)
        await made.indexer.catch_up()
        filters = replace(parse([("deleted", "any")])[0], text=text)
        newest = [one["id"] for one in await found(made, text, "desc", 1000, filters)]
        listed = Listing(made.reports, LATE_FIGURES)
        page = partial(listed.summaries, DEFAULT_PROJECT, filters, order="rank", limit=2)
        told, cursor = await page(cursor=None)
        # More comes in between, which is newer than all that was there, and is newly derived from.
        await add(made, 60, source, within=1_000)
        await made.indexer.catch_up()
        assert [one["id"] for one in await found(made, text, "desc", 1000, filters)] != newest
        while cursor is not None:
            more, cursor = await page(cursor=cursor)
            told += more
        ranked = [one["id"] for one in told]
        assert 7 <= len(ranked) <= 11
        assert sorted(ranked) == sorted(newest[: len(ranked)])


async def begin(made: Past, seconds: int) -> bytes:
    """An interaction that began so long before now, and runs."""
    moment = now() - seconds * 1_000_000
    key = key_at(moment, random.Random(seconds))
    await made.opened.store.begin(intent(key, created_at=moment), orjson.dumps({"input": "Go on."}))
    return key


async def end(made: Past, key: bytes, answer: str) -> None:
    step = {"type": "model_output", "content": [{"type": "text", "text": answer}]}
    await made.opened.store.finish(outcome(key), orjson.dumps({"status": "completed", "steps": [step]}))


async def ended(made: Past, ages: Iterable[int], answer: Callable[[int], str]) -> list[bytes]:
    """Interactions that have ended; each began so many seconds before now as its age, which tells the answer."""
    keys = []
    for age in ages:
        keys.append(await begin(made, age))
        await end(made, keys[-1], answer(age))
    await made.indexer.catch_up()
    return keys


def by_rank(made: Past, text: str, limit: int) -> Callable[..., Awaitable[tuple[list[Json], str | None]]]:
    listed, filters = Listing(made.reports, LATE_FIGURES), Filters(text=text)
    return partial(listed.summaries, DEFAULT_PROJECT, filters, order="rank", limit=limit)


async def the_rest(
    page: Callable[..., Awaitable[tuple[list[Json], str | None]]], cursor: str | None
) -> list[str]:
    """What the pages behind the first one tell."""
    told: list[str] = []
    while cursor is not None:
        more, cursor = await page(cursor=cursor)
        told += [one["id"] for one in more]
    return told


async def test_a_rank_misses_nothing_when_something_is_deleted_between_its_pages(store_url: str) -> None:
    async with past(store_url, 0) as made:
        await ended(made, range(100, 120), lambda age: "river " * (age % 7 + 1))
        ranked = [one["id"] for one in await found(made, "river", "rank")]
        assert len(ranked) == 20
        page = by_rank(made, "river", 4)
        first, cursor = await page(cursor=None)
        assert [one["id"] for one in first] == ranked[:4]
        gone = [ranked[place] for place in (0, 2, 5, 11)]
        for one in gone:
            await made.opened.store.delete(key_of(one), now(), None)
        assert await the_rest(page, cursor) == [one for one in ranked[4:] if one not in gone]


async def test_a_rank_keeps_its_order_whatever_comes_in_between_its_pages(store_url: str) -> None:
    async with past(store_url, 0) as made:
        text = "river OR harbour"
        await ended(made, range(100, 120), lambda age: "river" if age % 4 == 0 else "harbour")
        ranked = [one["id"] for one in await found(made, text, "rank")]
        page = by_rank(made, text, 4)
        first, cursor = await page(cursor=None)
        # How much a word tells on SQLite depends on how many texts have it.
        await ended(made, range(1, 40), lambda age: "river")
        again = [one["id"] for one in await found(made, text, "rank") if one["id"] in ranked]
        assert (again != ranked) == store_url.startswith("sqlite")
        assert [one["id"] for one in first] + await the_rest(page, cursor) == ranked


@pytest.mark.parametrize("running", [1, 5, 40])
async def test_a_rank_misses_nothing_when_runs_end_between_its_pages(
    store_url: str, monkeypatch: pytest.MonkeyPatch, running: int
) -> None:
    monkeypatch.setattr(listing, "MOST_RANKED", 11)
    async with past(store_url, 0) as made:
        await ended(made, [100, *range(200, 215)], lambda age: "river " * (age % 5 + 1))
        runs = [await begin(made, age) for age in range(110, 110 + running)]
        ranked = [one["id"] for one in await found(made, "river", "rank")]
        assert len(ranked) == 11
        page = by_rank(made, "river", 3)
        first, cursor = await page(cursor=None)
        for run in runs:
            await end(made, run, "river river river river river river")
        await made.opened.store.delete(key_of(ranked[-1]), now(), None)
        await made.indexer.catch_up()
        assert [one["id"] for one in first] + await the_rest(page, cursor) == ranked[:-1]


async def test_a_rank_that_was_counted_is_gone_on_with_no_more(store_url: str) -> None:
    async with past(store_url, 0) as made:
        (key,) = await ended(made, [100], lambda age: "river")
        about = b"rank" + DEFAULT_PROJECT + Filters(text="river").digest()
        counted = cursors.write((1).to_bytes(2, "big") + key + key, about)
        with pytest.raises(InvalidRequest, match="another order"):
            await by_rank(made, "river", 1)(cursor=counted)


def key_of(name: str) -> bytes:
    key = ids.from_text(name)
    assert key is not None
    return key


def of_chain(root: bytes, told: Told) -> bool:
    return told.root == root


def follows(key: bytes | None, told: Told) -> bool:
    return told.previous == key


async def test_a_search_tells_by_filters_what_usage_came_for_since(store_url: str) -> None:
    async with past(store_url, 80) as made:
        owing = [told for told in made.of_default() if told.usage.state == USAGE_MISSING and told.answer]
        owing = [told for told in owing if not told.deleted and expected(told, "river")]
        assert owing
        for told in owing:
            await made.opened.store.held.settle_usage(told.key, USAGE, None)
        filters, _ = parse(parse_qsl(f"total_tokens={USAGE.total_tokens}"))
        for order in ("asc", "rank"):
            assert {one["id"] for one in await found(made, "river", order, 1000, filters)} == {
                told.id for told in owing
            }


async def test_a_search_may_end_in_any_year(store_url: str) -> None:
    async with past(store_url, 20) as made:
        wanted = {one["id"] for one in await found(made, "river")}
        assert wanted
        for until in ("9999999999", "2110-01-01T00:00:00Z", "9999-12-31T00:00:00Z"):
            filters, _ = parse([("to", until)])
            for order in ("desc", "asc", "rank"):
                assert {one["id"] for one in await found(made, "river", order, 1000, filters)} == wanted


async def test_a_phrase_is_found_in_every_month(store_url: str) -> None:
    async with past(store_url, 0) as made:
        await add(made, 200, random.Random(3), within=150 * 24 * HOUR)
        await made.indexer.catch_up()
        wanted = [
            told.id
            for told in made.of_default()
            if told.completed_at is not None and not told.deleted and expected(told, '"naïve database"')
        ]
        assert len(wanted) > 3
        for limit in (1, 1000):
            assert [one["id"] for one in await found(made, '"naïve database"', "desc", limit)] == wanted[::-1]
            assert [one["id"] for one in await found(made, '"naïve database"', "asc", limit)] == wanted
        assert sorted(one["id"] for one in await found(made, '"naïve database"', "rank", 2)) == sorted(wanted)
        for until, expected_ids in ((LAST, wanted[::-1]), (19 * 24 * HOUR, [])):
            told = await found(made, '"naïve database"', "desc", until=until)
            assert [one["id"] for one in told] == expected_ids


@pytest.mark.parametrize("most", [0, 8_000])
async def test_a_phrase_is_found_within_what_filters_mean_in_every_month(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(stretches, "_RARE", 0)
    # No filter leads to few, and no walk along one is worth its while.
    for name, bound in {"_MOST_FOUND": 0, "_LONG": 0, "_MOST_OF_MONTH": most, "_AT_ONCE": 8}.items():
        monkeypatch.setattr(on_postgres, name, bound)
    text = '"naïve database"'
    async with past(postgres_url, 0) as made:
        await add(made, 200, random.Random(3), within=150 * 24 * HOUR)
        await made.indexer.catch_up()
        ended = [told for told in made.of_default() if told.completed_at is not None and not told.deleted]
        met = 0
        for query, means in FILTERED.items():
            filters, _ = parse(parse_qsl(query))
            wanted = [told.id for told in ended if expected(told, text) and means(told)]
            met += len(wanted) > 2
            for limit in (2, 1000):
                assert [one["id"] for one in await found(made, text, "asc", limit, filters)] == wanted, query
                assert [one["id"] for one in await found(made, text, "desc", limit, filters)] == (
                    wanted[::-1]
                ), query
                ranked = [one["id"] for one in await found(made, text, "rank", limit, filters)]
                assert sorted(ranked) == sorted(wanted), query
        assert met > 2


async def test_many_of_one_millisecond_keep_the_order_of_their_keys(store_url: str) -> None:
    async with past(store_url, 0) as made:
        source = random.Random(2)
        await add(made, 40, source, within=3_000)
        await made.indexer.catch_up()
        text = "river OR mountain OR database OR orange OR quantum OR harbour OR Übung"
        wanted = [
            told.id
            for told in made.of_default()
            if told.completed_at is not None and not told.deleted and expected_any(told)
        ]
        assert [one["id"] for one in await found(made, text, "desc", 3)] == wanted[::-1]
        assert [one["id"] for one in await found(made, text, "asc", 3)] == wanted


def expected_any(told: Told) -> bool:
    return expected(told, "river OR mountain OR database OR orange OR quantum OR harbour OR Übung")


async def test_what_is_deleted_leaves_the_index_at_once(store_url: str) -> None:
    async with past(store_url, 60) as made:
        assert await found(made, "river")
        for told in made.of_default():
            if not told.deleted:
                await delete(made, told)
        assert await query(
            store_url,
            "SELECT count(*) FROM search_documents JOIN interactions ON id = interaction_id "
            "WHERE deleted_at IS NOT NULL",
        ) == [(0,)]
        assert await found(made, "river") == []
        assert await made.indexer.step() == 0
        if store_url.startswith("sqlite"):
            await query(store_url, "INSERT INTO search_index (search_index) VALUES ('integrity-check')")


async def test_an_index_that_is_behind_never_takes_in_what_is_deleted(store_url: str) -> None:
    async with past(store_url, 60, derive=False) as made:
        for told in made.of_default()[::2]:
            if not told.deleted:
                await delete(made, told)
        await made.indexer.catch_up()
        hidden = {told.id for told in made.told if told.deleted}
        assert {one["id"] for one in await found(made, "river")}.isdisjoint(hidden)
        assert await query(
            store_url,
            "SELECT count(*) FROM search_documents JOIN interactions ON id = interaction_id "
            "WHERE deleted_at IS NOT NULL",
        ) == [(0,)]


async def searched(gateway: Gateway, text: str) -> list[Json]:
    reply = await gateway.request("GET", f"/api/interactions?q={text}")
    assert reply.status == 200, reply.raw
    found: list[Json] = reply.body["interactions"]
    return found


@pytest.mark.parametrize(
    ("said", "queries", "misses"),
    [
        ("Καλημέρα κόσμε", ["καλημερα", "Καλημέρα", "ΚΑΛΗΜΕΡΑ ΚΟΣΜΕ", "καλημ*", "κοσμ*"], ["καλη", "κόσμος"]),
        ("Die Straße nach Süden", ["strasse", "Straße", "STRASSE", '"die strasse nach suden"'], ["strase"]),
        ("Ёлка мой дом", ["елка", "ёлка", "мои", '"мой дом"', '"елка мои"', "ёл*"], ["елк", '"дом мой"']),
        ("Ｆｕｌｌ width, 한국어 도시", ["full", "한국어", "한국*"], ["한국의"]),
        (
            "Windows™ 5㎏ Straße, done🤖 well",
            ["windows", "windows™", "5㎏", "done", "strasse"],
            ["windowstm"],
        ),
        ("thanks🤗 all", ["thanks", "thanks🤗"], ["thank"]),
        ("Đặng đi Århus, smørrebrød", ["dang OR đang", "arhus", "smørrebrød", "ÅRHUS"], ["aarhus"]),
    ],
)
async def test_neither_case_nor_accents_of_any_script_matter(
    gateway: Gateway, said: str, queries: list[str], misses: list[str]
) -> None:
    made = await gateway.ask(f"We say: {said}!")

    async def indexed() -> bool:
        return bool(await searched(gateway, "say"))

    await eventually(indexed)
    for text in queries:
        ((found, snippet),) = [(one["id"], one["snippets"]) for one in await searched(gateway, quote(text))]
        assert found == made.id, text
        assert said in snippet[0]["text"]
        assert snippet[0]["highlights"], text
    for text in [*misses, *(f"say -{one}" for one in queries if " " not in one)]:
        assert await searched(gateway, quote(text)) == [], text
    await gateway.delete(made.id)
    assert await searched(gateway, "say") == []


def test_what_is_not_folded_further_sqlite_folds_alike() -> None:
    letters = [chr(code) for code in range(0x80, sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute(
            "CREATE VIRTUAL TABLE texts USING fts5(text, tokenize='unicode61 remove_diacritics 2')"
        )
        connection.execute("CREATE VIRTUAL TABLE terms USING fts5vocab(texts, 'instance')")
        alike = [letter for letter in letters if folding.folded(f"x{letter}x") is None]
        rows = [(ord(letter), f"x{letter}x") for letter in alike]
        connection.executemany("INSERT INTO texts (rowid, text) VALUES (?, ?)", rows)
        told: dict[int, list[str]] = {}
        for term, number in connection.execute('SELECT term, doc FROM terms ORDER BY doc, "offset"'):
            told.setdefault(number, []).append(term)
    # Letters of an alphabet that is newer it may take for none.
    strange = [
        letter
        for letter in alike
        if told[ord(letter)] != folding.words_of(f"x{letter}x").split()
        and not (letter.isalpha() and told[ord(letter)] == ["x", "x"])
    ]
    assert strange == []
    assert len(alike) > 100_000


async def test_snippets_show_where_it_was_found(gateway: Gateway) -> None:
    long = "word " * 300
    made = await gateway.ask(f"{long}Der Übergang über die Brücke, 東京都 is far. {long}")

    async def indexed() -> bool:
        return bool(await searched(gateway, "ubergang"))

    await eventually(indexed)
    ((snippet,),) = [one["snippets"] for one in await searched(gateway, "%22die+brucke%22")]
    assert snippet["in"] == "input"
    assert [snippet["text"][start:end] for start, end in snippet["highlights"]] == ["die Brücke"]
    assert snippet["text"].startswith("…")
    assert snippet["text"].endswith("…")
    ((snippet,),) = [one["snippets"] for one in await searched(gateway, "京都")]
    assert [snippet["text"][start:end] for start, end in snippet["highlights"]] == ["京都"]
    assert "\u200b" not in snippet["text"]
    assert await searched(gateway, "都東") == []
    follow_up = await gateway.ask(
        [
            {"type": "user_input", "content": "Nobody else says chrysanthemum."},
            {"type": "model_output", "content": [{"type": "text", "text": "I see."}]},
            {"type": "user_input", "content": [{"type": "text", "text": "Go on."}]},
        ]
    )

    async def listed() -> bool:
        return [one["id"] for one in await searched(gateway, "chrysanth*")] == [follow_up.id]

    await eventually(listed)
    await gateway.delete(made.id)
    assert await searched(gateway, "ubergang") == []


async def test_highlights_count_code_points(gateway: Gateway) -> None:
    await gateway.ask("👩\u200d🚀 😀 tea, 𝒳 harbour 😀 tea")

    async def indexed() -> bool:
        return bool(await searched(gateway, "harbour"))

    await eventually(indexed)
    ((snippet, *_),) = [one["snippets"] for one in await searched(gateway, "tea")]
    assert snippet["text"] == "👩\u200d🚀 😀 tea, 𝒳 harbour 😀 tea"
    assert snippet["highlights"] == [[6, 9], [23, 26]]
    points = snippet["text"].encode("utf-32-le")
    assert [points[4 * start : 4 * end].decode("utf-32-le") for start, end in snippet["highlights"]] == [
        "tea",
        "tea",
    ]


async def test_the_words_of_deleted_texts_leave_the_file(sqlite_url: str) -> None:
    async with past(sqlite_url, 60) as made:
        for told in made.of_default():
            if not told.deleted:
                await delete(made, told)
        await made.indexer.tidy()
        await query(sqlite_url, "PRAGMA wal_checkpoint(TRUNCATE)")
        assert await query(sqlite_url, "SELECT number FROM search_deletions") == [(0,)]
        left = [told for told in made.told if told.project_id != DEFAULT_PROJECT]
        for told in left:
            await delete(made, told)
        await made.indexer.tidy()
    content = await asyncio.to_thread(Path(sqlite_path(sqlite_url)).read_bytes)
    assert b"harbour" not in content
    assert b"quantum" not in content


async def test_a_search_for_more_than_is_looked_at_is_refused(gateway: Gateway) -> None:
    made = await gateway.ask(" ".join(f"word{number}" for number in range(40)))

    async def indexed() -> bool:
        return bool(await searched(gateway, "word0"))

    await eventually(indexed)
    most = "+".join(f"word{number}" for number in range(31))
    assert [one["id"] for one in await searched(gateway, f"{most}+word31")] == [made.id]
    assert await searched(gateway, f"{most}+-word39") == []
    for order in ("desc", "rank"):
        reply = await gateway.request("GET", f"/api/interactions?q={most}+word31+-word39&order={order}")
        assert reply.status == 400
        assert "'q'. Expected at most 32 words" in reply.error["message"]


@pytest.mark.parametrize("text", ["-river", "!!!", "OR", '""', "  ", "x" * 501])
def test_a_search_for_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="invalid for 'q'"):
        words.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "'",
        "a'b",
        '"',
        '"a',
        "a AND",
        "NEAR(a b)",
        "a:b",
        "(a",
        "a*b",
        "^a",
        "{a}",
        "a & !",
        "\\",
        "a\0b",
        "% _",
    ],
)
async def test_no_spelling_is_an_error_of_the_database(gateway: Gateway, text: str) -> None:
    answered = await gateway.request(
        "GET", "/api/interactions?q=" + "".join(f"%{byte:02x}" for byte in text.encode())
    )
    assert answered.status in (200, 400), answered.raw


async def test_the_best_of_what_is_known_already_are_looked_up_and_not_walked_to(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MOST_RANKED", 11)
    async with past(postgres_url, 300) as made, made.reports.reading() as reading:
        filters = replace(parse([])[0], text="river")
        page = await listing.read_page(
            reading, [interactions.c.id], DEFAULT_PROJECT, filters, order="rank", limit=5
        )
        assert len(page.rows) == 5
        # Where nothing may be sorted, a planner walks through all interactions to have these in order.
        assert await reading.fetch(sql("SHOW enable_sort")) == [("on",)]
