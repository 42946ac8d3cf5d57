"""kill -9 under load: nothing that was acknowledged is lost (P1), nothing was sent unrecorded (P2).

``KILLS`` sets how often the service is killed, ``KILL_SEED`` repeats a run's requests and moments.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from hashlib import sha256
from random import Random, SystemRandom

import orjson
import pytest
from aiohttp import ClientSession, ClientTimeout
from aiohttp.test_utils import TestServer
from sqlalchemy import select

from service.emulator import EmulatorConfig, create_emulator
from service.store.codec import Codec
from service.store.engine import open_backend
from service.store.statement import Query
from service.store.tables import REQUEST_PAYLOAD, interactions, payloads
from tests.support.forked import ForkedProcess
from tests.support.load import Acknowledged, Load
from tests.support.processes import ServiceProcess
from tests.support.reconciling import assert_reconciles

KILLS = int(os.environ.get("KILLS", "10"))
SEED = int(os.environ.get("KILL_SEED", "0")) or SystemRandom().randrange(1, 2**32)
CLIENTS = 24
_READERS = 16

_REQUESTS = Query(
    "all requests",
    select(payloads.c.codec, payloads.c.size, payloads.c.body)
    .select_from(interactions.join(payloads, payloads.c.interaction_id == interactions.c.id))
    .where(payloads.c.kind == REQUEST_PAYLOAD),
)


@pytest.fixture
async def upstream() -> AsyncIterator[TestServer]:
    """An emulator that outlives the service."""
    server = TestServer(create_emulator(EmulatorConfig(token_delay=0.001)))
    async with server:
        yield server


@pytest.mark.timeout(300 + 10 * KILLS)
async def test_a_killed_service_has_lost_nothing_acknowledged_and_sent_nothing_unrecorded(
    database_url: str, upstream: TestServer, record_property: Callable[[str, object], None]
) -> None:
    address = str(upstream.make_url("")).rstrip("/")
    async with ClientSession(timeout=ClientTimeout(total=60)) as session:
        run = _Run(session, address, database_url)
        await run.kill_repeatedly()
        acknowledged, intact = len(run.load.acknowledged), await run.count_intact()
        seen = await _seen_inputs(session, address)
    recorded = await _recorded_inputs(database_url)
    matched = sum(1 for text in seen if text in recorded)
    counts = (
        f"KILL_SEED={SEED}: {KILLS} kills cut {run.load.cut} of {run.load.sent} creates; "
        f"{acknowledged} acknowledged, {intact} read back unchanged; "
        f"upstream saw {len(seen)} creates, {matched} have a row"
    )
    record_property("counts", counts)
    assert run.changed == [], counts
    assert intact == acknowledged > 0, counts
    assert matched == len(seen) > 0, counts
    assert run.load.cut >= KILLS, counts
    assert set(seen.values()) == set(recorded.values()) == {1}, f"a create was repeated; {counts}"
    assert len(recorded) <= run.load.sent, counts


class _Run:
    """A service that is killed and started again on one database, under load."""

    def __init__(self, session: ClientSession, upstream: str, database_url: str) -> None:
        self.load = Load(session, CLIENTS, SEED)
        #: What a read after a kill showed otherwise than it was acknowledged.
        self.changed: list[str] = []
        self._session = session
        self._database_url = database_url
        self._environment = {"GEMINI_API_BASE": upstream, "GEMINI_API_KEY": "upstream-key"}
        self._random = Random(SEED)
        self._digests: list[bytes] = []
        self._url = ""

    async def kill_repeatedly(self) -> None:
        """Kill at random moments; what was acknowledged before each kill is read right after it."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.load.run())
            for _ in range(KILLS):
                await self._live(self._random.uniform(0.05, 1.0))
            await self.load.finish()

    async def count_intact(self) -> int:
        """How many acknowledged answers a last start shows as they were acknowledged, all kills later."""
        with await self._started() as service:
            await self._check_new()
            await assert_reconciles(self._database_url)
            bodies = await self._read(self.load.acknowledged)
            assert service.stop() == 0
        return sum(map(_is_same, bodies, self._digests)) - len(self.changed)

    async def _live(self, seconds: float) -> None:
        service = await self._started()
        try:
            await self._check_new()
            await self.load.begin(self._url)
            await self.load.reached(len(self.load.acknowledged) + 1)
            await asyncio.sleep(seconds)
        finally:
            service.kill()
            self.load.interrupt()
        errors = [line for line in service.log if "level=error" in line]
        assert not errors, "".join(errors)

    async def _started(self) -> ServiceProcess:
        arguments = ["serve", "--port", "0", "--database-url", self._database_url]
        start = partial(ServiceProcess, arguments, self._environment, start=ForkedProcess)
        service = await asyncio.to_thread(lambda: start().wait_ready())
        self._url = service.url
        return service

    async def _check_new(self) -> None:
        """Compare what was acknowledged since the last check with what is read now."""
        answers = self.load.acknowledged[len(self._digests) :]
        for answer, body in zip(answers, await self._read(answers), strict=True):
            self._digests.append(sha256(body).digest())
            if not _shows(body, answer):
                self.changed.append(f"acknowledged {answer.content}, read {body!r}")

    async def _read(self, answers: Sequence[Acknowledged]) -> list[bytes]:
        free = asyncio.Semaphore(_READERS)

        async def get(answer: Acknowledged) -> bytes:
            headers = {name: value for name, value in answer.headers.items() if name == "Api-Revision"}
            async with (
                free,
                self._session.get(
                    f"{self._url}/v1beta/interactions/{answer.id}", headers=headers
                ) as response,
            ):
                return await response.read()

        return await asyncio.gather(*map(get, answers))


def _shows(body: bytes, answer: Acknowledged) -> bool:
    """Whether a read shows the acknowledged interaction, which in turn answers the question that was asked."""
    if answer.body is not None and body != answer.body:
        return False
    told = orjson.loads(body)
    return {**told, **answer.content} == told and answer.text in orjson.dumps(told["steps"]).decode()


def _is_same(body: bytes, digest: bytes) -> bool:
    return sha256(body).digest() == digest


async def _seen_inputs(session: ClientSession, upstream: str) -> Counter[str]:
    """The input of every create that reached upstream, with how often it did."""
    async with session.get(f"{upstream}/_emulator/requests") as response:
        requests = (await response.json())["requests"]
    return Counter(request["body"]["input"] for request in requests if request["method"] == "POST")


async def _recorded_inputs(database_url: str) -> Counter[str]:
    """The input of every interaction that has a row and a request, with how many there are."""
    codec = Codec()
    backend = open_backend(database_url, codec, pool_limit=1)
    await backend.start()
    try:
        rows = await backend.fetch(_REQUESTS, {})
    finally:
        await backend.close()
    return Counter(orjson.loads(codec.unpack(*row))["input"] for row in rows)
