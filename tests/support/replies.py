"""Answers of the service as tests look at them: whole, or event by event."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import ClientError, ClientResponse
from multidict import CIMultiDictProxy

Json = dict[str, Any]

#: Far beyond what anything here takes; only a hang gets there.
_PATIENCE = 30.0
_DONE = b"[DONE]"


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer."""

    status: int
    headers: CIMultiDictProxy[str]
    raw: bytes

    @property
    def body(self) -> Json:
        body = orjson.loads(self.raw)
        assert isinstance(body, dict)
        return body

    @property
    def error(self) -> Json:
        """The error, which must have Google's shape and nothing else (contract 7.1)."""
        assert self.headers["content-type"].startswith("application/json")
        assert self.headers["x-request-id"]
        assert list(self.body) == ["error"]
        error: Json = self.body["error"]
        assert sorted(error) == ["code", "message"]
        assert isinstance(error["code"], str)
        assert isinstance(error["message"], str)
        assert error["message"]
        return error

    @property
    def id(self) -> str:
        """The service's id of the interaction."""
        name: str = self.body["id"]
        return name

    @property
    def upstream_id(self) -> str:
        return self.headers["x-upstream-interaction-id"]

    @property
    def steps(self) -> list[Json]:
        """What the model made."""
        return [step for step in self.body["steps"] if step["type"] != "user_input"]

    @property
    def text(self) -> str:
        """All text of the model's outputs."""
        contents = [step.get("content", ()) for step in self.steps if step["type"] == "model_output"]
        return "".join(part.get("text", "") for content in contents for part in content)


@dataclass(frozen=True, slots=True)
class Streamed:
    """A stream that has ended. `done`: by `[DONE]`; `broken`: the body was cut before its end."""

    status: int
    headers: CIMultiDictProxy[str]
    raw: bytes
    events: list[Json]
    done: bool
    broken: bool

    @property
    def types(self) -> list[str]:
        return [event["event_type"] for event in self.events]

    @property
    def id(self) -> str:
        """The service's id of the interaction, as the first event tells it."""
        name: str = self.events[0]["interaction"]["id"]
        return name

    @property
    def final(self) -> Json:
        """The interaction of the terminal event, after which there must be nothing but `[DONE]`."""
        assert self.done
        assert not self.broken
        last = self.events[-1]
        assert last["event_type"] in ("interaction.completed", "interaction.complete")
        interaction: Json = last["interaction"]
        return interaction

    @property
    def text(self) -> str:
        deltas = [event["delta"] for event in self.events if "delta" in event]
        return "".join(delta["text"] for delta in deltas if delta["type"] == "text")


class Live:
    """A stream that is being read."""

    def __init__(self, response: ClientResponse) -> None:
        self.response = response
        self._buffer = b""
        self._raw = b""
        self._done = False
        self._broken = False
        self._ended = False
        self.events: list[Json] = []

    @property
    def id(self) -> str:
        return self.response.headers["x-interaction-id"]

    async def next(self, patience: float = _PATIENCE) -> Json | None:
        """The next event; None at the end. Raises TimeoutError after so many seconds without one."""
        async with asyncio.timeout(patience):
            while not self._ended:
                block, separator, rest = self._buffer.partition(b"\n\n")
                if not separator:
                    await self._receive()
                    continue
                self._buffer = rest
                if (event := self._event(block)) is not None:
                    return event
        return None

    async def until(self, kind: str) -> Json:
        """The next event of a type."""
        while (event := await self.next()) is not None:
            if event["event_type"] == kind:
                return event
        raise AssertionError(f"the stream ended without {kind}")

    async def comments(self) -> bytes:
        """The next bytes, which are to be comments."""
        if not self._buffer:
            await self._receive()
        block, self._buffer = self._buffer, b""
        return block

    async def rest(self) -> Streamed:
        """Read to the end; everything that was read."""
        while await self.next() is not None:
            pass
        response = self.response
        return Streamed(response.status, response.headers, self._raw, self.events, self._done, self._broken)

    def leave(self) -> None:
        """Close the connection as a client that has gone."""
        self.response.close()

    async def _receive(self) -> None:
        try:
            chunk = await self.response.content.readany()
        except ClientError:
            self._broken = self._ended = True
            return
        self._raw += chunk
        self._buffer += chunk
        self._ended = not chunk

    def _event(self, block: bytes) -> Json | None:
        lines = [line.rstrip(b"\r") for line in block.split(b"\n")]
        names = [line.removeprefix(b"event: ") for line in lines if line.startswith(b"event: ")]
        data = [line.removeprefix(b"data: ") for line in lines if line.startswith(b"data: ")]
        if not data:
            return None
        assert not self._done, "nothing may follow [DONE]"
        assert len(data) == len(names) == 1
        if data[0] == _DONE:
            self._done = True
            return None
        event: Json = orjson.loads(data[0])
        # Some clients read only the line, some only the member (contract 4).
        assert event["event_type"].encode() == names[0]
        self.events.append(event)
        return event
