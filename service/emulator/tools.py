"""The tools: what the model calls, and what the built-in ones answer (contract 2.4 and 5.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from service.emulator.inputs import Step
from service.emulator.signatures import call_id, sign
from service.emulator.synthesis import synthesise

Tool = dict[str, Any]
#: From the tool and the question to the members of its call and of its result.
_Use = Callable[[Tool, str], tuple[Step, Step]]

_SITE = "https://example.com/emulator"
_URL = re.compile(r"https?://[^\s\"'<>]+")
#: The actions that a model with `computer_use` may ask for; it asks for the first that is not excluded.
_ACTIONS = ("open_web_browser", "wait_5_seconds", "go_back")


def _google_search(tool: Tool, question: str) -> tuple[Step, Step]:
    kind = (tool.get("search_types") or ["web_search"])[0]
    call = {"arguments": {"queries": [question]}, "search_type": kind}
    return call, {
        "result": [{"search_suggestions": f"<div>{len(question)} characters</div>"}],
        "is_error": False,
    }


def _code_execution(_tool: Tool, question: str) -> tuple[Step, Step]:
    call = {"arguments": {"code": f"print(len({question!r}))", "language": "python"}}
    return call, {"result": f"{len(question)}\n", "is_error": False}


def _url_context(_tool: Tool, question: str) -> tuple[Step, Step]:
    urls = _URL.findall(question) or [_SITE]
    return {"arguments": {"urls": urls}}, {
        "result": [{"url": url, "status": "success"} for url in urls],
        "is_error": False,
    }


def _google_maps(tool: Tool, question: str) -> tuple[Step, Step]:
    place = {
        "place_id": "emulated-place",
        "name": "Emulator Square",
        "url": _SITE,
        "review_snippets": [{"review_id": "emulated-review", "title": "A fine place", "url": _SITE}],
    }
    found: Step = {"places": [place]}
    if tool.get("enable_widget"):
        found["widget_context_token"] = "widget-" + call_id(question.encode())
    return {"arguments": {"queries": [question]}}, {"result": [found]}


def _file_search(_tool: Tool, _question: str) -> tuple[Step, Step]:
    return {}, {}


def _mcp_server(tool: Tool, question: str) -> tuple[Step, Step]:
    allowed = [name for entry in tool.get("allowed_tools") or [] for name in entry.get("tools") or []]
    names = {"name": allowed[0] if allowed else "ask", "server_name": tool.get("name") or "mcp"}
    return {**names, "arguments": {"question": question}}, {
        **names,
        "result": [{"type": "text", "text": f"{len(question)} characters"}],
    }


def _retrieval(tool: Tool, question: str) -> tuple[Step, Step]:
    kind = (tool.get("retrieval_types") or ["vertex_ai_search"])[0]
    return {"arguments": {"queries": [question]}, "retrieval_type": kind}, {"is_error": False}


_BUILT_IN: dict[str, _Use] = {
    "google_search": _google_search,
    "code_execution": _code_execution,
    "url_context": _url_context,
    "google_maps": _google_maps,
    "file_search": _file_search,
    "mcp_server": _mcp_server,
    "retrieval": _retrieval,
}
_STEP_PREFIX = {"mcp_server": "mcp_server_tool"}
#: Built-in tools that `usage.grounding_tool_count` counts.
_GROUNDING = ("google_search", "google_maps", "retrieval")


def use_built_in(tools: Iterable[Tool], question: str, seed: bytes) -> list[Step]:
    """The call and the result of every tool that the server runs by itself, in order of declaration."""
    steps: list[Step] = []
    declared = list(tools)
    for tool in declared:
        kind: str = tool["type"]
        if kind == "tool_search":
            call, result = _tool_search(declared)
        elif kind in _BUILT_IN:
            call, result = _BUILT_IN[kind](tool, question)
        else:
            continue
        steps += pair(_STEP_PREFIX.get(kind, kind), call, result, seed + bytes((len(steps),)))
    return steps


def pair(prefix: str, call: Step, result: Step, seed: bytes) -> list[Step]:
    """A call step and its result step, with id and signatures."""
    name = call_id(seed)
    made: list[Step] = [
        {"type": f"{prefix}_call", "id": name, **call},
        {"type": f"{prefix}_result", "call_id": name, **result},
    ]
    if prefix != "mcp_server_tool":
        for position, step in enumerate(made):
            step["signature"] = sign(seed, bytes((position,)))
    return made


def grounding_counts(tools: Iterable[Tool]) -> list[dict[str, Any]]:
    """`usage.grounding_tool_count` for a turn that used all of `tools` once."""
    used = {tool["type"] for tool in tools}
    return [{"type": kind, "count": 1} for kind in _GROUNDING if kind in used]


def function_calls(tools: Iterable[Tool], choice: Any, seed: bytes) -> list[Step]:
    """One call for every declared function that `tool_choice` leaves open, arguments made from its schema.

    Only the first call of a parallel batch is signed (contract 5.5).
    """
    steps: list[Step] = []
    for name, arguments in _callable(tools, choice):
        number = bytes((len(steps) % 256, 255))
        step: Step = {
            "type": "function_call",
            "id": call_id(seed, number),
            "name": name,
            "arguments": arguments,
        }
        if not steps:
            step["signature"] = sign(seed, number)
        steps.append(step)
    return steps


def _callable(tools: Iterable[Tool], choice: Any) -> Iterable[tuple[str, dict[str, Any]]]:
    mode, allowed = choice, None
    if isinstance(choice, dict):
        limits = choice.get("allowed_tools") or {}
        mode, allowed = limits.get("mode"), limits.get("tools")
    if mode == "none":
        return
    for tool in tools:
        if tool["type"] == "function" and (allowed is None or tool["name"] in allowed):
            yield tool["name"], _arguments(tool.get("parameters"))
        elif tool["type"] == "computer_use":
            excluded = tool.get("excluded_predefined_functions") or ()
            action = next((name for name in _ACTIONS if name not in excluded), None)
            if action is not None:
                yield action, {}


def _arguments(parameters: dict[str, Any] | None) -> dict[str, Any]:
    made = synthesise({"type": "object", **parameters}) if parameters else {}
    return made if isinstance(made, dict) else {}


def _tool_search(tools: list[Tool]) -> tuple[Step, Step]:
    deferred = [tool for tool in tools if tool["type"] == "function" and tool.get("defer_loading")]
    return {"arguments": {"function_names": [tool["name"] for tool in deferred]}}, {"result": deferred}
