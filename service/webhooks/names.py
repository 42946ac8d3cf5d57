"""Looks up the names of receivers, apart from every other look-up of the process.

A name server that does not answer holds a look-up for many seconds, and nothing can end it. The event loop has a few
threads for all look-ups, which the way to upstream needs: whoever names receivers must not be able to take those.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from threading import Thread
from typing import Any

from aiohttp.abc import AbstractResolver, ResolveResult

_Future = asyncio.Future[list[ResolveResult]]


class Names(AbstractResolver):
    """Each look-up has a thread of its own, which ends with it and holds up nobody, the end of the process neither."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name; raises OSError when there are none."""
        found: _Future = asyncio.get_running_loop().create_future()
        Thread(target=_look_up, args=(found, host, port, family), name="webhook name", daemon=True).start()
        return await found

    async def close(self) -> None:
        """Nothing is held."""


def _look_up(found: _Future, host: str, port: int, family: int) -> None:
    answer: list[ResolveResult] | OSError
    try:
        answer = _addresses(host, port, family)
    except OSError as error:
        answer = error
    except UnicodeError as error:
        answer = OSError(f"{host[:100]!r} is no name ({error})")

    def tell() -> None:
        if found.done():
            return
        if isinstance(answer, OSError):
            found.set_exception(answer)
        else:
            found.set_result(answer)

    # The loop may have ended meanwhile.
    with suppress(RuntimeError):
        found.get_loop().call_soon_threadsafe(tell)


def _addresses(host: str, port: int, family: int) -> list[ResolveResult]:
    rows = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
    return [_address(host, *row) for row in rows]


def _address(
    host: str, family: int, kind: int, protocol: int, canonical: str, where: tuple[Any, ...]
) -> ResolveResult:
    return ResolveResult(
        hostname=host,
        host=str(where[0]),
        port=int(where[1]),
        family=family,
        proto=protocol,
        flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
    )
