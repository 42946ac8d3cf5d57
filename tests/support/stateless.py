"""A client without state: every request holds the whole conversation so far, as an SDK writes it."""

from __future__ import annotations

import base64
import random
from typing import Any

import orjson

Json = dict[str, Any]

_WORDS = (
    "weather",
    "station",
    "river",
    "number",
    "letter",
    "figure",
    "window",
    "answer",
    "history",
    "reason",
)


class Client:
    """Says about 300 characters a turn and gets as many, with a thought and its signature."""

    def __init__(self, seed: int = 1) -> None:
        self._random = random.Random(seed)
        self.steps: list[Json] = []

    def ask(self, *before: Json, **members: Any) -> bytes:
        """The request of the next turn; ``before`` are contents before what is said."""
        said = [*before, {"type": "text", "text": self._text()}]
        self.steps.append({"type": "user_input", "content": said})
        return orjson.dumps({"model": "gemini-2.5-flash", "store": False, "input": self.steps, **members})

    def answer(self) -> bytes:
        """Upstream's answer to it, whose steps the next request repeats."""
        steps: list[Json] = [
            {"type": "thought", "signature": base64.b64encode(self._random.randbytes(120)).decode()},
            {"type": "model_output", "content": [{"type": "text", "text": self._text()}]},
        ]
        self.steps += steps
        return orjson.dumps({"status": "completed", "model": "gemini-2.5-flash", "steps": steps})

    def turns(self, count: int, *before: Json) -> list[tuple[bytes, bytes]]:
        """Requests and answers of a conversation that begins with these contents."""
        first = (self.ask(*before), self.answer())
        return [first, *((self.ask(), self.answer()) for _ in range(count - 1))]

    def image(self, size: int) -> Json:
        """An inline image."""
        data = base64.b64encode(self._random.randbytes(size)).decode()
        return {"type": "image", "mime_type": "image/png", "data": data}

    def _text(self) -> str:
        words = self._random.choices(_WORDS, k=44)
        return " ".join(f"{word}{self._random.randrange(10)}" for word in words)
