"""Streams: their events, their resumption, their time limit."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import orjson
import pytest

from tests.emulator.client import MODEL, Json, Start, Upstream, events_in, streamed_text, text_of

TOOLS = [
    {"type": "google_search"},
    {"type": "code_execution"},
    {"type": "url_context"},
    {"type": "google_maps"},
    {"type": "mcp_server", "name": "docs", "url": "https://example.com/mcp"},
    {"type": "retrieval"},
    {"type": "tool_search"},
]
SIGNED_DELTAS = frozenset({"arguments_delta", "thought_signature", "thought_summary"})


def assembled(events: list[Json]) -> list[Json]:
    """The steps that a stream stands for, put together by the rules of contract 4.4."""
    steps: list[Json] = []
    arguments: dict[int, str] = {}
    for event in events:
        kind = event["event_type"]
        if kind == "step.start":
            steps.append(dict(event["step"]))
        elif kind == "step.delta":
            apply(steps[event["index"]], event["delta"], arguments, event["index"])
    for index, text in arguments.items():
        steps[index]["arguments"] = orjson.loads(text)
    return steps


def apply(step: Json, delta: Json, arguments: dict[int, str], index: int) -> None:
    kind = delta["type"]
    if kind == "arguments_delta":
        arguments[index] = arguments.get(index, "") + delta["arguments"]
    elif kind == "thought_signature":
        step["signature"] = step.get("signature", "") + delta["signature"]
    elif kind == "thought_summary":
        step.setdefault("summary", []).append(delta["content"])
    elif kind == "text_annotation_delta":
        step["content"][-1]["annotations"] = delta["annotations"]
    elif kind != "text" and step["type"] != "model_output":
        step.update(delta)
    else:
        content = step.setdefault("content", [])
        if kind == "text" and content and content[-1]["type"] == "text":
            content[-1]["text"] += delta["text"]
        else:
            content.append(dict(delta))


def deltas(events: list[Json]) -> Counter[str]:
    return Counter(event["delta"]["type"] for event in events if event["event_type"] == "step.delta")


async def test_a_text_stream_has_the_blocks_of_the_contract(upstream: Upstream) -> None:
    response = await upstream.post({"model": MODEL, "input": "Hello", "stream": True})
    assert response.headers["Content-Type"] == "text/event-stream"
    raw = await response.read()
    assert raw.endswith(b"event: done\ndata: [DONE]\n\n")
    blocks = raw.split(b"\n\n")[:-2]
    for block in blocks:
        name, data = block.split(b"\n")
        assert name == b"event: " + orjson.loads(data.removeprefix(b"data: "))["event_type"].encode()
    kinds = [event["event_type"] for event in events_in(raw)]
    assert kinds[:3] == ["interaction.created", "interaction.status_update", "step.start"]
    assert kinds[-2:] == ["step.stop", "interaction.completed"]


async def test_a_foreground_stream_has_no_event_ids_unless_asked(upstream: Upstream, start: Start) -> None:
    assert not any("event_id" in event for event in await upstream.stream())
    events = await upstream.stream(wish="event_ids")
    assert len({event["event_id"] for event in events}) == len(events)
    other = await start(foreground_event_ids=True)
    assert all("event_id" in event for event in await other.stream())


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"tools": TOOLS},
        {"tools": [{"type": "file_search", "file_search_store_names": ["a"]}]},
        {"tools": [{"type": "computer_use", "environment": "browser"}]},
        {
            "tools": [
                {"type": "google_search"},
                {"type": "function", "name": "f"},
                {"type": "function", "name": "g"},
            ]
        },
        {"generation_config": {"thinking_summaries": "auto"}},
        {"response_format": [{"type": "text"}, {"type": "image"}]},
        {"response_format": {"type": "audio", "sample_rate": 16000}},
        {"response_format": {"type": "video"}},
        {"response_modalities": ["text", "document"]},
        {"model": "gemini-3.8-flash-tts"},
        {"model": "gemini-3.1-flash-image"},
        {"model": "gemini-omni-1.2-flash"},
        {"input": [{"type": "video", "uri": "https://example.com/v", "processing": "agentic"}]},
        {"wish": "story"},
        {"wish": "fragments;count=3"},
        {"wish": "unknown"},
        {"wish": "u2028"},
        {"wish": "failed"},
    ],
)
async def test_a_stream_assembles_to_the_unary_answer(upstream: Upstream, members: dict[str, Any]) -> None:
    unary = await upstream.create(**members)
    events = await upstream.stream(**members)
    assert assembled(events) == unary["steps"]
    final = events[-1]["interaction"]
    assert (final["status"], final["usage"]) == (unary["status"], unary["usage"])
    assert "steps" not in final


async def test_every_delta_type_can_be_had(upstream: Upstream) -> None:
    seen: Counter[str] = Counter()
    for members in (
        {"tools": TOOLS, "generation_config": {"thinking_summaries": "auto"}},
        {"tools": [{"type": "file_search"}, {"type": "function", "name": "f"}]},
        {"response_modalities": ["image", "audio", "video", "document"]},
        {"input": [{"type": "video", "uri": "https://example.com/v", "processing": "agentic"}]},
    ):
        seen += deltas(await upstream.stream(**members))
    sandbox = await upstream.stream(agent="antigravity-preview-09-2026", environment="remote")
    seen += deltas(sandbox)
    calls = [f"{tool}_{half}" for tool in _TOOL_STEPS for half in ("call", "result")]
    others = ["text", "text_annotation_delta", "image", "audio", "video", "document", *SIGNED_DELTAS]
    assert set(seen) >= {*calls, *others, "function_result"}


_TOOL_STEPS = (
    "google_search",
    "code_execution",
    "url_context",
    "google_maps",
    "file_search",
    "mcp_server_tool",
    "retrieval",
    "tool_search",
    "processing",
)


async def test_unknown_things_appear_on_request(upstream: Upstream) -> None:
    events = await upstream.stream(wish="unknown")
    assert "emulated.future_event" in {event["event_type"] for event in events}
    assert "emulated_future_step" in deltas(events)


async def test_a_separator_stays_raw_inside_the_text(upstream: Upstream) -> None:
    response = await upstream.post({"model": MODEL, "input": "Hello", "stream": True}, wish="u2028")
    raw = await response.read()
    assert "\u2028".encode() in raw
    assert "\u0085".encode() in raw
    assert "\u2028" in streamed_text(events_in(raw))


async def test_a_finished_interaction_can_be_streamed_again(upstream: Upstream) -> None:
    made = await upstream.create("Hello")
    events = await upstream.get_stream(made["id"])
    assert streamed_text(events) == text_of(made)
    assert [event["event_id"] for event in events] == [f"evt_{number + 1}" for number in range(len(events))]
    assert await upstream.get_stream(made["id"], last_event_id="evt_5") == events[5:]
    assert await upstream.get_stream(made["id"], last_event_id=events[-1]["event_id"]) == []


async def test_a_foreground_stream_takes_its_time(start: Start) -> None:
    upstream = await start(token_delay=0.005)
    events = await upstream.stream("Hello")
    name = events[0]["interaction"]["id"]
    assert (await upstream.get(name))["status"] == "completed"


async def test_a_foreground_stream_is_in_progress_until_it_has_ended(start: Start) -> None:
    upstream = await start(token_delay=100.0)
    response = await upstream.post({"model": MODEL, "input": "Hello", "stream": True})
    first = orjson.loads((await response.content.readuntil(b"\n\n")).split(b"data: ")[1])
    name = first["interaction"]["id"]
    running = await upstream.get(name)
    assert running["status"] == "in_progress"
    assert "usage" not in running
    upstream.clock.advance(500)
    assert [step["type"] for step in (await upstream.get(name))["steps"]] == ["user_input", "thought"]
    response.close()


async def test_a_stream_is_cut_at_its_time_limit(start: Start) -> None:
    upstream = await start(token_delay=100.0, stream_limit_seconds=350.0)
    response = await upstream.post({"model": MODEL, "input": "Hello", "stream": True})
    reading = asyncio.create_task(response.read())
    upstream.clock.advance(345)
    await asyncio.sleep(0.05)
    upstream.clock.advance(6)
    events = events_in(await reading)
    assert [event["event_type"] for event in events][-3:] == ["step.start", "step.delta", "step.stop"]
    name = events[0]["interaction"]["id"]
    upstream.clock.advance(10_000)
    rest = await upstream.get_stream(name, last_event_id=f"evt_{len(events)}")
    assert rest[-1]["event_type"] == "interaction.completed"


async def test_the_cut_leaves_an_error_array_in_the_body(start: Start) -> None:
    upstream = await start(queued_seconds=0.0)
    name = (await upstream.create("Hello", background=True, wish="zombie"))["id"]
    response = await upstream.session.get(f"/v1/interactions/{name}?stream=true")
    body = asyncio.create_task(response.read())
    await asyncio.sleep(0.01)
    upstream.clock.advance(601)
    raw = await body
    assert b'\n\n[{"error":{"code":504' in raw
    assert b"[DONE]" not in raw
