"""What Google would refuse is refused, in Google's words."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulator.client import MODEL, Json, Upstream

DR = "deep-research-preview-04-2026"
USER: Json = {"type": "user_input", "content": "Hi"}


@pytest.mark.parametrize(
    ("members", "code", "message"),
    [
        ({"foo": 1}, "parameter_unknown", "Unknown parameter 'foo'."),
        ({"cached_content": "c"}, "parameter_unknown", "Unknown parameter 'cached_content'."),
        ({"status": "completed"}, "parameter_unknown", "Unknown parameter 'status'."),
        (
            {"labels": {"a": "b"}},
            "invalid_request",
            "The parameter 'labels' is not available on the Gemini API but it is available on the Gemini "
            "Enterprise Agent Platform.",
        ),
        ({"safety_settings": []}, "invalid_request", "'safety_settings' is not available on the Gemini API"),
        ({"input": ...}, "invalid_request", "Missing input."),
        ({"input": None}, "invalid_request", "Missing input."),
        ({"input": ""}, "invalid_request", "Request has empty input."),
        ({"input": []}, "invalid_request", "Request has empty input."),
        ({"input": [{"type": "user_input", "content": []}]}, "invalid_request", "Request has empty input."),
        ({"input": 5}, "invalid_request", "Expected an array, got integer."),
        (
            {"input": [{"role": "user", "content": "Hi"}]},
            "invalid_request",
            "When using the steps-based API version, use step_list input format instead of turn_list.",
        ),
        (
            {"input": [{"role": "user", "parts": [{"text": "Hi"}]}]},
            "parameter_unknown",
            "Unknown parameter 'parts' at 'input[0]'.",
        ),
        ({"input": [{"type": "poem"}]}, "invalid_request", "The value 'poem' is not supported for 'type'"),
        ({"input": {"type": "user_input"}}, "invalid_request", "not supported for 'type' at 'input'."),
        (
            {"input": [{"type": "user_input", "content": [{"type": "thought", "signature": "a"}]}]},
            "invalid_request",
            "User turns cannot contain thought blocks.",
        ),
        (
            {"input": [{"type": "text", "text": 1}]},
            "invalid_request",
            "The value is invalid for 'input[0].text'. Expected a string, got integer.",
        ),
        (
            {"input": [{"type": "image", "mime_type": "image/png"}]},
            "invalid_request",
            "One of 'data' and 'uri'",
        ),
        (
            {"input": [{"type": "image", "mime_type": "image/png", "data": "a"}]},
            "invalid_request",
            "Base64 decoding failed.",
        ),
        (
            {"tools": [{"type": "invalid_tool_type_xyz"}]},
            "invalid_request",
            "The value 'invalid_tool_type_xyz' is not supported for 'type' at 'tools[0]'.",
        ),
        (
            {"tools": [{"type": "function"}]},
            "invalid_request",
            "Missing required parameter 'name' at 'tools[0]'.",
        ),
        (
            {"tools": {}},
            "invalid_request",
            "The value is invalid for 'tools'. Expected an array, got object.",
        ),
        (
            {"tools": [{"type": "google_search", "depth": 2}]},
            "parameter_unknown",
            "Unknown parameter 'depth' at 'tools[0]'.",
        ),
        (
            {"tools": [{"type": "function", "name": "f"}, {"type": "function", "name": "f"}]},
            "invalid_request",
            "Duplicate function declaration found: f",
        ),
        (
            {"tools": [{"type": "file_search"}, {"type": "google_search"}]},
            "invalid_request",
            "file_search cannot be combined",
        ),
        (
            {"generation_config": {"speech_config": {}}},
            "invalid_request",
            "The value is invalid for 'generation_config.speech_config'. Expected an array, got object.",
        ),
        (
            {"generation_config": {"top_k": 1}},
            "parameter_unknown",
            "Unknown parameter 'top_k' at 'generation_config'.",
        ),
        (
            {"generation_config": {"thinking_level": "minimal"}},
            "invalid_request",
            "Thinking level MINIMAL is not supported for this model.",
        ),
        ({"generation_config": {"thinking_level": "LOW"}}, "invalid_request", "'LOW' is not supported"),
        ({"generation_config": {"seed": -1}}, "invalid_request", "out of range"),
        (
            {"generation_config": {"tool_choice": {"allowed_tools": {"mode": "any", "tools": ["f"]}}}},
            "invalid_request",
            "is not declared",
        ),
        (
            {"response_mime_type": "application/json"},
            "invalid_request",
            "responseFormat must be set when responseMimeType is set",
        ),
        (
            {"response_format": {"type": "image", "delivery": "inline"}},
            "parameter_unknown",
            "Unknown parameter 'delivery' at 'response_format'.",
        ),
        (
            {"response_format": {"type": "audio", "mime_type": "audio/wav"}},
            "parameter_unknown",
            "'mime_type'",
        ),
        (
            {"response_format": {"type": "video", "delivery": "uri"}, "store": False},
            "invalid_request",
            "store=true is required",
        ),
        (
            {"store": "no"},
            "invalid_request",
            "The value is invalid for 'store'. Expected a boolean, got string.",
        ),
        ({"stream": 1}, "invalid_request", "Expected a boolean, got integer."),
        (
            {"store": False, "background": True},
            "invalid_request",
            "store=true is required for background interactions",
        ),
        (
            {"webhook_config": {"uris": ["https://example.com"]}},
            "invalid_request",
            "background=true is required",
        ),
        (
            {"service_tier": "gold"},
            "invalid_request",
            "The value 'gold' is not supported for 'service_tier'.",
        ),
        ({"model": ...}, "invalid_request", "Exactly one of 'model' and 'agent' must be set."),
        ({"model": MODEL, "agent": DR}, "invalid_request", "Exactly one of"),
        (
            {"agent_config": {"type": "dynamic"}},
            "invalid_request",
            "'agent_config' is only available with an agent",
        ),
        (
            {"agent": DR, "background": True, "generation_config": {}},
            "invalid_request",
            "'generation_config' is not available with an agent",
        ),
        ({"agent": DR}, "invalid_request", "background=true is required for agent"),
        ({"agent": "antigravity-preview-09-2026"}, "invalid_request", "environment is required"),
        ({"continuation_token": "made-up"}, "invalid_request", "Request contains an invalid argument."),
    ],
)
async def test_a_request_is_refused(upstream: Upstream, members: Json, code: str, message: str) -> None:
    error = await upstream.refused(**members)
    assert error["code"] == code
    assert message in error["message"]


async def test_a_model_that_does_not_exist_is_not_found(upstream: Upstream) -> None:
    for name in ("gpt-5", "models/gemini-3.8-flash"):
        assert (await upstream.refused(404, model=name))["code"] == "model_not_found"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        (
            {"id": "c", "name": "f", "result": "x"},
            "Unknown parameter 'id' at 'input[1].content[0]'.",
        ),
        ({"name": "f", "result": "x"}, "Missing call_id in content of type function_result"),
        ({"call_id": "c", "result": "x"}, "Missing name in content of type function_result"),
        (
            {"call_id": "c", "name": "f", "result": 5},
            "'result' must be a Struct, FunctionResultSubcontent[], or string",
        ),
        (
            {"call_id": "c", "name": "f", "result": True},
            "'result' must be a Struct, FunctionResultSubcontent[], or string",
        ),
    ],
)
async def test_a_function_result_is_refused(upstream: Upstream, members: Json, message: str) -> None:
    error = await upstream.refused(input=[USER, {"type": "function_result", **members}])
    assert error["message"] == message


@pytest.mark.parametrize(
    "input_",
    [
        "Hello",
        {"type": "text", "text": "Hello"},
        [{"type": "text", "text": "Hello"}, {"type": "image", "mime_type": "image/png", "data": "aGk="}],
        [{"type": "user_input", "content": "Hello"}],
        [{"type": "user_input", "content": [{"type": "text", "text": "Hello", "annotations": None}]}],
        [USER, {"type": "model_output", "content": [{"type": "text", "text": "Hi"}]}, USER],
        [USER, {"type": "compaction", "anything": {"at": "all"}}, USER],
        [USER, {"type": "text", "text": "loose"}],
        [{"type": "document", "mime_type": "application/pdf", "uri": "https://example.com/a.pdf"}],
    ],
)
async def test_an_input_is_accepted(upstream: Upstream, input_: Any) -> None:
    assert (await upstream.create(input_))["status"] == "completed"


async def test_null_members_count_as_absent(upstream: Upstream) -> None:
    await upstream.create(
        "Hi", tools=None, generation_config=None, previous_interaction_id=None, model=MODEL, agent=None
    )


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"\xff", b'"text"'])
async def test_what_is_not_a_json_object_is_refused(upstream: Upstream, raw: bytes) -> None:
    response = await upstream.post(raw)
    assert response.status == 400
    assert (await response.json())["error"]["code"] == "invalid_request"


async def test_a_body_that_is_too_large_is_refused(start: Any) -> None:
    upstream = await start(max_body_bytes=1000)
    assert (await upstream.refused(input="x" * 2000))["message"] == "Request payload size exceeds the limit."


@pytest.mark.parametrize(
    "headers",
    [
        {"User_Agent": "google-genai-sdk/1.75.0 gl-python/3.11.7"},
        {"x_goog_api_client": "google-genai-sdk/1.33.0 gl-node/v20"},
        {"User_Agent": "GeminiNextGenAPIClient/Python 1.55.0"},
    ],
)
async def test_legacy_clients_are_turned_away(upstream: Upstream, headers: dict[str, str]) -> None:
    response = await upstream.post({"model": MODEL, "input": "Hi"}, **headers)
    assert response.status == 400
    assert "no longer supported" in (await response.json())["error"]["message"]
    newer = await upstream.post({"model": MODEL, "input": "Hi"}, Api_Revision="2026-05-20", **headers)
    assert newer.status == 200


async def test_an_old_revision_alone_is_ignored(upstream: Upstream) -> None:
    response = await upstream.post({"model": MODEL, "input": "Hi"}, Api_Revision="2026-05-07")
    assert "steps" in await response.json()


async def test_the_query_of_a_get_is_checked(upstream: Upstream) -> None:
    name = (await upstream.create())["id"]
    for query, status in (
        ({"fields": "*"}, 200),
        ({"fields": "id"}, 400),
        ({"stream": "maybe"}, 400),
        ({"stream": "true", "last_event_id": "evt_99999"}, 400),
        ({"stream": "true", "last_event_id": "nonsense"}, 400),
        ({"stream": "false", "include_input": "true"}, 200),
    ):
        response = await upstream.session.get(f"/v1/interactions/{name}", params=query)
        assert response.status == status, query


async def test_unknown_routes_and_methods_are_answered_in_json(upstream: Upstream) -> None:
    assert (await upstream.session.get("/v1/interactions")).status == 405
    response = await upstream.session.get("/v2/interactions/x")
    assert response.status == 404
    assert (await response.json())["error"]["code"] == "not_found"
