"""The kinds of conversation that a client can have by `previous_interaction_id`, each as its turns."""

from __future__ import annotations

import base64
from typing import Any

from tests.contract.conversing import Turn
from tests.contract.official import Json
from tests.contract.reading import AGENT, WEATHER, text_part

PIXEL = base64.b64encode(
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x00\x00\x00\x00:~\x9bU"
    b"\x00\x00\x00\nIDATx\x9cc`\x00\x00\x00\x02\x00\x01H\xaf\xa4q\x00\x00\x00\x00IEND\xaeB`\x82"
).decode()
IMAGE: Json = {"type": "image", "mime_type": "image/png", "data": PIXEL}
TIME: Json = {
    "type": "function",
    "name": "get_time",
    "description": "The time in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}
TIDES: Json = {"type": "function", "name": "get_tides", "description": "The tides of today."}
SEARCH: Json = {"type": "google_search"}
THINKING: Json = {"generation_config": {"thinking_level": "high", "thinking_summaries": "auto"}}
BACKGROUND: Json = {"background": True}
STORY = ("thought", "model_output", "thought", "model_output", "thought", "model_output")


def _using(*tools: Json) -> dict[str, Any]:
    return {"members": {"tools": list(tools)}}


KINDS: dict[str, tuple[Turn, ...]] = {
    "text": (
        Turn("My name is Ada."),
        Turn("I like chess – «e4», 64 squares."),
        Turn("Who am I?"),
        Turn("Why?"),
    ),
    "thoughts": (
        Turn("Think about tea.", members=THINKING),
        Turn("Harder.", members=THINKING),
        Turn("And now without a word about it."),
    ),
    "one tool": (
        Turn("Weather in Oslo?", makes=("thought", "function_call"), **_using(WEATHER)),
        Turn(results=({"sky": "marmalade"},), **_using(WEATHER)),
        Turn("Thanks."),
    ),
    "a tool again and again": (
        Turn("Weather in Rome?", makes=("thought", "function_call"), **_using(WEATHER)),
        Turn(results=("copper",), makes=("thought", "function_call"), wish="call", **_using(WEATHER)),
        Turn(results=("violet",), **_using(WEATHER)),
        Turn("Weather in Bern?", makes=("thought", "function_call"), **_using(WEATHER)),
        Turn(results=("amber",)),
    ),
    "parallel tools": (
        Turn(
            "Is it a day for sailing?",
            makes=("thought", "function_call", "function_call", "function_call"),
            **_using(WEATHER, TIME, TIDES),
        ),
        Turn(results=({"sky": "marmalade"}, "noon", [text_part("neap")]), **_using(WEATHER, TIME, TIDES)),
        Turn("Then let us go."),
    ),
    "search and function": (
        Turn(
            "Weather at the largest mountain?",
            makes=("google_search_call", "google_search_result", "thought", "function_call"),
            **_using(SEARCH, WEATHER),
        ),
        Turn(results=({"sky": "marmalade"},), **_using(SEARCH, WEATHER)),
        Turn(
            "What else is known?",
            makes=("google_search_call", "google_search_result", "thought", "model_output"),
            **_using(SEARCH),
        ),
        Turn("Thanks."),
    ),
    "images": (
        Turn((text_part("What is this?"), IMAGE, text_part("A dot?"))),
        Turn("Which colour has it?"),
        Turn((IMAGE,)),
        Turn("Is it the same?"),
    ),
    "several outputs": (
        Turn("Tell a story.", makes=STORY, wish="story"),
        Turn("Another one.", makes=STORY, wish="story"),
        Turn("Which was better?"),
    ),
    "a history of the client's own": (
        Turn("He is old.", before=(("My dog is Rex.", "Woof."), ("He likes me.", "So I see."))),
        Turn("What is he called?"),
        Turn("Since when?"),
    ),
    "in the background": (
        Turn("Think about tea."),
        Turn(
            "Weather in Oslo?", makes=("thought", "function_call"), members={**BACKGROUND, "tools": [WEATHER]}
        ),
        Turn(results=("marmalade",), members={**BACKGROUND, "tools": [WEATHER]}),
        Turn("In your own time.", members=BACKGROUND),
        Turn("Thanks."),
    ),
    "other models": (
        Turn("Think about tea.", members={"model": "gemini-2.5-flash", **THINKING}),
        Turn("Harder.", members={"model": "gemini-3.1-pro-preview"}),
        Turn("And what do you say?", members={"model": "gemini-3.8-flash"}),
    ),
}

#: On two deployments, of the aliases `first` and `second`.
DEPLOYMENTS: tuple[Turn, ...] = (
    Turn(
        "Weather in Oslo?", makes=("thought", "function_call"), members={"model": "first", "tools": [WEATHER]}
    ),
    Turn(results=("marmalade",), moved=True, members={"model": "second", "tools": [WEATHER]}),
    Turn("Thanks.", members={"model": "second"}),
    Turn("Once more?", moved=True, members={"model": "first"}),
)

_IN_A_SANDBOX = (
    "code_execution_call",
    "code_execution_result",
    "thought",
    "function_call",
    "function_result",
)
_RESEARCH = ("google_search", "url_context", "code_execution")

#: One run of each kind of agent: in a sandbox of its own, and in the background.
AGENTS: dict[str, Turn] = {
    "antigravity": Turn(
        "Write a report on tea.",
        makes=(*_IN_A_SANDBOX, "thought", "model_output"),
        members={"agent": "antigravity-preview-09-2026", "environment": "remote"},
    ),
    "deep-research": Turn(
        "Research the history of tea.",
        makes=(
            *(f"{tool}_{part}" for tool in _RESEARCH for part in ("call", "result")),
            "thought",
            "model_output",
        ),
        members={"agent": AGENT, "background": True},
    ),
}
