"""One try to tell one receiver: a POST that follows nothing, reads nearly nothing and takes bounded time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from aiohttp import ClientError, ClientSession, ClientTimeout, DummyCookieJar, TCPConnector

from service.webhooks.destinations import Destinations, ForbiddenAddress
from service.webhooks.names import Names

#: Bytes of an answer that are read, so that its connection can be used again; nobody looks at them.
_READ: Final = 4 * 1024
#: Seconds after which a name is looked up anew.
_NAMES_KEPT: Final = 30


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a try: the receiver's status, or why there is none."""

    status: int | None
    error: str | None = None

    @property
    def acknowledged(self) -> bool:
        """Whether the receiver has taken the event."""
        return self.status is not None and 200 <= self.status < 300


class Sender:
    """Owns the connections to receivers; ``timeout`` is the seconds that a try takes at most."""

    def __init__(self, destinations: Destinations, *, timeout: float, user_agent: str) -> None:
        self._session = ClientSession(
            connector=TCPConnector(
                limit=0,
                resolver=Names(),
                socket_factory=destinations.open_socket,
                ttl_dns_cache=_NAMES_KEPT,
            ),
            cookie_jar=DummyCookieJar(),
            timeout=ClientTimeout(total=timeout),
            headers={"User-Agent": user_agent, "Content-Type": "application/json"},
            auto_decompress=False,
            trust_env=False,
        )

    async def send(self, uri: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Tell the receiver; never raises for what it does."""
        try:
            response = await self._session.post(uri, data=body, headers=headers, allow_redirects=False)
        except (ClientError, OSError, TimeoutError, ValueError) as error:
            return Answer(None, _described(error))
        answer = Answer(response.status, _refusal(response.status))
        try:
            # The status is what counts: a body that is long or slow costs its connection and nothing else.
            if (response.content_length or 0) <= _READ:
                await response.content.read(_READ)
        except (ClientError, OSError, TimeoutError):
            pass
        finally:
            response.close()
        return answer

    async def close(self) -> None:
        """Close every connection."""
        await self._session.close()


def _refusal(status: int) -> str | None:
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return f"answered {status}; redirects are not followed"
    return f"answered {status}"


def _described(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ForbiddenAddress):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    return str(error) or type(error).__name__
