"""Clients that load a service which comes and goes, and keep every answer it has acknowledged.

A unary answer counts as acknowledged when its whole body has arrived, a streamed one when its terminal event has.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

import orjson
from aiohttp import ClientError, ClientResponse, ClientSession

Json = dict[str, Any]

#: A caller that shows no revision, and one that asks for the steps form.
_CALLERS: tuple[Mapping[str, str], ...] = ({}, {"Api-Revision": "2026-05-20"})
_MODEL = "gemini-2.5-flash"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a client was told; ``body`` is the answer to a unary create, byte for byte."""

    text: str
    headers: Mapping[str, str]
    content: Json
    body: bytes | None

    @property
    def id(self) -> str:
        """The interaction's id."""
        identity: str = self.content["id"]
        return identity


class Load:
    """``clients`` clients that create without a pause while the service is there, all different by the seed."""

    def __init__(self, session: ClientSession, clients: int, seed: int) -> None:
        self.acknowledged: list[Acknowledged] = []
        #: Creates that were sent, and those of them that broke off when the service went.
        self.sent = 0
        self.cut = 0
        self._session = session
        self._clients = clients
        self._seed = seed
        self._url: str | None = None
        self._news = asyncio.Condition()
        self._over = False

    async def run(self) -> None:
        """Be all clients until :meth:`finish`; an answer that is neither 200 nor cut off by a kill is a failure."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._clients):
                group.create_task(self._client(number))

    async def begin(self, url: str) -> None:
        """The service is there."""
        self._url = url
        await self._tell()

    def interrupt(self) -> None:
        """The service is gone; to be called before the loop runs again."""
        self._url = None

    async def finish(self) -> None:
        """Let every client end."""
        self._over = True
        await self._tell()

    async def reached(self, count: int) -> None:
        """Wait until so many answers have been acknowledged."""
        async with self._news:
            await self._news.wait_for(lambda: len(self.acknowledged) >= count)

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()

    async def _client(self, number: int) -> None:
        random = Random(f"{self._seed} {number}")
        previous: str | None = None
        for count in itertools.count(1):
            async with self._news:
                await self._news.wait_for(lambda: self._over or self._url is not None)
            url = self._url
            if url is None:
                return
            text = f"client {number} asks question {count} of run {self._seed}"
            request = _request(random, text, previous if random.random() < 0.4 else None)
            answer = await self._ask(url, request, _headers(random), text)
            if answer is not None:
                previous = answer.id
                self.acknowledged.append(answer)
                await self._tell()

    async def _ask(
        self, url: str, request: Json, headers: Mapping[str, str], text: str
    ) -> Acknowledged | None:
        self.sent += 1
        try:
            async with self._session.post(
                f"{url}/v1beta/interactions", json=request, headers=headers
            ) as answer:
                assert answer.status == 200, await answer.text()
                if request["stream"]:
                    return Acknowledged(text, headers, await _streamed(answer), None)
                body = await answer.read()
                return Acknowledged(text, headers, orjson.loads(body), body)
        except (ClientError, ConnectionError):
            if self._url == url:
                raise
            self.cut += 1
            return None


def _request(random: Random, text: str, previous: str | None) -> Json:
    padding = " and more" * random.randrange(200)
    request = {"model": _MODEL, "input": text + padding, "stream": random.random() < 0.5}
    return request if previous is None else {**request, "previous_interaction_id": previous}


def _headers(random: Random) -> Mapping[str, str]:
    headers = dict(random.choice(_CALLERS))
    if random.random() < 0.5:
        headers["x-emulator-fault"] = f"latency;seconds={random.uniform(0.001, 0.05):.4f}"
    return headers


async def _streamed(answer: ClientResponse) -> Json:
    """The terminal event's interaction with the steps that the events before it told."""
    steps: list[Json] = []
    async for line in answer.content:
        if not line.startswith(b"data: {"):
            continue
        event = orjson.loads(line[6:])
        kind = event["event_type"]
        if kind == "step.start":
            steps.append(dict(event["step"]))
        elif kind == "step.delta":
            _apply(steps[event["index"]], event["delta"])
        elif kind == "interaction.completed":
            return {**event["interaction"], "steps": steps}
    raise ConnectionError("the stream ended without its terminal event")


def _apply(step: Json, delta: Json) -> None:
    match delta["type"]:
        case "text":
            step.setdefault("content", [{"type": "text", "text": ""}])[0]["text"] += delta["text"]
        case "thought_signature":
            step["signature"] = step.get("signature", "") + delta["signature"]
        case unknown:
            raise AssertionError(f"a delta of type {unknown!r}")
