"""Upstreams for the service under test: the emulator within reach, and one that answers what a test says."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import orjson
from aiohttp import web
from aiohttp.test_utils import TestServer

from service.emulator import CLOCK, Clock, EmulatorConfig, create_emulator
from service.emulator.faults import fault_of
from service.emulator.keys import EMULATOR
from service.settings import DeploymentSettings, Secret
from tests.support.replies import Json

_Result = TypeVar("_Result")

KEY = "upstream-key-a"
_LONG = 3600.0


class Emulated:
    """An emulator, its clock, and what it has seen."""

    def __init__(self, **config: Any) -> None:
        self._app = create_emulator(EmulatorConfig(**config))
        self._emulator = self._app[EMULATOR]
        self.server = TestServer(self._app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("")).rstrip("/")

    @property
    def clock(self) -> Clock:
        return self._app[CLOCK]

    @property
    def requests(self) -> list[Json]:
        """Every request it has seen, oldest first."""
        return [seen.shown() for seen in self._emulator.seen.after(0, None)]

    @property
    def asked(self) -> int:
        """How many creates it has seen."""
        return sum(is_create(seen) for seen in self.requests)

    @property
    def creates(self) -> list[Json]:
        """The bodies of the creates it has seen."""
        return [seen["body"] for seen in self.requests if is_create(seen)]

    def calls(self, method: str) -> list[Json]:
        """The requests of one method; creates are not among the POSTs."""
        return [seen for seen in self.requests if seen["method"] == method and not is_create(seen)]

    def clear(self) -> None:
        """Forget the requests seen so far."""
        self._emulator.seen.clear()

    def fault(self, fault: str, *, count: int = 1, **match: Any) -> None:
        """Let the next requests that match meet with a fault."""
        wish = {"fault": fault, "count": count, "match": {"method": "POST", **match}}
        self._emulator.faults.add(fault_of(wish, "fault"))

    def behave(self, wish: str) -> None:
        """Let every create behave in this way, until `calm`."""
        self.fault(wish, count=0)

    def hold(self) -> None:
        """Let every create wait for `release`."""
        self.behave(f"latency;seconds={_LONG}")

    def release(self) -> None:
        """Let everything be answered that was held, and hold nothing more."""
        self.calm()
        self.clock.advance(_LONG)

    def calm(self) -> None:
        """Drop the faults and the behaviour that were asked for."""
        self._emulator.faults.clear()

    def steps_of(self, upstream_id: str) -> list[Json]:
        """What it made in an interaction that it still has."""
        (record,) = (record for record in self._emulator.records.all() if record.id == upstream_id)
        steps: list[Json] = orjson.loads(record.steps)
        return steps

    def forget(self, upstream_id: str | None = None) -> None:
        """Lose an interaction, or all of them."""
        if upstream_id is None:
            self._emulator.records.forget_all()
        else:
            assert self._emulator.records.forget(upstream_id)

    def put_file(
        self, body: bytes, mime_type: str = "image/png", *, source: str = "GENERATED", key: str = KEY
    ) -> str:
        """Have a file of a deployment's key; returns its URI."""
        file = self._emulator.files.put(body, mime_type, self.clock.now(), key=key, source=source)
        uri: str = file.resource(self.url, "v1beta")["uri"]
        return uri

    @property
    def downloads(self) -> list[Json]:
        """The requests for the bytes of files."""
        return [seen for seen in self.calls("GET") if ":download" in seen["path"]]

    @property
    def connections(self) -> set[object]:
        """The connections to it that are open."""
        return _connections(self.server)

    @property
    def held(self) -> int:
        """How many interactions it has made and still has."""
        return len(list(self._emulator.records.all()))

    def holds(self, upstream_id: str) -> bool:
        """Whether it still has the interaction."""
        return any(record.id == upstream_id for record in self._emulator.records.all())

    async def close(self) -> None:
        """Go down: nothing listens at its address any more."""
        await self.server.close()


Script = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(slots=True)
class Scripted:
    """An upstream that answers every request as its script says, and keeps the bodies that it got."""

    script: Script
    bodies: list[bytes] = field(default_factory=list)
    server: TestServer = field(init=False)

    def __post_init__(self) -> None:
        app = web.Application(client_max_size=0)
        app.router.add_route("*", "/{path:.*}", self._answer)
        self.server = TestServer(app)

    @property
    def url(self) -> str:
        return str(self.server.make_url("")).rstrip("/")

    @property
    def connections(self) -> set[object]:
        """The connections to it that are open."""
        return _connections(self.server)

    async def close(self) -> None:
        await self.server.close()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.bodies.append(await request.read())
        return await self.script(request)


def _connections(server: TestServer) -> set[object]:
    return set(server.handler.connections)


def answering(
    body: bytes, status: int = 200, content_type: str = "application/json", **headers: str
) -> Script:
    """The script of one answer for everything."""

    async def script(request: web.Request) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(status=status, body=body, headers={"Content-Type": content_type, **named})

    return script


def sse(*events: Json | bytes, done: bool = True) -> bytes:
    """Events as the body of a stream; bytes are the data of an event as they are."""
    blocks = []
    for event in events:
        data = event if isinstance(event, bytes) else orjson.dumps(event)
        kind = orjson.loads(data)["event_type"].encode()
        blocks.append(b"event: %b\ndata: %b\n\n" % (kind, data))
    return b"".join(blocks) + (b"event: done\ndata: [DONE]\n\n" if done else b"")


def is_create(seen: Json) -> bool:
    """Whether a request that the emulator has seen is a create."""
    path: str = seen["path"]
    return seen["method"] == "POST" and path.endswith("/interactions")


def deployment(
    upstream: Emulated | Scripted | str,
    name: str = "*",
    model: str | None = None,
    key: str = KEY,
    **members: Any,
) -> DeploymentSettings:
    """A deployment on an upstream; its id is its name unless one is given."""
    url = upstream if isinstance(upstream, str) else upstream.url
    given = {"id": f"deployment-{name}", **members}
    return DeploymentSettings(
        model_name=name, model=model or name, api_key=Secret(key), api_base=url, **given
    )


async def while_time_passes(upstream: Emulated, waiting: Awaitable[_Result], step: float) -> _Result:
    """What comes of this while upstream's clock goes on by so many seconds at a time."""
    task = asyncio.ensure_future(waiting)
    while not task.done():
        upstream.clock.advance(step)
        await asyncio.wait((task,), timeout=0.02)
    return task.result()
