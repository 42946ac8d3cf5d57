"""Two replicas, many background runs, replicas killed at random: each run has one outcome, one usage and one create.

Every outcome is told to a receiver, under one id.

``RUNS`` sets how many runs there are, ``KILL_SEED`` repeats a run's moments.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from random import Random, SystemRandom

import pytest
from aiohttp import ClientConnectorError, ClientError

from service.store.records import USAGE_FINAL
from service.store.tables import metadata
from service.wire import ids
from service.wire.webhooks import event_id
from tests.support.database import Database
from tests.support.outliving import outliving
from tests.support.receivers import Receiver, receiver
from tests.support.reconciling import assert_reconciles
from tests.support.replicas import Overloaded, Replica, until
from tests.support.upstreams import Emulated

RUNS = int(os.environ.get("RUNS", "60"))
SEED = int(os.environ.get("KILL_SEED", "0")) or SystemRandom().randrange(1, 2**32)
_CLIENTS = 8
_KILLS = max(4, RUNS // 50)
#: Ways in which upstream misbehaves while the replicas die.
_WISHES = (
    "background;queued=0.3;running=1",
    "background;queued=0;running=4",
    "background;queued=1;running=0.5",
    "background;queued=0.1;running=0.1",
)
_FAULTS = ("", "", "missing_usage;gets=1", "not_found_after_create;gets=1", "limit;seconds=0.4")


@pytest.fixture
async def upstream() -> AsyncIterator[Emulated]:
    """An emulator that outlives the service."""
    async with outliving(foreground_event_ids=True) as emulated:
        yield emulated


@pytest.fixture(name="hook")
async def hook_fixture() -> AsyncIterator[Receiver]:
    """A receiver that outlives the service as well."""
    async with receiver() as made:
        yield made


class _Killing:
    """Two replicas of which one or the other is killed, and clients that ask whichever is there."""

    def __init__(self, folder: Path, database_url: str, upstream: Emulated, hook: Receiver) -> None:
        self.random = Random(SEED)
        self.killed = 0
        self._enough = False
        self.made: dict[str, str] = {}
        self.refused: set[str] = set()
        self.log: list[str] = []
        self._folder = folder
        self._database_url = database_url
        self._upstream = upstream
        self._wishes = {"background": True, "webhook_config": {"uris": [hook.url]}}
        self._replicas: list[Replica] = []
        self._left = [f"run {number}" for number in range(RUNS)]

    async def run(self) -> None:
        """Ask for all runs while replicas are killed."""
        self._replicas = list(await asyncio.gather(self._new(0), self._new(1)))
        async with asyncio.TaskGroup() as group:
            killing = group.create_task(self._kill())
            clients = [group.create_task(self._client()) for _ in range(_CLIENTS)]
            await asyncio.gather(*clients)
            self._enough = True
            await killing

    async def stop(self) -> None:
        """Stop both."""
        for replica in self._replicas:
            await replica.stop()
            self.log += replica.log

    async def _new(self, number: int) -> Replica:
        streams = 256 if number else 4
        return await Replica(
            self._folder,
            self._database_url,
            self._upstream.url,
            background_streams=streams,
            webhook_allow_private=True,
            webhook_timeout=2.0,
        ).start()

    async def _kill(self) -> None:
        while not self._enough or self.killed < _KILLS:
            await asyncio.sleep(self.random.uniform(0.1, 1.0))
            number = self.random.randrange(2)
            victim = self._replicas[number]
            await victim.kill()
            self.killed += 1
            self.log += victim.log
            self._replicas[number] = await self._new(number)

    async def _client(self) -> None:
        while self._left:
            text = self._left.pop()
            wish, fault = self.random.choice(_WISHES), self.random.choice(_FAULTS)
            replica = self._replicas[self.random.randrange(2)]
            try:
                if self.random.random() < 0.3:
                    self.made[text] = await replica.begin(text, wish=wish, fault=fault, **self._wishes)
                else:
                    answer = await replica.create(text, wish=wish, fault=fault, **self._wishes)
                    self.made[text] = answer["id"]
            except (ClientConnectorError, RuntimeError):
                # Nothing was sent: the replica is not there.
                self._left.insert(0, text)
            except Overloaded:
                # The machine is too slow for its database; what is refused is told to this client only.
                self.refused.add(text)
            except ClientError:
                # The replica died; whatever it had begun is in the store. The client asks for something else.
                pass
            await asyncio.sleep(self.random.uniform(0, 0.6))


async def _is_settled(database: Database) -> bool:
    async with database.looking() as connection:
        notes = metadata.tables["leases"]
        left = await connection.execute(notes.select().where(notes.c.kind != "process"))
        open_runs = [row for row in await database.rows() if row["completed_at"] is None]
        hooks = metadata.tables["webhooks"]
        untold = await connection.execute(hooks.select().where(hooks.c.settled_at.is_(None)))
        return not open_runs and not left.all() and not untold.all()


@pytest.mark.timeout(300 + 3 * RUNS)
async def test_every_run_has_one_outcome_and_one_usage_whoever_dies(
    database_url: str,
    upstream: Emulated,
    hook: Receiver,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    database = Database(database_url)
    killing = _Killing(tmp_path, database_url, upstream, hook)
    try:
        await killing.run()
        await until(lambda: _is_settled(database))
        await assert_reconciles(database_url)
    finally:
        await killing.stop()
    rows = {}
    for row in await database.rows():
        request = await database.request_of_row(row)
        assert request["input"] not in rows
        rows[request["input"]] = row
    await database.close()
    counts = Counter(str(row["status"]) for row in rows.values())
    record_property(
        "counts",
        f"KILL_SEED={SEED}: {killing.killed} kills; {len(rows)} of {RUNS} runs begun, "
        f"{len(killing.made)} acknowledged, {len(killing.refused)} refused; {dict(counts)}",
    )
    seen = Counter(body["input"] for body in upstream.creates)
    assert set(seen.values()) == {1}
    assert seen.keys() <= rows.keys()
    answered = {text: row for text, row in rows.items() if text not in killing.refused}
    for text, row in answered.items():
        if row["upstream_id"] is None:
            assert (row["status"], row["error_code"]) == ("failed", "interrupted"), text
        else:
            assert row["status"] == "completed", (text, row)
            assert (row["usage_state"], row["total_tokens"] is not None) == (USAGE_FINAL, True), text
    for text in killing.made:
        assert rows[text]["status"] == "completed", text
    told = {(one.body["data"]["id"], one.body["data"]["status"], one.id) for one in hook.told}
    assert told >= {
        (name := ids.to_text(row["id"]), row["status"], event_id(name)) for row in answered.values()
    }
    assert len(told) <= len(rows)
    assert len(killing.refused) <= RUNS // 20
    await assert_reconciles(database_url)
    assert killing.killed >= _KILLS
    assert not [line for line in killing.log if "level=error" in line]
