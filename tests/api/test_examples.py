"""The documented examples, byte for byte as curl sends them."""

from __future__ import annotations

import pytest

from service.settings import Secret
from tests.support.gateway import Gateway
from tests.support.gateways import StartGateway
from tests.support.upstreams import Emulated, deployment

KEY = "sk-1234"
#: curl with `-d` would call it a form; the examples name the type.
CURL = {"authorization": f"Bearer {KEY}", "content-type": "application/json", "user-agent": "curl/8.9"}
JOKE = b'{"model": "gemini/gemini-2.5-flash", "input": "Tell me a short joke about programming."}'
STORY = b'{"model": "gemini/gemini-2.5-flash", "input": "Write a 3 paragraph story about a robot.", "stream": true}'


@pytest.fixture
async def example(upstream: Emulated, start_gateway: StartGateway) -> Gateway:
    """The service with the example's configuration."""
    entry = deployment(upstream, "gemini-flash", "gemini-2.5-flash")
    return await start_gateway(deployments=(entry,), master_key=Secret(KEY))


async def test_an_interaction_is_created(example: Gateway, upstream: Emulated) -> None:
    reply = await example.request("POST", "/v1beta/interactions", headers=CURL, data=JOKE)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("application/json")
    body = reply.body
    assert (body["object"], body["status"], body["role"]) == ("interaction", "completed", "model")
    assert body["model"] == "gemini-2.5-flash"
    assert "Tell me a short joke about programming." in body["outputs"][-1]["text"]
    assert body["outputs"][-1]["text"] == reply.text
    assert body["steps"][-1]["type"] == "model_output"
    assert body["usage"]["total_input_tokens"] > 0
    assert upstream.creates == [
        {"model": "gemini-2.5-flash", "input": "Tell me a short joke about programming."}
    ]


async def test_an_interaction_is_streamed(example: Gateway) -> None:
    reply = await example.request("POST", "/v1beta/interactions", headers=CURL, data=STORY)
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream"
    assert reply.headers["cache-control"] == "no-cache, no-transform"
    blocks = reply.raw.split(b"\n\n")
    assert blocks[0].startswith(b"event: interaction.created\ndata: {")
    assert blocks[-2:] == [b"event: done\ndata: [DONE]", b""]
    assert blocks[-3].startswith(b"event: interaction.completed\ndata: {")
    assert b'"outputs":' in blocks[-3]
    assert b'"total_input_tokens":' in blocks[-3]
    assert reply.raw.count(b"event: step.delta\n") >= 5


async def test_an_interaction_is_read_back(example: Gateway) -> None:
    made = await example.request("POST", "/v1beta/interactions", headers=CURL, data=JOKE)
    headers = {"authorization": CURL["authorization"], "user-agent": "curl/8.9"}
    read = await example.request("GET", f"/v1beta/interactions/{made.id}", headers=headers)
    assert read.status == 200
    assert read.body == made.body
