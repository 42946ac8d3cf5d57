"""Deterministic token counts, and how content is put into words.

Four bytes of UTF-8 are a token, a picture is 258; `usage` adds up as upstream's does (contract 3.5).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

#: Tokens by modality.
Counts = dict[str, int]

_MEDIA = frozenset({"image", "audio", "video", "document"})
_IMAGE_TOKENS = 258
_BYTES_PER_MEDIA_TOKEN = 64
_SAID_IN_CONTENT = frozenset({"user_input", "model_output"})
_NOT_SAID = frozenset({"type", "id", "call_id", "signature", "summary"})


def count_text(value: str) -> int:
    """Tokens of a text; one at least, unless it is empty."""
    return (len(value.encode()) + 3) // 4


def add(counts: Counts, more: Mapping[str, int]) -> None:
    """Add `more` to `counts` in place."""
    for modality, tokens in more.items():
        counts[modality] = counts.get(modality, 0) + tokens


def tokens_of(step: Mapping[str, Any]) -> Counts:
    """Tokens of a step by modality; thoughts weigh nothing once they are history."""
    counts: Counts = {}
    if step["type"] in _SAID_IN_CONTENT:
        for part in step.get("content") or ():
            add(counts, {_modality(part): _count_part(part)})
    else:
        said = {name: value for name, value in step.items() if name not in _NOT_SAID}
        if said:
            counts["text"] = count_text(orjson.dumps(said).decode())
    return counts


def describe(content: Any) -> str:
    """Content, or a function's result, as a reader would put it into words."""
    if isinstance(content, dict):
        return orjson.dumps(content).decode()
    return " ".join(_describe_part(part) for part in content)


def usage(prompt: Counts, output: Counts, *, thought: int, cached: int, tools: Counts) -> dict[str, Any]:
    """The `usage` member for these counts (contract 3.5)."""
    total_input, total_output, total_tools = (sum(counts.values()) for counts in (prompt, output, tools))
    figures: dict[str, Any] = {
        "total_tokens": total_input + total_output + thought + total_tools,
        "total_input_tokens": total_input,
        "input_tokens_by_modality": by_modality(prompt),
        "total_cached_tokens": cached,
        "total_output_tokens": total_output,
        "output_tokens_by_modality": by_modality(output),
        "total_tool_use_tokens": total_tools,
        "total_thought_tokens": thought,
        "raw_prompt_token": total_input,
    }
    if cached:
        figures["cached_tokens_by_modality"] = by_modality({"text": cached})
    if tools:
        figures["tool_use_tokens_by_modality"] = by_modality(tools)
    return figures


def by_modality(counts: Counts) -> list[dict[str, Any]]:
    """Counts in the form that `usage` has."""
    return [{"modality": modality, "tokens": tokens} for modality, tokens in counts.items()]


def _modality(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    return kind if kind in _MEDIA else "text"


def _count_part(part: Mapping[str, Any]) -> int:
    kind = part.get("type")
    if kind == "text":
        return count_text(part["text"])
    if kind == "image":
        return _IMAGE_TOKENS
    return 1 + len(part.get("data") or part.get("uri") or "") // _BYTES_PER_MEDIA_TOKEN


def _describe_part(part: Mapping[str, Any]) -> str:
    kind = part.get("type")
    if kind == "text":
        return str(part["text"])
    if kind not in _MEDIA:
        return orjson.dumps(part).decode()
    data = part.get("data")
    where = f"{len(data) * 3 // 4} bytes" if data else part.get("uri")
    return f"[{kind} {part.get('mime_type', 'of unknown type')}, {where}]"
