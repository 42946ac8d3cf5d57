"""From the bytes of a create request to a `CreateRequest`, or to upstream's refusal of it.

Strict where upstream is strict: what Google would refuse (contract 2, 5.3, 7.4) is refused here with Google's
message.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from service.emulator import shapes
from service.emulator.checks import unknown, wrong_type
from service.emulator.inputs import Step, steps_of
from service.errors import InvalidRequest, ModelNotFound

_FAMILIES = ("gemini-", "gemma-", "lyria-", "nano-banana-")
_DEEP_RESEARCH = "deep-research"
_MANAGED = "antigravity"
#: Thinking levels that newer models refuse (contract 2.3).
_NO_MINIMAL_THINKING = ("gemini-3.7", "gemini-3.8")
_EITHER = shapes.MODEL_MEMBERS.keys() | shapes.AGENT_MEMBERS.keys()
_VERTEX_ONLY = (
    "The parameter '{}' is not available on the Gemini API but it is available on the "
    "Gemini Enterprise Agent Platform."
)


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """A create request that upstream accepts, with its input as steps and its defaults filled in."""

    body: dict[str, Any]
    model: str | None
    agent: str | None
    #: The new steps; empty for a continuation that carries none.
    steps: list[Step]
    stream: bool
    store: bool
    background: bool
    previous_interaction_id: str | None
    continuation_token: str | None

    @property
    def config(self) -> Mapping[str, Any]:
        """`generation_config`, or nothing."""
        return self.body.get("generation_config") or {}

    @property
    def tools(self) -> list[dict[str, Any]]:
        """`tools`, or none."""
        return self.body.get("tools") or []

    @property
    def research(self) -> bool:
        """Whether a Deep Research agent is to work."""
        return self.agent is not None and self.agent.startswith(_DEEP_RESEARCH)

    @property
    def managed(self) -> bool:
        """Whether an agent with a sandbox of its own is to work."""
        return self.agent is not None and self.agent.startswith(_MANAGED)


def parse(raw: bytes, models: frozenset[str] | None) -> CreateRequest:
    """The request in `raw`.

    Raises InvalidRequest, ParameterUnknown or ModelNotFound (contract 7.2).
    """
    body = _object(raw)
    model, agent = body.get("model"), body.get("agent")
    _check_members(body, model, agent)
    if model is not None:
        _check_model(model, models)
    _check_flags(body)
    _check_tools(body.get("tools") or [])
    _check_config(body)
    token = body.get("continuation_token")
    value = body.get("input")
    request = CreateRequest(
        body=body,
        model=model,
        agent=agent,
        steps=[] if token and value is None else steps_of(value),
        stream=bool(body.get("stream")),
        store=body.get("store") is not False,
        background=bool(body.get("background")),
        previous_interaction_id=body.get("previous_interaction_id"),
        continuation_token=token,
    )
    _check_agent(request)
    return request


def _object(raw: bytes) -> dict[str, Any]:
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"Invalid JSON payload received. {error}") from None
    if not isinstance(body, dict):
        raise wrong_type(body, "", "body", "object")
    return body


def _check_members(body: dict[str, Any], model: object, agent: object) -> None:
    if (model is None) == (agent is None):
        raise InvalidRequest("Exactly one of 'model' and 'agent' must be set.")
    table = shapes.MODEL_MEMBERS if agent is None else shapes.AGENT_MEMBERS
    for name, value in body.items():
        check = table.get(name)
        if check is not None:
            if value is not None:
                check(value, "", name)
        elif value is not None or name not in _EITHER:
            raise _unknown_member(name, agent is None)


def _unknown_member(name: str, for_model: bool) -> InvalidRequest:
    if name in shapes.VERTEX_ONLY:
        return InvalidRequest(_VERTEX_ONLY.format(name))
    if for_model and name in shapes.AGENT_MEMBERS:
        return InvalidRequest(f"The parameter '{name}' is only available with an agent.")
    if not for_model and name in shapes.MODEL_MEMBERS:
        return InvalidRequest(f"The parameter '{name}' is not available with an agent.")
    return unknown(name, "")


def _check_model(model: str, models: frozenset[str] | None) -> None:
    known = model in models if models is not None else model.startswith(_FAMILIES)
    if not known:
        raise ModelNotFound(f"Model '{model}' was not found.")


def _check_flags(body: dict[str, Any]) -> None:
    background = bool(body.get("background"))
    if background and body.get("store") is False:
        raise InvalidRequest("store=true is required for background interactions")
    if body.get("webhook_config") is not None and not background:
        raise InvalidRequest("background=true is required for webhook_config")
    if body.get("response_mime_type") is not None and body.get("response_format") is None:
        raise InvalidRequest("responseFormat must be set when responseMimeType is set")
    formats = body.get("response_format")
    for entry in formats if isinstance(formats, list) else [formats]:
        if isinstance(entry, dict) and entry.get("delivery") == "uri" and body.get("store") is False:
            raise InvalidRequest("store=true is required for delivery 'uri'")


def _check_tools(tools: list[dict[str, Any]]) -> None:
    kinds = {tool["type"] for tool in tools}
    if "file_search" in kinds and kinds & {"google_search", "url_context"}:
        raise InvalidRequest("file_search cannot be combined with google_search or url_context.")
    names = [tool["name"] for tool in tools if tool["type"] == "function"]
    if len(names) != len(set(names)):
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"Duplicate function declaration found: {twice}")


def _check_config(body: dict[str, Any]) -> None:
    config = body.get("generation_config") or {}
    level = config.get("thinking_level")
    model = body.get("model") or ""
    if level == "minimal" and model.startswith(_NO_MINIMAL_THINKING):
        raise InvalidRequest(f"Thinking level {level.upper()} is not supported for this model.")
    choice = config.get("tool_choice")
    allowed = choice.get("allowed_tools") if isinstance(choice, dict) else None
    declared = {tool.get("name") for tool in body.get("tools") or []}
    for name in (allowed or {}).get("tools") or []:
        if name not in declared:
            raise InvalidRequest(
                f"The tool '{name}' in 'generation_config.tool_choice' is not declared in 'tools'."
            )


def _check_agent(request: CreateRequest) -> None:
    if request.research and not request.background:
        raise InvalidRequest(f"background=true is required for agent '{request.agent}'.")
    if request.managed and request.body.get("environment") is None:
        raise InvalidRequest(f"environment is required for agent '{request.agent}'.")
