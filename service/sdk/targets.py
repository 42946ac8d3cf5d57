"""The seam between a client and what it asks: a running service, or one inside this process."""

from __future__ import annotations

from typing import Final, Protocol

from aiohttp import BaseConnector, TCPConnector

from service.sdk.options import Embedded, Remote, Target

#: Seconds that open calls to a running service get when a client is closed.
_GRACE: Final = 5.0


class Service(Protocol):
    """What an engine asks; used on one event loop."""

    base_url: str
    headers: dict[str, str]
    #: Whether proxies and the like of the environment are in between.
    outside: bool
    #: Seconds that open calls get when it is closed.
    grace: float
    #: Whether it opens a SQLite file in this process.
    uses_sqlite: bool

    async def start(self) -> BaseConnector:
        """A connector whose connections lead there; raises :class:`SdkConfigurationError`."""

    async def close(self) -> None:
        """Nothing is asked any more."""


class RemoteService:
    """A service that runs somewhere."""

    outside = True
    grace = _GRACE
    uses_sqlite = False

    def __init__(self, remote: Remote) -> None:
        self.base_url = remote.base_url
        self.headers = {} if remote.api_key is None else {"x-goog-api-key": remote.api_key}

    async def start(self) -> BaseConnector:
        """Connect over the network."""
        return TCPConnector(limit=0)

    async def close(self) -> None:
        """It runs on."""


def service_of(target: Target) -> Service:
    """What this target is; raises :class:`SdkConfigurationError` when it cannot be one."""
    if not isinstance(target, Embedded):
        return RemoteService(target)
    # The whole service: a client of one that runs elsewhere does without.
    from service.sdk.embedded import EmbeddedService

    return EmbeddedService(target)
