"""A small client for an emulator under test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from aiohttp import ClientResponse, ClientSession
from aiohttp.test_utils import TestServer

from service.emulator import CLOCK, Clock

MODEL = "gemini-3.8-flash"
Json = dict[str, Any]


class Upstream:
    """What a client of the emulator does, in the words of the tests."""

    def __init__(self, server: TestServer, session: ClientSession) -> None:
        self._server = server
        self.session = session

    @property
    def url(self) -> str:
        return str(self._server.make_url("")).rstrip("/")

    @property
    def clock(self) -> Clock:
        return self._server.app[CLOCK]

    async def post(
        self, body: Any = None, *, wish: str = "", path: str = "/v1/interactions", **headers: str
    ) -> ClientResponse:
        """POST a body as it is, or the bytes that it already is."""
        data = body if isinstance(body, bytes) else orjson.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if wish:
            sent["x-emulator-behavior"] = wish
        return await self.session.post(path, data=data, headers=sent)

    async def create(self, content: Any = "Hello", *, wish: str = "", **members: Any) -> Json:
        """Create a unary interaction that must succeed."""
        actor = {} if "agent" in members else {"model": MODEL}
        response = await self.post({**actor, "input": content, **members}, wish=wish)
        body: Json = await response.json()
        assert response.status == 200, body
        return body

    async def refused(self, expected: int = 400, /, *, wish: str = "", **members: Any) -> Json:
        """Create an interaction that must be refused; returns the error."""
        actor = {} if "agent" in members else {"model": MODEL}
        body = {**actor, "input": "Hello", **members}
        response = await self.post(
            {name: value for name, value in body.items() if value is not ...}, wish=wish
        )
        answer: Json = await response.json()
        assert response.status == expected, answer
        error: Json = answer["error"]
        return error

    async def stream(self, content: Any = "Hello", *, wish: str = "", **members: Any) -> list[Json]:
        """The events of a streamed create, without the final `done`."""
        actor = {} if "agent" in members else {"model": MODEL}
        response = await self.post({**actor, "input": content, "stream": True, **members}, wish=wish)
        assert response.status == 200
        return events_in(await response.read())

    async def get(self, name: str, **query: str) -> Json:
        """GET an interaction that must be there."""
        response = await self.session.get(f"/v1/interactions/{name}", params=query)
        body: Json = await response.json()
        assert response.status == 200, body
        return body

    async def get_stream(self, name: str, **query: str) -> list[Json]:
        """The events of a stored interaction."""
        response = await self.session.get(f"/v1/interactions/{name}", params={"stream": "true", **query})
        assert response.status == 200
        return events_in(await response.read())

    async def admin(self, method: str, path: str, body: Any = None) -> Any:
        """Call the admin API."""
        data = None if body is None else orjson.dumps(body)
        response = await self.session.request(method, f"/_emulator/{path}", data=data)
        answer = await response.json()
        assert response.status == 200, answer
        return answer


Start = Callable[..., Awaitable[Upstream]]


def events_in(raw: bytes) -> list[Json]:
    """The JSON of every event in an SSE body, without `[DONE]`."""
    events = []
    for block in raw.replace(b"\r\n", b"\n").split(b"\n\n"):
        data = [line[6:] for line in block.split(b"\n") if line.startswith(b"data: ")]
        if data and data != [b"[DONE]"]:
            events.append(orjson.loads(b"\n".join(data)))
    return events


def text_of(interaction: Json) -> str:
    """All text of the model's outputs."""
    return "".join(
        part.get("text", "")
        for step in interaction["steps"]
        if step["type"] == "model_output"
        for part in step.get("content", ())
    )


def streamed_text(events: list[Json]) -> str:
    """All text in the deltas of a stream."""
    return "".join(event["delta"].get("text", "") for event in events if event["event_type"] == "step.delta")


def step_types(interaction: Json) -> list[str]:
    """The types of the steps, in order."""
    return [step["type"] for step in interaction["steps"]]
