"""Functions, built-in tools and the formats of the answer."""

from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from service.emulator.synthesis import synthesise
from tests.emulator.client import Json, Upstream, step_types, text_of

WEATHER: Json = {
    "type": "function",
    "name": "get_weather",
    "parameters": {
        "type": "object",
        "properties": {
            "place": {"type": "string"},
            "unit": {"type": "string", "enum": ["celsius", "kelvin"]},
            "days": {"type": "integer", "minimum": 2},
        },
        "required": ["place"],
    },
}
TIME: Json = {"type": "function", "name": "get_time"}


def calls(interaction: Json) -> list[Json]:
    return [step for step in interaction["steps"] if step["type"] == "function_call"]


async def test_every_declared_function_is_called(upstream: Upstream) -> None:
    answer = await upstream.create("Hello", tools=[WEATHER, TIME])
    assert answer["status"] == "requires_action"
    assert step_types(answer) == ["thought", "function_call", "function_call"]
    first, second = calls(answer)
    assert first["name"] == "get_weather"
    assert first["arguments"] == {"place": "a place", "unit": "celsius", "days": 2}
    assert second["arguments"] == {}
    assert first["id"] != second["id"]


@pytest.mark.parametrize(
    ("choice", "called"),
    [
        ("auto", ["get_weather", "get_time"]),
        ("any", ["get_weather", "get_time"]),
        ("validated", ["get_weather", "get_time"]),
        ("none", []),
        ({"allowed_tools": {"mode": "any", "tools": ["get_time"]}}, ["get_time"]),
    ],
)
async def test_tool_choice_decides_what_is_called(upstream: Upstream, choice: Any, called: list[str]) -> None:
    answer = await upstream.create("Hi", tools=[WEATHER, TIME], generation_config={"tool_choice": choice})
    assert [call["name"] for call in calls(answer)] == called


async def test_results_are_quoted(upstream: Upstream) -> None:
    asked = await upstream.create("Hi", tools=[WEATHER, TIME])
    texts: list[Any] = ["sunny", [{"type": "text", "text": "noon"}]]
    results = [
        {"type": "function_result", "call_id": call["id"], "name": call["name"], "result": text}
        for call, text in zip(calls(asked), texts, strict=True)
    ]
    told = await upstream.create(results, tools=[WEATHER, TIME], previous_interaction_id=asked["id"])
    assert told["status"] == "completed"
    assert 'The result of get_weather was: "sunny".' in text_of(told)
    assert 'The result of get_time was: "noon".' in text_of(told)
    assert "The tools were: get_weather, get_time." in text_of(told)


async def test_functions_can_be_called_again(upstream: Upstream) -> None:
    asked = await upstream.create("Hi", tools=[TIME])
    (call,) = calls(asked)
    result = {"type": "function_result", "call_id": call["id"], "name": "get_time", "result": "noon"}
    again = await upstream.create([result], tools=[TIME], previous_interaction_id=asked["id"], wish="call")
    assert again["status"] == "requires_action"
    assert calls(again)[0]["id"] != call["id"]


@pytest.mark.parametrize(
    ("tool", "prefix", "signed"),
    [
        ({"type": "google_search"}, "google_search", True),
        ({"type": "code_execution"}, "code_execution", True),
        ({"type": "url_context"}, "url_context", True),
        ({"type": "google_maps", "enable_widget": True}, "google_maps", True),
        ({"type": "file_search"}, "file_search", True),
        ({"type": "mcp_server", "name": "docs"}, "mcp_server_tool", False),
        ({"type": "retrieval"}, "retrieval", True),
        ({"type": "tool_search"}, "tool_search", True),
    ],
)
async def test_a_built_in_tool_shows_its_work(
    upstream: Upstream, tool: Json, prefix: str, signed: bool
) -> None:
    answer = await upstream.create("See https://example.com/a for more", tools=[tool])
    call, result = answer["steps"][:2]
    assert (call["type"], result["type"]) == (f"{prefix}_call", f"{prefix}_result")
    assert call["id"] == result["call_id"]
    assert ("signature" in call, "signature" in result) == (signed, signed)
    assert answer["status"] == "completed"


