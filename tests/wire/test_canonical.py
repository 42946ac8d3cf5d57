"""The canonical form of a request: what two requests must have in common to ask the same."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.wire.canonical import canonical, digest

PROJECT = bytes(16)
PLAIN: dict[str, Any] = {"model": "gemini-2.5-flash", "input": "Hello"}
CALL = {"type": "function_call", "name": "f", "arguments": {}}
#: Those with calls and results of their own (contract 5.1).
TOOLS = (
    "code_execution",
    "url_context",
    "google_search",
    "google_maps",
    "file_search",
    "mcp_server_tool",
    "retrieval",
    "tool_search",
    "processing",
)
RESULT = {"type": "function_result", "name": "f", "result": "r"}


def of(**members: Any) -> bytes:
    return digest(PROJECT, {**PLAIN, **members}, None)


@pytest.mark.parametrize(
    "members",
    [
        {"stream": True},
        {"store": False},
        {"background": True},
        {"labels": {"team": "a"}},
        {"fallbacks": ["gemini-2.5-pro"]},
        {"system_instruction": None},
        {"model": "gemini/gemini-2.5-flash"},
        {"model": "models/gemini-2.5-flash"},
        {"input": [{"type": "text", "text": "Hello"}]},
        {"input": [{"type": "user_input", "content": [{"type": "text", "text": "Hello"}]}]},
        {"input": [{"role": "user", "content": "Hello"}]},
    ],
)
def test_what_leaves_the_question_the_same(members: dict[str, Any]) -> None:
    assert of(**members) == of()


@pytest.mark.parametrize(
    "members",
    [
        {"input": "hello"},
        {"model": "gemini-2.5-pro"},
        {"system_instruction": "Be brief."},
        {"generation_config": {"temperature": 0}},
        {"tools": [{"type": "google_search"}]},
        {"unheard_of": 1},
    ],
)
def test_what_makes_it_another_one(members: dict[str, Any]) -> None:
    assert of(**members) != of()


def test_order_and_spelling_of_numbers_do_not_matter() -> None:
    first = of(generation_config={"temperature": 1.0, "seed": 5}, tools=[])
    assert of(tools=[], generation_config={"seed": 5.0, "temperature": 1}) == first
    assert of(generation_config={"temperature": 1.5, "seed": 5}, tools=[]) != first
    large = 2**70
    assert of(generation_config={"seed": large}) == of(generation_config={"seed": large})
    assert of(generation_config={"seed": large}) != of(generation_config={"seed": large + 1})


def test_the_ids_of_calls_are_names_only() -> None:
    def turn(*names: str) -> bytes:
        calls = [{**CALL, "id": name} for name in names]
        return of(input=[*calls, *({**RESULT, "call_id": name} for name in reversed(names))])

    assert turn("a", "b") == turn("x", "y")
    same = of(input=[{**CALL, "id": "a"}, {**CALL, "id": "b"}, {**RESULT, "call_id": "a"}])
    assert same != of(input=[{**CALL, "id": "a"}, {**CALL, "id": "b"}, {**RESULT, "call_id": "b"}])


@pytest.mark.parametrize("tool", TOOLS)
def test_the_ids_of_what_tools_upstream_did_are_names_only(tool: str) -> None:
    def turn(first: str, second: str, told: str) -> bytes:
        calls = [{"type": f"{tool}_call", "id": name, "signature": "s"} for name in (first, second)]
        return of(input=["Hello", *calls, {"type": f"{tool}_result", "call_id": told}, "And?"])

    assert turn("a", "b", "a") == turn("x", "y", "x")
    assert turn("a", "b", "a") != turn("a", "b", "b")
    # Calls of tools and of functions have their names among each other.
    mixed = [{"type": f"{tool}_call", "id": "a"}, {**CALL, "id": "b"}, {**RESULT, "call_id": "b"}]
    assert of(input=mixed) != of(input=[*mixed[:2], {**RESULT, "call_id": "a"}])


def test_projects_and_conversations_are_kept_apart() -> None:
    assert digest(b"p" * 16, PLAIN, None) != digest(PROJECT, PLAIN, None)
    assert digest(PROJECT, PLAIN, b"l" * 16) != digest(PROJECT, PLAIN, None)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    )
)
def test_a_request_is_left_as_it_is(value: Any) -> None:
    body = {
        **PLAIN,
        "extra": value,
        "input": [{"type": "user_input", "content": [{"type": "text", "text": "a"}]}],
    }
    before = copy.deepcopy(body)
    assert canonical(canonical(body)) == canonical(body)
    assert body == before
