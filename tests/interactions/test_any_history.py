"""Whatever tree clients build and whatever upstream forgets, upstream gets the path from the root, each step once.

``HISTORIES`` sets how many scripts are played, other ones each time; ``HISTORY_SEED`` repeats a run.
"""

from __future__ import annotations

import os
from random import SystemRandom

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from service.emulator.config import DAY
from tests.interactions.scripts import Script, scripts
from tests.interactions.trees import AGENT, Place, Player
from tests.support.gateway import Gateway
from tests.support.gateways import StartEmulator, StartGateway
from tests.support.upstreams import Emulated, deployment

HISTORIES = int(os.environ.get("HISTORIES", "70"))
#: Without a wish for more the same scripts are played each time.
SEED = int(
    os.environ.get("HISTORY_SEED", SystemRandom().randrange(2**32) if "HISTORIES" in os.environ else "70")
)


@pytest.fixture(name="upstreams")
async def upstreams_fixture(start_emulator: StartEmulator) -> tuple[Emulated, Emulated]:
    """Two upstreams that forget at different times and say it differently (contract 6)."""
    return (
        await start_emulator(retention_seconds=1.5 * DAY, stale_reference="404"),
        await start_emulator(retention_seconds=55 * DAY, stale_reference="400"),
    )


@pytest.fixture(name="places")
def places_fixture(upstreams: tuple[Emulated, Emulated]) -> tuple[Place, ...]:
    """Three deployments; the service takes nothing at the last one to be alive."""
    brief, long = upstreams
    return (
        Place("brief", "gemini-2.5-flash", brief, keeps=1.5),
        Place("long", "gemini-3.1-pro-preview", long, keeps=55),
        Place("never", "gemini-2.5-pro", brief, keeps=1.5, trusted=False),
    )


@pytest.fixture(name="agents")
def agents_fixture(upstreams: tuple[Emulated, Emulated]) -> Place:
    """The deployment of an agent."""
    return Place(AGENT, AGENT, upstreams[1], keeps=55)


@pytest.fixture(name="service")
async def service_fixture(places: tuple[Place, ...], agents: Place, start_gateway: StartGateway) -> Gateway:
    """A service with these deployments, which keeps files and takes none to live longer than it must."""
    deployments = (
        deployment(
            place.upstream,
            place.name,
            place.model,
            key=place.key,
            file_retention=0.0,
            **({} if place.trusted else {"retention": 0.0}),
        )
        for place in (*places, agents)
    )
    return await start_gateway(deployments=tuple(deployments), keep_media=True)


@pytest.mark.timeout(300 + 4 * HISTORIES)
@seed(SEED)
@settings(
    max_examples=HISTORIES,
    deadline=None,
    database=None,
    # Shrinking takes minutes, more than a test has; add Phase.shrink to find the shortest script of a failure.
    phases=[Phase.generate],
    # One service serves all examples: the trees of one have nothing to do with those of another.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(script=scripts)
async def test_upstream_gets_the_path_from_the_root(
    script: Script, service: Gateway, places: tuple[Place, ...], agents: Place
) -> None:
    try:
        await Player(service, places, agents).play(script)
    except Exception as error:
        error.add_note(f"HISTORIES={HISTORIES} HISTORY_SEED={SEED} plays this again.")
        raise
