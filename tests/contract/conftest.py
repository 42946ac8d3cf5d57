"""The official clients, pointed at the running service."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryFile

import pytest

from tests.contract.official import API_KEY, SDKS, Client, Process, Sdk


@pytest.fixture(scope="session", params=SDKS, ids=lambda sdk: sdk.name)
def sdk_process(request: pytest.FixtureRequest) -> Iterator[Process]:
    """A driver for each official client in turn, one at a time."""
    sdk: Sdk = request.param
    with TemporaryFile() as errors, Process(sdk, errors) as process:
        yield process


@pytest.fixture
def client(sdk_process: Process, service_url: str) -> Client:
    """An official client of the service."""
    return Client(sdk_process, service_url, API_KEY)
