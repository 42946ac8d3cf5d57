"""kill -9 between the intent and the outcome: a repeat finds what was begun, and nothing is ever created twice."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import ClientError, ClientSession, ClientTimeout
from sqlalchemy import update

from service.store.engine import open_engine
from service.store.tables import leases
from tests.support.forked import ForkedProcess
from tests.support.gateway import MODEL, STEPS, eventually
from tests.support.outliving import outliving
from tests.support.processes import ServiceProcess
from tests.support.reconciling import assert_reconciles
from tests.support.store import query
from tests.support.upstreams import KEY, Emulated

REPEATS = 50
WHOLE = 1e6
#: Seconds after which what a killed process held is taken over.
LEASE = 2


class Killable:
    """Services on one database that can be killed, and a client of theirs."""

    def __init__(self, session: ClientSession, upstream: Emulated, database_url: str, folder: Path) -> None:
        self._session = session
        self._environment = {"GEMINI_API_BASE": upstream.url, "GEMINI_API_KEY": KEY}
        self._database_url = database_url
        self._config = folder / "config.yaml"
        self._config.write_text(f"general_settings: {{lease_seconds: {LEASE}, claim_interval: 0.1}}\n")
        self._running: list[ServiceProcess] = []

    async def start(self) -> ServiceProcess:
        arguments = [
            "serve",
            "--port",
            "0",
            "--config",
            str(self._config),
            "--database-url",
            self._database_url,
        ]
        service = await asyncio.to_thread(ServiceProcess, arguments, self._environment, start=ForkedProcess)
        self._running.append(service)
        return await asyncio.to_thread(service.wait_ready)

    async def kill(self, service: ServiceProcess) -> None:
        self._running.remove(service)
        await asyncio.to_thread(service.kill)

    async def kill_all(self) -> None:
        for service in list(self._running):
            await self.kill(service)

    async def create(self, service: ServiceProcess, key: str, **members: Any) -> tuple[int, Any, bytes]:
        """The status, the headers and the body of an answer."""
        body = {"model": MODEL, "input": f"Hello {key}", **members}
        headers = {"idempotency-key": key, **STEPS}
        url = f"{service.url}/v1beta/interactions"
        async with self._session.post(url, json=body, headers=headers) as response:
            return response.status, response.headers, await response.read()

    async def answers(
        self, service: ServiceProcess, key: str, number: int = REPEATS, **members: Any
    ) -> list[tuple[int, Any, bytes]]:
        """As many creates at once."""
        return await asyncio.gather(*(self.create(service, key, **members) for _ in range(number)))

    async def forget_readers(self) -> None:
        """Let that time pass after which somebody else may go on with a stream whose reader is silent."""
        engine = open_engine(self._database_url)
        async with engine.begin() as connection:
            await connection.execute(update(leases).values(due_at=0))
        await engine.dispose()


async def is_logged(database_url: str) -> bool:
    """Whether something of a stream is in its log, so that it can be gone on with."""
    told = await query(
        database_url,
        "SELECT 1 FROM events JOIN interactions ON id = interaction_id WHERE upstream_id IS NOT NULL",
    )
    return bool(told)


async def cut_off(tasks: list[asyncio.Task[Any]]) -> None:
    """See that none of these was answered."""
    for result in await asyncio.gather(*tasks, return_exceptions=True):
        assert isinstance(result, ClientError), result


@pytest.fixture
async def upstream() -> AsyncIterator[Emulated]:
    """An emulator that outlives the services; its streams and answers wait for its clock."""
    async with outliving(token_delay=60.0, stream_limit_seconds=1e9) as emulated:
        yield emulated


@pytest.fixture
def postgres_url(own_postgres_url: str) -> str:
    """A database for more than one process."""
    return own_postgres_url


@pytest.fixture
async def session() -> AsyncIterator[ClientSession]:
    async with ClientSession(timeout=ClientTimeout(total=60)) as session:
        yield session


async def test_a_repeat_after_a_kill_never_creates_again(
    session: ClientSession, upstream: Emulated, database_url: str, tmp_path: Path
) -> None:
    services = Killable(session, upstream, database_url, tmp_path)
    try:
        service = await services.start()
        ended = await services.answers(service, "ended")
        upstream.fault("latency;seconds=9999999999", contains="Hello lost")
        lost = [asyncio.create_task(services.create(service, "lost")) for _ in range(REPEATS)]
        cut = [asyncio.create_task(services.create(service, "cut", stream=True)) for _ in range(5)]

        async def are_upstream() -> bool:
            return len(upstream.creates) == 3

        await eventually(are_upstream)
        await eventually(partial(is_logged, database_url))
        await services.kill(service)
        await cut_off([*lost, *cut])

        upstream.clock.advance(WHOLE)
        await services.forget_readers()
        service = await services.start()
        for number, answers in (("ended", ended), ("again", await services.answers(service, "ended"))):
            assert {(status, body) for status, _, body in answers} == {(200, ended[0][2])}, number
        unknown, streams = await asyncio.gather(
            services.answers(service, "lost"), services.answers(service, "cut", stream=True)
        )
        assert_one_verdict(unknown)
        assert len({body for _, _, body in streams}) == 1
        assert {headers["idempotency-replayed"] for _, headers, _ in streams} == {"true"}
        (whole,) = {body for _, _, body in streams}
        assert whole.startswith(b"event: interaction.created\n")
        assert b"event: interaction.completed\n" in whole
        assert whole.endswith(b"data: [DONE]\n\n")
        assert len(upstream.creates) == 3
        await assert_reconciles(database_url)
    finally:
        await services.kill_all()


def assert_one_verdict(answers: list[tuple[int, Any, bytes]]) -> None:
    """Upstream never said how it calls this one: somebody has given it a verdict, and all are told the same."""
    ((status, told),) = {(status, body) for status, _, body in answers}
    assert (status, orjson.loads(told)["status"]) == (200, "failed")
    assert [error["code"] for error in orjson.loads(told)["errors"]] == ["interrupted"]


async def test_those_who_wait_at_another_replica_get_what_comes_of_a_killed_ones_creates(
    session: ClientSession, upstream: Emulated, postgres_url: str, tmp_path: Path
) -> None:
    services = Killable(session, upstream, postgres_url, tmp_path)
    try:
        one = await services.start()
        other = await services.start()
        upstream.fault("latency;seconds=9999999999", contains="Hello lost")
        firsts = [
            asyncio.create_task(services.create(one, "lost")),
            asyncio.create_task(services.create(one, "key", stream=True)),
        ]

        async def are_upstream() -> bool:
            return len(upstream.creates) == 2

        await eventually(are_upstream)
        unary = asyncio.create_task(services.answers(other, "lost"))
        repeats = asyncio.create_task(services.answers(other, "key", 10, stream=True))
        await eventually(partial(is_logged, postgres_url))
        # Long enough for those who wait to have been taken in.
        await asyncio.sleep(0.3)
        await services.kill(one)
        await cut_off(firsts)
        upstream.clock.advance(WHOLE)
        await services.forget_readers()
        answers = await repeats
        assert len({body for _, _, body in answers}) == 1
        assert b"event: interaction.completed\n" in answers[0][2]
        assert_one_verdict(await unary)
        assert len(upstream.creates) == 2
        await assert_reconciles(postgres_url)
    finally:
        await services.kill_all()
