"""What an answer says, whichever generation it is in; and the parts of a request that differ between them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tests.contract.official import Json, Sdk

MODEL = "gemini-2.5-flash"
AGENT = "deep-research-preview-04-2026"

WEATHER = {
    "type": "function",
    "name": "get_weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


def text_of(answer: Json) -> str:
    """The text that a developer would show: `output_text`, or the last of the legacy `outputs`."""
    if "outputs" in answer:
        text: str = answer["outputs"][-1]["text"]
    else:
        text = answer["output_text"]
    return text


def produced(answer: Json) -> list[Json]:
    """What the model made: steps without the user's, or legacy `outputs`."""
    items = answer["outputs"] if "outputs" in answer else answer["steps"]
    return [item for item in items if item["type"] != "user_input"]


def calls_of(answer: Json) -> list[Json]:
    """The function calls in an answer."""
    return [item for item in produced(answer) if item["type"] == "function_call"]


def result_of(call: Json, **result: Any) -> Json:
    """The result of a function call, as input; the same in both generations."""
    return {"type": "function_result", "call_id": call["id"], "name": call["name"], "result": result}


def user_turn(sdk: Sdk, *content: Json | str) -> Json:
    """One user turn of a history that the client keeps itself."""
    items = [text_part(item) if isinstance(item, str) else item for item in content]
    if sdk.generation == "legacy":
        return {"role": "user", "content": items}
    return {"type": "user_input", "content": items}


def result_turn(sdk: Sdk, result: Json) -> Json:
    """A function result in such a history."""
    return {"role": "user", "content": [result]} if sdk.generation == "legacy" else result


def model_turn(sdk: Sdk, answer: Json) -> list[Json]:
    """What the model said, as part of such a history, exactly as it was received."""
    items = produced(answer)
    return [{"role": "model", "content": items}] if sdk.generation == "legacy" else items


def text_part(text: str) -> Json:
    """A text as content."""
    return {"type": "text", "text": text}


def types_of(events: Iterable[Json]) -> list[str]:
    """The event types of a stream."""
    return [event["event_type"] for event in events]


def deltas_of(events: Iterable[Json], kind: str) -> list[Json]:
    """The deltas of one type in a stream."""
    deltas = [event["delta"] for event in events if "delta" in event]
    return [delta for delta in deltas if delta["type"] == kind]


def streamed_text(events: Iterable[Json]) -> str:
    """The text that a stream amounts to."""
    return "".join(delta["text"] for delta in deltas_of(events, "text"))


def streamed_arguments(events: list[Json]) -> Any:
    """The arguments of the only function call in a stream: whole in legacy, pieces of JSON in steps."""
    whole = deltas_of(events, "function_call")
    if whole:
        assert len(whole) == 1
        return whole[0]["arguments"]
    return json.loads("".join(delta["arguments"] for delta in deltas_of(events, "arguments_delta")))


def quoted(text: str, *parts: str) -> bool:
    """Whether `parts` are in `text`, in this order."""
    position = 0
    for part in parts:
        position = text.find(part, position)
        if position < 0:
            return False
        position += len(part)
    return True
