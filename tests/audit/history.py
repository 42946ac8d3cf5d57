"""A random past: interactions of every kind, put into a database as they would stand there, and told in plain Python.

What lists, searches and reports say is compared with what can be computed from :attr:`Past.told`.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from bench.filling import key_at
from service.audit.indexer import Indexer
from service.audit.late_figures import LateFigures
from service.audit.prices import Prices
from service.settings import DeploymentSettings, Secret, Settings
from service.store.codec import Codec
from service.store.engine import open_reports
from service.store.records import USAGE_FINAL, USAGE_MISSING, Usage, now
from service.store.reports import Reports
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids
from tests.support.store import OpenStore, intent, is_sqlite, literal, open_store, outcome, query

HOUR = 3_600_000_000
MODELS = ("gemini-2.5-flash", "gemini-2.5-pro", "gemini-3.5-flash", "priced-by-us")
TEAMS = ("search", "ads", 'qu"ote', "ünï,code")
WORDS = (
    "river",
    "mountain",
    "Straße",
    "naïve",
    "database",
    "harbour",
    "quantum",
    "東京",
    "lighthouse",
    "Übung",
    "orange",
)
DEPLOYMENT = DeploymentSettings(
    id="dep-own",
    model_name="priced-by-us",
    model="priced-by-us",
    api_key=Secret("none"),
    input_cost_per_token=0.000001,
    output_cost_per_token=0.000004,
)
OTHER_PROJECT = uuid.UUID("00000000-0000-7000-8000-0000000000aa").bytes
PRICES = Prices.of(Settings(default_deployment=DEPLOYMENT))
LATE_FIGURES = LateFigures(Codec(), PRICES)


@dataclass(slots=True)
class Told:
    """One interaction in plain terms; times are microseconds, and ``moment`` is the one in its key."""

    key: bytes
    project_id: bytes
    moment: int
    created_at: int
    model_requested: str | None
    model: str | None
    agent: str | None
    deployment: str
    key_id: bytes | None
    labels: dict[str, str]
    stream: bool
    background: bool
    store: bool
    previous: bytes | None
    root: bytes
    depth: int
    request: str
    status: str = "in_progress"
    error_code: str | None = None
    http_status: int | None = None
    service_tier: str | None = None
    completed_at: int | None = None
    first_byte_at: int | None = None
    usage: Usage = field(default_factory=Usage)
    modalities: dict[str, int] = field(default_factory=dict)
    answer: str = ""
    deleted: bool = False
    replay_of: bytes | None = None

    @property
    def id(self) -> str:
        return ids.to_text(self.key)


@dataclass(slots=True)
class Past:
    """A database with a past, and what it is."""

    opened: OpenStore
    reports: Reports
    indexer: Indexer
    told: list[Told]
    keys: dict[str, bytes]

    def of_default(self) -> list[Told]:
        """What the default project may see, oldest first."""
        return sorted(
            (told for told in self.told if told.project_id == DEFAULT_PROJECT), key=lambda told: told.key
        )


@asynccontextmanager
async def past(url: str, count: int, *, seed: int = 7, derive: bool = True) -> AsyncIterator[Past]:
    """``count`` random interactions over the last days; some still run, some are deleted, some were taken in late."""
    source = random.Random(seed)
    keys = {name: uuid.UUID(int=source.getrandbits(128)).bytes for name in ("alpha", "beta")}
    async with open_store(url) as opened:
        for name, key in keys.items():
            await _add_key(url, name, key)
        reports = open_reports(url)
        await reports.start()
        try:
            indexer = Indexer(
                opened.backend, reports, Codec(), Prices.of(Settings(default_deployment=DEPLOYMENT))
            )
            made = Past(opened, reports, indexer, [], keys)
            await add(made, count, source)
            if derive:
                await indexer.catch_up()
            yield made
        finally:
            await reports.close()


def cost_of(told: Told) -> int | None:
    """What an interaction costs by the prices, which have tests of their own."""
    row = {
        "usage_state": told.usage.state,
        "deployment_id": told.deployment,
        "model": told.model,
        "model_requested": told.model_requested,
        "service_tier": told.service_tier,
        "created_at": told.created_at,
        **{name: getattr(told.usage, name) for name in told.usage._fields if name.endswith("_tokens")},
    }
    return PRICES.nanos(row, {"input": told.modalities} if told.modalities else {})


async def add(made: Past, count: int, source: random.Random, *, within: int = 50 * HOUR) -> list[Told]:
    """Put more interactions into the past, within so many microseconds."""
    last = now() - 60_000_000
    first = last - within
    new = []
    for _ in range(count):
        new.append(_told(made, source.randrange(first, last), source))
        made.told.append(new[-1])
    await asyncio.gather(*(_begin(made.opened, told) for told in new))
    await asyncio.gather(*(finish(made.opened, told) for told in new if told.completed_at is not None))
    for told in source.sample(new, count // 12):
        await delete(made, told)
    return new


async def delete(made: Past, told: Told) -> None:
    """Delete an interaction, as the service does."""
    detail = orjson.dumps(usage_of(told)).decode() if told.usage.state == USAGE_FINAL else None
    await made.opened.store.delete(told.key, now(), detail)
    told.deleted = True


def _told(made: Past, moment: int, source: random.Random) -> Told:
    key = key_at(moment, source)
    parents = [one for one in made.told if one.key < key and one.project_id == DEFAULT_PROJECT]
    parent = source.choice(parents) if parents and source.random() < 0.4 else None
    model = source.choice(MODELS)
    agent = "deep-research" if source.random() < 0.1 else None
    foreign = parent is None and source.random() < 0.08
    told = Told(
        key=key,
        project_id=OTHER_PROJECT if foreign else DEFAULT_PROJECT,
        moment=moment // 1000 * 1000,
        created_at=moment,
        model_requested=None if agent else source.choice((model, f"gemini/{model}")),
        model=None,
        agent=agent,
        deployment="dep-own" if model == "priced-by-us" else source.choice(("dep-1", "dep-2")),
        key_id=source.choice((None, *made.keys.values())),
        labels=_labels(source),
        stream=source.random() < 0.3,
        background=source.random() < 0.1,
        store=source.random() < 0.9,
        previous=None if parent is None else parent.key,
        root=key if parent is None else parent.root,
        depth=0 if parent is None else parent.depth + 1,
        request=" ".join(source.choices(WORDS, k=12)),
    )
    if parents and not foreign and len(made.told) % 7 == 0:
        told.replay_of = parents[len(parents) // 2].key
    if source.random() < 0.93:
        _end(told, model, source)
    return told


def _labels(source: random.Random) -> dict[str, str]:
    labels = {"team": source.choice(TEAMS)} if source.random() < 0.6 else {}
    if source.random() < 0.3:
        labels["env"] = source.choice(("prod", "test"))
    return labels


def _end(told: Told, model: str, source: random.Random) -> None:
    told.first_byte_at = told.created_at + source.randrange(1_000, 2_000_000)
    told.completed_at = told.first_byte_at + source.randrange(0, 60_000_000)
    told.http_status = 200
    kind = source.random()
    if kind < 0.15:
        told.status, told.error_code = "failed", source.choice(("api_error", "rate_limit_exceeded"))
        told.http_status = source.choice((429, 500))
        told.usage = Usage(USAGE_MISSING) if source.random() < 0.3 else Usage()
        return
    told.status = source.choice(("completed", "completed", "completed", "incomplete", "requires_action"))
    told.model = model if told.agent is None else None
    told.service_tier = source.choice((None, "standard", "flex"))
    told.answer = " ".join(source.choices(WORDS, k=20))
    if kind < 0.25:
        told.usage = Usage(USAGE_MISSING)
        return
    counts = [source.randrange(0, 5_000) for _ in range(2)] + [source.randrange(0, 100) for _ in range(3)]
    told.usage = Usage(USAGE_FINAL, counts[0], counts[1], counts[2], counts[3], counts[4], sum(counts))
    told.modalities = {"text": counts[0] // 2, "image": counts[0] // 4}


async def _begin(opened: OpenStore, told: Told) -> None:
    begun = intent(
        told.key,
        project_id=told.project_id,
        key_id=told.key_id,
        previous_id=told.previous,
        root_id=None if told.depth == 0 else told.root,
        depth=told.depth,
        created_at=told.created_at,
        stream=told.stream,
        background=told.background,
        store=told.store,
        model_requested=told.model_requested,
        agent=told.agent,
        labels=orjson.dumps(told.labels).decode() if told.labels else None,
        deployment_id=told.deployment,
        replay_of=told.replay_of,
    )
    await opened.store.begin(begun, request_of(told))


def request_of(told: Told) -> bytes:
    """The body that was sent."""
    return orjson.dumps({"input": told.request})


async def finish(opened: OpenStore, told: Told) -> None:
    """Write the outcome of an interaction."""
    ended = outcome(
        told.key,
        deployment_id=told.deployment,
        status=told.status,
        model=told.model,
        service_tier=told.service_tier,
        http_status=told.http_status,
        error_code=told.error_code,
        updated_at=told.completed_at,
        first_byte_at=told.first_byte_at,
        completed_at=told.completed_at,
        usage=told.usage,
    )
    await opened.store.finish(ended, answer_of(told) if told.answer else None)


def answer_of(told: Told) -> bytes:
    """The body that upstream answered with."""
    body: dict[str, Any] = {
        "status": told.status,
        "steps": [{"type": "model_output", "content": [{"type": "text", "text": told.answer}]}],
    }
    if told.usage.state == USAGE_FINAL:
        body["usage"] = usage_of(told)
    return orjson.dumps(body)


def usage_of(told: Told) -> dict[str, Any]:
    """Upstream's words for the usage."""
    usage = told.usage
    listed = [{"modality": name, "tokens": count} for name, count in told.modalities.items()]
    return {
        "total_input_tokens": usage.input_tokens,
        "total_output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "input_tokens_by_modality": listed,
    }


async def _add_key(url: str, name: str, key: bytes) -> None:
    digest = f"x'{key.hex() * 2}'" if is_sqlite(url) else f"'\\x{key.hex() * 2}'::bytea"
    await query(url, f"DELETE FROM api_keys WHERE name = '{name}'")
    await query(
        url,
        "INSERT INTO api_keys (id, project_id, name, prefix, digest, created_at) "
        f"VALUES ({literal(url, key)}, {literal(url, DEFAULT_PROJECT)}, '{name}', 'sk', {digest}, 1)",
    )
