"""Trains the zstd dictionary that small bodies are compressed with, on generated requests and answers.

``python -m bench.dictionary NUMBER`` writes ``service/store/dictionaries/NUMBER.zdict``. A number is never reused:
stored rows name it.
"""

from __future__ import annotations

import base64
import random
import sys
from pathlib import Path
from typing import Any

import orjson
import zstandard

SIZE = 16 * 1024
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "you",
    "that",
    "it",
    "he",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "his",
    "they",
    "I",
    "at",
    "be",
    "this",
    "have",
    "from",
    "or",
    "one",
    "had",
    "by",
    "word",
    "but",
    "not",
    "what",
    "all",
    "were",
    "we",
    "when",
    "your",
    "can",
    "said",
    "there",
    "use",
    "an",
    "each",
    "which",
    "she",
    "do",
    "how",
    "their",
    "if",
    "will",
    "up",
    "other",
    "about",
    "out",
    "many",
    "then",
    "them",
    "these",
    "so",
    "some",
    "her",
    "would",
    "make",
    "like",
    "him",
    "into",
    "time",
    "has",
    "look",
    "two",
    "more",
    "write",
    "go",
    "see",
    "number",
    "no",
    "way",
    "could",
    "people",
    "my",
    "than",
    "first",
    "water",
    "been",
    "call",
    "who",
    "oil",
    "its",
    "now",
    "find",
    "long",
    "down",
    "day",
    "did",
    "get",
    "come",
    "made",
    "may",
    "part",
    "model",
    "answer",
    "question",
    "please",
    "explain",
    "summary",
    "code",
    "function",
    "return",
    "value",
    "error",
    "list",
    "data",
    "request",
    "response",
    "user",
    "example",
    "table",
    "because",
    "however",
    "therefore",
    "including",
    "system",
    "important",
    "different",
    "following",
    "information",
    "between",
    "should",
    "result",
]


def _text(source: random.Random, words: int) -> str:
    return " ".join(source.choice(WORDS) for _ in range(words)).capitalize() + "."


def _token(source: random.Random, size: int) -> str:
    return base64.b64encode(source.randbytes(size)).decode()


def request(source: random.Random) -> dict[str, Any]:
    """One create as clients send them."""
    body: dict[str, Any] = {
        "model": source.choice(["gemini-2.5-flash", "gemini-3.8-flash", "gemini-3.1-pro-preview"])
    }
    text = _text(source, source.randrange(5, 80))
    body["input"] = source.choice(
        [
            text,
            [{"type": "text", "text": text}],
            [{"type": "user_input", "content": [{"type": "text", "text": text}]}],
            [
                {
                    "type": "function_result",
                    "call_id": _token(source, 6),
                    "name": "get_weather",
                    "result": {"text": text},
                }
            ],
        ]
    )
    optional = {
        "stream": True,
        "store": source.choice([True, False]),
        "previous_interaction_id": "int_" + _token(source, 16).lower(),
        "system_instruction": _text(source, 12),
        "generation_config": {
            "max_output_tokens": 1024,
            "thinking_level": "low",
            "thinking_summaries": "auto",
        },
        "response_format": {"type": "text", "mime_type": "application/json", "schema": {"type": "object"}},
        "tools": [
            {"type": "google_search"},
            {
                "type": "function",
                "name": "get_weather",
                "description": _text(source, 8),
                "parameters": {
                    "type": "object",
                    "properties": {"location": {"type": "string", "description": _text(source, 6)}},
                    "required": ["location"],
                },
            },
        ],
    }
    body.update({name: value for name, value in optional.items() if source.random() < 0.3})
    return body


def answer(source: random.Random) -> dict[str, Any]:
    """One interaction as upstream answers it."""
    day = f"2026-{source.randrange(1, 13):02}-{source.randrange(1, 29):02}"
    moment = f"{day}T{source.randrange(24):02}:12:{source.randrange(60):02}Z"
    tokens = [source.randrange(1, 900) for _ in range(3)]
    steps: list[dict[str, Any]] = [
        {
            "type": "thought",
            "signature": _token(source, 60),
            "summary": [{"type": "text", "text": _text(source, 15)}],
        },
        {
            "type": "model_output",
            "content": [{"type": "text", "text": _text(source, source.randrange(10, 160))}],
        },
        {
            "type": "function_call",
            "id": _token(source, 6),
            "name": "get_weather",
            "arguments": {"location": "Boston, MA"},
            "signature": _token(source, 40),
        },
        {"type": "google_search_call", "id": _token(source, 6), "arguments": {"queries": [_text(source, 4)]}},
        {
            "type": "google_search_result",
            "call_id": _token(source, 6),
            "result": [{"search_suggestions": ""}],
        },
    ]
    return {
        "created": moment,
        "id": "v1_" + _token(source, 48),
        "model": "gemini-3.8-flash",
        "object": "interaction",
        "steps": source.sample(steps, source.randrange(1, 3)),
        "status": source.choice(["completed", "requires_action", "incomplete"]),
        "updated": moment,
        "service_tier": "standard",
        "usage": {
            "input_tokens_by_modality": [{"modality": "text", "tokens": tokens[0]}],
            "output_tokens_by_modality": [{"modality": "text", "tokens": tokens[1]}],
            "total_cached_tokens": 0,
            "total_input_tokens": tokens[0],
            "total_output_tokens": tokens[1],
            "total_thought_tokens": tokens[2],
            "total_tokens": sum(tokens),
            "total_tool_use_tokens": 0,
        },
    }


def main() -> None:
    source = random.Random(20261122)
    samples: list[bytes | bytearray | memoryview] = [
        orjson.dumps(make(source)) for _ in range(3000) for make in (request, answer)
    ]
    trained = zstandard.train_dictionary(SIZE, samples, dict_id=int(sys.argv[1]) + 32768)
    target = Path(__file__).parent.parent / "service/store/dictionaries" / f"{int(sys.argv[1])}.zdict"
    target.write_bytes(trained.as_bytes())
    print(target.name, len(trained.as_bytes()), "bytes")


if __name__ == "__main__":
    main()
