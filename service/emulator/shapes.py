"""What a create request may contain: contract section 2 and 5, as tables of checks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from service.emulator.checks import (
    Check,
    anything,
    array,
    base64_text,
    between,
    boolean,
    by_type,
    either,
    integer,
    mapping,
    members,
    number,
    one_of,
    text,
    unknown,
    wrong_type,
)
from service.errors import InvalidRequest

_INT32 = 2**31 - 1
_RESOLUTION = one_of("low", "medium", "high", "ultra_high")
_KIND = {"type": text}


def _source(table: Mapping[str, Check]) -> Check:
    """Content that carries bytes or points at them."""
    inner = members({**_KIND, "data": base64_text, "uri": text, **table})

    def check(value: Any, at: str, name: str) -> None:
        inner(value, at, name)
        if value.get("data") is None and value.get("uri") is None:
            raise InvalidRequest(f"One of 'data' and 'uri' must be set at '{at}.{name}'.")

    return check


_IMAGES = one_of(*(f"image/{kind}" for kind in ("png", "jpeg", "webp", "heic", "heif", "gif", "bmp", "tiff")))

#: Content types of contract 5.2.
CONTENT: dict[str, Check] = {
    "text": members({**_KIND, "text": text, "annotations": array(mapping)}, required=("text",)),
    "image": _source({"mime_type": _IMAGES, "resolution": _RESOLUTION}),
    "audio": _source(
        {"mime_type": text, "sample_rate": integer, "channels": integer, "processing": anything}
    ),
    "video": _source({"mime_type": text, "name": text, "resolution": _RESOLUTION, "processing": anything}),
    "document": _source({"mime_type": text, "resolution": _RESOLUTION, "processing": anything}),
}
content = by_type(CONTENT)
_contents = array(content)
_signed = {**_KIND, "signature": text}
_call = {**_signed, "id": text}
_answer = {**_signed, "call_id": text, "is_error": boolean}


def _user_content(value: Any, at: str, name: str) -> None:
    if isinstance(value, list) and any(
        isinstance(item, dict) and item.get("type") == "thought" for item in value
    ):
        raise InvalidRequest("User turns cannot contain thought blocks.")
    _contents(value, at, name)


_function_result = members({**_answer, "name": text, "result": anything})


def _result_step(value: Any, at: str, name: str) -> None:
    """The rules of contract 5.3; upstream reports this step as if it were content."""
    path = f"{at}.{name}" if at else name
    if "id" in value:
        raise unknown("id", f"{path}.content[0]")
    _function_result(value, at, name)
    for member in ("call_id", "name"):
        if not value.get(member):
            raise InvalidRequest(f"Missing {member} in content of type function_result")
    result = value.get("result")
    if not isinstance(result, str | dict | list):
        raise InvalidRequest("'result' must be a Struct, FunctionResultSubcontent[], or string")
    if isinstance(result, list):
        array(by_type({**CONTENT, "function": mapping}))(result, path, "result")


#: Step types of contract 5.1, with the members that upstream gives them.
STEPS: dict[str, Check] = {
    "user_input": members({**_KIND, "content": either(str, anything, _user_content)}, required=("content",)),
    "model_output": members({**_KIND, "content": either(str, anything, _contents), "error": mapping}),
    "thought": members({**_signed, "summary": array(mapping)}),
    "function_call": members(
        {**_call, "name": text, "arguments": mapping}, required=("id", "name", "arguments")
    ),
    "function_result": _result_step,
    "code_execution_call": members({**_call, "arguments": mapping}, required=("id",)),
    "code_execution_result": members(
        {**_answer, "result": either(str, anything, _contents)}, required=("call_id",)
    ),
    "url_context_call": members({**_call, "arguments": mapping}, required=("id",)),
    "url_context_result": members({**_answer, "result": array(mapping)}, required=("call_id",)),
    "google_search_call": members({**_call, "arguments": mapping, "search_type": text}, required=("id",)),
    "google_search_result": members({**_answer, "result": array(mapping)}, required=("call_id",)),
    "google_maps_call": members({**_call, "arguments": mapping}, required=("id",)),
    "google_maps_result": members({**_answer, "result": array(mapping)}, required=("call_id",)),
    "file_search_call": members(_call, required=("id",)),
    "file_search_result": members({**_answer, "result": anything}, required=("call_id",)),
    "mcp_server_tool_call": members(
        {**_call, "name": text, "server_name": text, "arguments": mapping},
        required=("id", "name", "server_name"),
    ),
    "mcp_server_tool_result": members(
        {**_answer, "name": text, "server_name": text, "result": anything}, required=("call_id",)
    ),
    "retrieval_call": members({**_call, "arguments": mapping, "retrieval_type": text}, required=("id",)),
    "retrieval_result": members({**_answer, "result": anything}, required=("call_id",)),
    "tool_search_call": members({**_call, "arguments": mapping}, required=("id",)),
    "tool_search_result": members({**_answer, "result": array(mapping)}, required=("call_id",)),
    "processing_call": members(_call, required=("id",)),
    "processing_result": members({**_answer, "result": anything}, required=("call_id",)),
}

#: Step types that no schema declares and the live validator accepts (contract 2.2); their members are free.
OPAQUE_STEPS = frozenset(
    {
        "compaction",
        "elicitation_call",
        "elicitation_result",
        "playback_awaiting",
        "playback_complete",
        "playback_interruption",
        "audio_truncation",
        "transcription",
        "content",
    }
)
STEPS.update(dict.fromkeys(OPAQUE_STEPS, mapping))
step = by_type(STEPS)

_function = members(
    {
        **_KIND,
        "name": text,
        "description": text,
        "parameters": mapping,
        "defer_loading": boolean,
        "short_description": text,
    },
    required=("name",),
)
_allowed_tools = members({"mode": one_of("auto", "any", "none", "validated"), "tools": array(text)})

#: Tool types of contract 2.4.
TOOLS: dict[str, Check] = {
    "function": _function,
    "google_search": members(
        {**_KIND, "search_types": array(one_of("web_search", "image_search", "enterprise_web_search"))}
    ),
    "code_execution": members(_KIND),
    "url_context": members(_KIND),
    "google_maps": members({**_KIND, "enable_widget": boolean, "latitude": number, "longitude": number}),
    "file_search": members(
        {**_KIND, "file_search_store_names": array(text), "metadata_filter": text, "top_k": integer}
    ),
    "computer_use": members(
        {
            **_KIND,
            "environment": one_of("browser", "mobile", "desktop"),
            "excluded_predefined_functions": array(text),
            "disabled_safety_policies": array(text),
            "enable_prompt_injection_detection": boolean,
        }
    ),
    "mcp_server": members(
        {**_KIND, "name": text, "url": text, "headers": mapping, "allowed_tools": array(_allowed_tools)}
    ),
    "retrieval": members(
        {
            **_KIND,
            "retrieval_types": array(
                one_of("vertex_ai_search", "rag_store", "exa_ai_search", "parallel_ai_search")
            ),
            "vertex_ai_search_config": mapping,
            "rag_store_config": mapping,
            "exa_ai_search_config": mapping,
            "parallel_ai_search_config": mapping,
        }
    ),
    "tool_search": members(
        {
            **_KIND,
            "execution": one_of("server", "client"),
            "name": text,
            "description": text,
            "parameters": mapping,
        }
    ),
}

_speech = members({"voice": text, "language": text, "speaker": text})

#: `generation_config`, contract 2.3.
GENERATION = members(
    {
        "max_output_tokens": between(1, _INT32),
        "seed": between(0, _INT32),
        "stop_sequences": array(text),
        "temperature": number,
        "top_p": number,
        "presence_penalty": number,
        "frequency_penalty": number,
        "thinking_level": one_of("minimal", "low", "medium", "high", "xhigh"),
        "thinking_summaries": one_of("auto", "none"),
        "tool_choice": either(
            dict, members({"allowed_tools": _allowed_tools}), one_of("auto", "any", "none", "validated")
        ),
        "speech_config": array(_speech),
        "image_config": members({"aspect_ratio": text, "image_size": text}),
        "transcription_config": mapping,
        "video_config": members(
            {
                "task": one_of(
                    "text_to_video", "image_to_video", "reference_to_video", "edit", "extend", "upscale"
                )
            }
        ),
    }
)

#: `response_format`, contract 2.5: what the Gemini API takes, not all that is declared.
_FORMATS: dict[str, Check] = {
    "text": members({**_KIND, "mime_type": one_of("application/json", "text/plain"), "schema": mapping}),
    "image": members({**_KIND, "mime_type": one_of("image/jpeg"), "aspect_ratio": text, "image_size": text}),
    "audio": members({**_KIND, "sample_rate": integer, "bit_rate": integer}),
    "video": members(
        {
            **_KIND,
            "aspect_ratio": one_of("16:9", "9:16"),
            "resolution": one_of("360p", "720p", "1080p", "4k"),
            "duration": text,
            "delivery": one_of("inline", "uri"),
        }
    ),
}
_format = by_type(_FORMATS)


def _response_format(value: Any, at: str, name: str) -> None:
    """A format, a list of them, or a bare JSON schema, which the union still holds."""
    if isinstance(value, list):
        array(_format)(value, at, name)
    elif not isinstance(value, dict):
        raise wrong_type(value, at, name, "object")
    elif value.get("type") in _FORMATS:
        _format(value, at, name)


_AGENT_CONFIGS: dict[str, Check] = {
    "deep-research": members(
        {
            **_KIND,
            "thinking_summaries": one_of("auto", "none"),
            "visualization": one_of("off", "auto"),
            "collaborative_planning": boolean,
            "enable_bigquery_tool": boolean,
        }
    ),
    "antigravity": members({**_KIND, "model": text, "max_total_tokens": either(str, text, integer)}),
    "code-mender": mapping,
    "dynamic": mapping,
}
_environment = members(
    {
        "type": one_of("remote"),
        "environment_id": text,
        "env": mapping,
        "network": anything,
        "sources": array(mapping),
    }
)

_BOTH: dict[str, Check] = {
    "input": anything,
    "system_instruction": text,
    "tools": array(by_type(TOOLS)),
    "response_format": _response_format,
    "response_mime_type": text,
    "response_modalities": array(one_of("text", "image", "audio", "video", "document")),
    "previous_interaction_id": text,
    "store": boolean,
    "background": boolean,
    "stream": boolean,
    "service_tier": one_of("flex", "standard", "priority", "deferred"),
    "webhook_config": members({"uris": array(text), "user_metadata": mapping}),
    "environment": either(str, text, _environment),
    "continuation_token": text,
}

#: The members of a create for a model, and of one for an agent (contract 2.1).
MODEL_MEMBERS: dict[str, Check] = {**_BOTH, "model": text, "generation_config": GENERATION}
AGENT_MEMBERS: dict[str, Check] = {**_BOTH, "agent": text, "agent_config": by_type(_AGENT_CONFIGS)}

#: Members that only the other platform knows (contract 2.1).
VERTEX_ONLY = frozenset({"labels", "safety_settings"})
