"""Official clients get recorded answers as they got them the first time, and upstream hears nothing of it."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.official import API_KEY, Client, Json, Process, SdkError
from tests.contract.reading import MODEL, WEATHER
from tests.support.gateway import Gateway
from tests.support.upstreams import Emulated

KINDS: dict[str, dict[str, Any]] = {
    "text": {"input": "Say it slowly."},
    "thoughts": {"input": "Think about tea.", "generation_config": {"thinking_level": "high"}},
    "a call": {"input": "Weather in Oslo?", "tools": [WEATHER]},
}


@pytest.fixture
def live(sdk_process: Process, gateway: Gateway) -> Client:
    """A client of the service in this process."""
    return Client(sdk_process, gateway.url, API_KEY)


async def test_what_was_answered_is_answered_again(live: Client, upstream: Emulated) -> None:
    asked = [{"model": MODEL, **members} for members in KINDS.values()]
    streams = [await live.stream(**request) for request in asked]
    conversation = await _conversation(live)
    upstream.clear()
    for pace in ("recorded", "recorded; pace=none"):
        recorded = live.having(headers={"x-replay": pace})
        assert [await recorded.stream(**request) for request in asked] == streams
        assert await _conversation(recorded) == conversation
    assert upstream.requests == []


async def test_what_was_never_asked_is_an_error(live: Client, upstream: Emulated) -> None:
    with pytest.raises(SdkError) as refused:
        await live.having(headers={"x-replay": "recorded"}).create(model=MODEL, input="Never asked.")
    assert refused.value.status == 424
    assert "No recorded interaction" in refused.value.message
    assert upstream.requests == []


async def _conversation(client: Client) -> list[Json]:
    first = await client.create(model=MODEL, input="My name is Ada.")
    second = await client.create(model=MODEL, input="Who am I?", previous_interaction_id=first["id"])
    return [_said(answer) for answer in (first, second, await client.get(second["id"]))]


def _said(answer: Json) -> Json:
    """An answer without the headers that it came with."""
    return {name: value for name, value in answer.items() if name != "sdkHttpResponse"}
