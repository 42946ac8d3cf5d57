"""An emulator and a service for the SDK to ask, and the SDK in all its forms."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest

from service import InteractionsClient
from tests.support.sdk import FORMS, PLACES, Backdrop, Sdk
from tests.support.upstreams import Script, Scripted


@pytest.fixture(scope="session")
def backdrop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backdrop]:
    """An emulator, and a service before it, for all tests."""
    made = Backdrop(tmp_path_factory.mktemp("sdk"))
    yield made
    made.close()


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest) -> str:
    """Where the service is that is asked."""
    return str(request.param)


@pytest.fixture(params=FORMS, ids=lambda form: form.__name__)
def sdk(request: pytest.FixtureRequest, backdrop: Backdrop, place: str) -> Iterator[Sdk]:
    """Each form of the SDK in each place."""
    made, close = request.param(getattr(backdrop, place))
    yield made
    close()


@pytest.fixture
def scripted(backdrop: Backdrop) -> Iterator[Any]:
    """Starts a service that answers what the test says; returns a client of it."""
    stack = AsyncExitStack()

    async def start(script: Script) -> str:
        made = Scripted(script)
        await made.server.start_server()
        stack.push_async_callback(made.close)
        return made.url

    def started(script: Script, **connection: Any) -> InteractionsClient:
        return InteractionsClient(base_url=backdrop.run(start(script)), **connection)

    yield started
    backdrop.run(stack.aclose())
