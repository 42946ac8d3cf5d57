"""A client that speaks to upstream itself, as applications do before they move to the service."""

from __future__ import annotations

from typing import Any

from aiohttp import ClientSession

from tests.support.gateway import MODEL
from tests.support.replies import Json
from tests.support.upstreams import KEY, Emulated


async def made(upstream: Emulated, content: Any = "Hello", *, key: str = KEY, **members: Any) -> Json:
    """An interaction of upstream that the service has not seen; its requests are not counted.

    Without an input when `content` is `...`.
    """
    body = {**({} if "agent" in members else {"model": MODEL}), **members}
    if content is not ...:
        body["input"] = content
    async with (
        ClientSession(upstream.url) as session,
        session.post("/v1beta/interactions", json=body, headers={"x-goog-api-key": key}) as response,
    ):
        answer: Json = await response.json()
        assert response.status == 200, answer
    upstream.clear()
    return answer


async def conversation(upstream: Emulated, *texts: str) -> list[Json]:
    """A conversation of so many turns."""
    answers: list[Json] = []
    for text in texts:
        previous = {"previous_interaction_id": answers[-1]["id"]} if answers else {}
        answers.append(await made(upstream, text, **previous))
    return answers
