"""An emulator and a service for the SDK to ask, and the SDK in all its forms."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.sdk import FORMS, PLACES, Backdrop, Sdk


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