async def test_citations_count_bytes(upstream: Upstream) -> None:
    answer = await upstream.create("Grüße", tools=[{"type": "google_search"}])
    (annotation,) = answer["steps"][-1]["content"][0]["annotations"]
    cited = text_of(answer).encode()[annotation["start_index"] : annotation["end_index"]]
    assert cited == b"I saw 1 user turn and 0 model turns"


async def test_the_computer_is_used_by_calls(upstream: Upstream) -> None:
    tool = {"type": "computer_use", "excluded_predefined_functions": ["open_web_browser"]}
    (call,) = calls(await upstream.create("Go", tools=[tool]))
    assert call["name"] == "wait_5_seconds"


SCHEMA: Json = {
    "type": "object",
    "properties": {
        "summary": {"type": "string"},
        "kind": {"enum": ["b", "c"]},
        "score": {"type": "number", "minimum": 0.5},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        "maybe": {"type": ["null", "boolean"]},
    },
    "required": ["summary"],
}


@pytest.mark.parametrize(
    "wanted",
    [
        SCHEMA,
        {"type": "text", "mime_type": "application/json", "schema": SCHEMA},
        [{"type": "text", "mime_type": "application/json", "schema": SCHEMA}],
    ],
)
async def test_a_structured_answer_follows_its_schema(upstream: Upstream, wanted: Any) -> None:
    value = orjson.loads(text_of(await upstream.create("Hello", response_format=wanted)))
    assert '"Hello"' in value["summary"]
    assert (value["kind"], value["score"], value["maybe"]) == ("b", 0.5, True)
    assert value["tags"] == ["a tags", "a tags"]


async def test_pictures_and_sounds_are_real(upstream: Upstream) -> None:
    answer = await upstream.create("Draw", response_format=[{"type": "image"}, {"type": "audio"}])
    image, audio = answer["steps"][-1]["content"]
    assert base64.b64decode(image["data"]).startswith(b"\xff\xd8\xff")
    assert image["mime_type"] == "image/jpeg"
    assert audio["mime_type"] == "audio/l16"
    assert len(base64.b64decode(audio["data"])) == audio["sample_rate"] // 20 * 2
    assert {entry["modality"] for entry in answer["usage"]["output_tokens_by_modality"]} == {"image", "audio"}


async def test_a_video_may_be_a_pointer(upstream: Upstream) -> None:
    answer = await upstream.create("Film", response_format={"type": "video", "delivery": "uri"})
    (content,) = answer["steps"][-1]["content"]
    assert content["uri"].startswith(f"{upstream.url}/v1beta/files/")
    assert "data" not in content


TREE: Json = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "child": {"$ref": "#/$defs/node"}},
            "required": ["name"],
        }
    },
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": 4}, 4),
        ({"default": "x", "type": "string"}, "x"),
        ({"enum": [3, 4]}, 3),
        ({"type": "string", "format": "date"}, "2026-01-02"),
        ({"type": "string", "minLength": 12}, "a value....."),
        ({"type": "string", "maxLength": 3}, "a v"),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -2}, -2),
        ({"type": "integer", "minimum": 7, "multipleOf": 5}, 10),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, True),
        (
            {"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]},
            {"a": 1, "b": 2},
        ),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "minItems": 3}, [1, 2, 2]),
        ({"type": "array", "maxItems": 0}, []),
        ({"type": "OBJECT", "properties": {"n": {"type": "NUMBER"}}}, {"n": 1}),
        ({"$ref": "#/missing"}, "a value"),
    ],
)
def test_a_value_is_made_for_a_schema(schema: Json, value: Any) -> None:
    assert synthesise(schema) == value


def test_a_schema_that_contains_itself_ends() -> None:
    value = synthesise(TREE)
    depth = 0
    while "child" in value:
        value, depth = value["child"], depth + 1
    assert 1 <= depth <= 10
