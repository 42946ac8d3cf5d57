"""How often upstream is asked about one run, as it has seen it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from tests.support.gateway import eventually
from tests.support.gateways import StartGateway, gateway_starter
from tests.support.upstreams import Emulated

FIRST, LONGEST = 0.03, 0.12
GROWTH, JITTER = 1.5, 0.2
#: Without a bound the last of these would come after minutes.
ASKED = 18


@pytest.fixture
def start_gateway(running: AsyncExitStack, sqlite_url: str) -> StartGateway:
    """When upstream is asked is no matter of the database."""
    return gateway_starter(running, sqlite_url)


async def test_upstream_is_asked_after_pauses_that_grow_to_a_bound_and_differ(
    start_gateway: StartGateway, upstream: Emulated
) -> None:
    gateway = await start_gateway(
        upstream, background_streams=0, poll_interval=FIRST, poll_interval_max=LONGEST
    )
    await gateway.ask(background=True, wish="zombie")

    async def was_asked() -> bool:
        return len(upstream.calls("GET")) >= ASKED

    await eventually(was_asked)
    times = [seen["at"] for seen in upstream.calls("GET")]
    pauses = [later - earlier for earlier, later in pairwise(times)]
    # A busy machine makes them longer, and nothing makes them shorter.
    for place, pause in enumerate(pauses[: ASKED - 1], 1):
        assert pause > min(FIRST * GROWTH**place, LONGEST) * (1 - JITTER) * 0.95, (place, pauses)
    settled = pauses[-8:]
    assert min(pauses[:3]) < min(settled)
    assert max(settled) - min(settled) > LONGEST * JITTER / 4
