"""A receiver of webhooks on a real socket of this machine, and what it was told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer
from standardwebhooks import Webhook

from tests.support.gateway import eventually
from tests.support.replies import Json

#: What a receiver does instead of answering.
HANG = 0


@dataclass(frozen=True, slots=True)
class Told:
    """One request to a receiver."""

    path: str
    headers: dict[str, str]
    raw: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def body(self) -> Json:
        body: Json = orjson.loads(self.raw)
        return body

    def verified(self, secret: str) -> Json:
        """The body, if the signature is right; raises otherwise."""
        verified: Json = Webhook(secret).verify(self.raw, self.headers)
        return verified


class Receiver:
    """Answers 204, or one after the other what the test says: a status, or HANG."""

    def __init__(self) -> None:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._take)
        self.server = TestServer(app)
        self.told: list[Told] = []
        self.answers: list[int | web.Response] = []
        #: Whether it is as if it did not answer, from now on.
        self.hanging = False
        self._released = asyncio.Event()

    @property
    def url(self) -> str:
        return str(self.server.make_url("/hook"))

    async def has(self, count: int) -> None:
        """Wait until it was told so often."""

        async def enough() -> bool:
            return len(self.told) >= count

        await eventually(enough)

    async def _take(self, request: web.Request) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.told.append(Told(request.path, headers, await request.read()))
        answer = self.answers.pop(0) if self.answers else 204
        if self.hanging or answer == HANG:
            await self._released.wait()
        return answer if isinstance(answer, web.Response) else web.Response(status=answer or 500)

    async def close(self) -> None:
        self._released.set()
        await self.server.close()


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    """A receiver that listens."""
    made = Receiver()
    await made.server.start_server()
    try:
        yield made
    finally:
        await made.close()
