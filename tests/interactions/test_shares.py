"""Weights are shares, over sockets, to one process and to two on one database of each kind.

The choice itself is within 2 % over ten thousand requests in the tests of the strategies, which need no sockets. Here
each of four services is asked less often and may be off by as many standard deviations; all four together have the ten
thousand and the 2 %. `make soak` asks each of them as often.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from math import sqrt
from urllib.parse import urlsplit

import pytest

from bench.load import Client, request_bytes
from bench.mock_upstream import MockUpstream, answer_body
from service.settings.model import RouterSettings
from tests.support.gateway import MODEL, Gateway
from tests.support.gateways import StartGateway, gateway_starter
from tests.support.upstreams import deployment

DRAWS = int(os.environ.get("DRAWS", "2500"))
WITHIN = 0.02 * sqrt(10_000 / DRAWS)
CLIENTS = 32
WEIGHTS = {"a": 6.0, "b": 3.0, "c": 1.0}


class Counting(MockUpstream):
    """Counts what it answers."""

    def __init__(self, count: Callable[[], None]) -> None:
        body = answer_body(512)
        head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        super().__init__(head + body, 0.0)
        self._count = count

    def answer(self) -> None:
        self._count()
        super().answer()


class Upstreams:
    """One for each deployment, and how many creates each has seen."""

    def __init__(self, running: AsyncExitStack) -> None:
        self._running = running
        self.asked: Counter[str] = Counter()

    async def start(self, name: str) -> str:
        """Its address."""

        def count() -> None:
            self.asked[name] += 1

        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Counting(count), "127.0.0.1", 0)
        self._running.callback(server.close)
        return f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def ask_often(gateways: list[Gateway], draws: int) -> int:
    """So many creates, dealt to the gateways' clients; how many have failed."""
    loop = asyncio.get_running_loop()
    left, answered, failures = draws, 0, 0
    over = loop.create_future()
    requests: dict[Client, bytes] = {}

    def send(client: Client) -> None:
        nonlocal left
        if left:
            left -= 1
            client.transport.write(requests[client])

    def hear(client: Client, ok: bool) -> None:
        nonlocal answered, failures
        answered += 1
        failures += not ok
        if answered == draws:
            over.set_result(None)
        send(client)

    ports = [urlsplit(gateway.url).port or 0 for gateway in gateways]
    for number in range(CLIENTS):
        port = ports[number % len(ports)]
        _, client = await loop.create_connection(lambda: Client(hear), "127.0.0.1", port)
        requests[client] = request_bytes(port, 256)
    for client in requests:
        send(client)
    await over
    for client in requests:
        client.transport.close()
    return failures


async def counted(running: AsyncExitStack, start_gateway: StartGateway, replicas: int) -> Counter[str]:
    """How many creates each of the upstreams has seen, when all have been answered and recorded."""
    upstreams = Upstreams(running)
    entries = tuple(
        [
            deployment(await upstreams.start(name), "fast", MODEL, id=name, weight=weight)
            for name, weight in WEIGHTS.items()
        ]
    )
    gateways = [await start_gateway(deployments=entries, router=RouterSettings()) for _ in range(replicas)]
    before = await gateways[0].database.count()
    assert await ask_often(gateways, DRAWS) == 0
    assert upstreams.asked.total() == DRAWS == await gateways[0].database.count() - before
    return upstreams.asked


def assert_shares(asked: Counter[str], within: float) -> None:
    """Each has its part of them."""
    shares = {name: count / asked.total() for name, count in asked.items()}
    total = sum(WEIGHTS.values())
    assert shares == pytest.approx({name: weight / total for name, weight in WEIGHTS.items()}, abs=within)


async def test_weights_are_shares_of_one_process_and_of_two(
    running: AsyncExitStack, sqlite_url: str, postgres_url: str
) -> None:
    asked: Counter[str] = Counter()
    for url, replicas in ((sqlite_url, 1), (sqlite_url, 2), (postgres_url, 1), (postgres_url, 2)):
        async with AsyncExitStack() as services:
            found = await counted(running, gateway_starter(services, url), replicas)
        assert_shares(found, WITHIN)
        asked += found
    assert asked.total() >= 10_000
    assert_shares(asked, 0.02)
