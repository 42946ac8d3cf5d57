"""What the model says: a text that shows what it has seen.

It counts the turns, quotes every user text and function result in order, and names the instruction and the
tools, so that a test can prove that a whole conversation reached the model. Everything in it follows from the
request.
"""

from __future__ import annotations

import re
from typing import Any

from service.emulator.conversation import Conversation, shorten
from service.emulator.directives import Plan
from service.emulator.validate import CreateRequest

_PIECES = re.compile(r"\S+\s*|\s+")
_MOST_DELTAS = 200
_LEAST_DELTAS = 5
_WORDS_PER_DELTA = 6
_ENDING = (
    "This answer was made by the emulator from the request alone and is the same every time. "
    "It has a few more sentences than it needs so that a stream of it comes in several parts. "
    "No language model was asked."
)
_FILLER = " These words only make the answer longer."


def compose(request: CreateRequest, conversation: Conversation, plan: Plan) -> str:
    """The text of the answer to `request`, given everything in `conversation`."""
    sentences = [_counts(conversation), *conversation.heard, *_scope(request), _ENDING]
    text = ("\u2028 \u0085" if "u2028" in plan else " ").join(sentences)
    length = plan.get("length")
    if length is not None:
        text += _FILLER * max(0, -(-(length.integer("bytes") - len(text)) // len(_FILLER)))
    return text


def pieces(text: str) -> list[str]:
    """The text in the parts that a stream sends; five or more, unless it is very short."""
    words = _PIECES.findall(text)
    per_piece = max(_WORDS_PER_DELTA, -(-len(words) // _MOST_DELTAS))
    if len(words) >= _LEAST_DELTAS * per_piece:
        return ["".join(words[start : start + per_piece]) for start in range(0, len(words), per_piece)]
    size = max(1, -(-len(text) // _LEAST_DELTAS))
    return [text[start : start + size] for start in range(0, len(text), size)]


def limited(text: str, config: Any) -> tuple[str, bool]:
    """The text as far as `generation_config` lets it go, and whether `max_output_tokens` ended it."""
    for stop in config.get("stop_sequences") or ():
        if stop:
            text = text.partition(stop)[0]
    most = config.get("max_output_tokens")
    encoded = text.encode()
    if most is None or len(encoded) <= 4 * most:
        return text, False
    return encoded[: 4 * most].decode(errors="ignore"), True


def _counts(conversation: Conversation) -> str:
    users, models = conversation.user_turns, conversation.model_turns
    return f"I saw {users} user turn{'s' * (users != 1)} and {models} model turn{'s' * (models != 1)}."


def _scope(request: CreateRequest) -> list[str]:
    """Sentences about what is valid for this request only (contract 5.4)."""
    sentences = []
    instruction = request.body.get("system_instruction")
    if instruction:
        sentences.append(f'The system instruction was: "{shorten(instruction)}".')
    if request.tools:
        names = ", ".join(tool.get("name") or tool["type"] for tool in request.tools)
        sentences.append(f"The tools were: {names}.")
    return sentences
