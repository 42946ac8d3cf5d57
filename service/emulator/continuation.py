"""Answers that come in parts: `requires_continuation` and checkpoints inside a stream (contract 4.7)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from service.emulator import model
from service.emulator.conversation import INVALID_ARGUMENT
from service.emulator.directives import Plan
from service.emulator.events import cut_text
from service.emulator.inputs import Step
from service.emulator.records import Record
from service.emulator.signatures import continuation_token
from service.emulator.timeline import timeline
from service.emulator.tokens import Counts
from service.emulator.validate import CreateRequest
from service.errors import InvalidRequest

Hops = tuple[list[Step], ...]


@dataclass(frozen=True, slots=True)
class Rest:
    """What a continuation token still owes."""

    key: str
    #: The interaction that issued the token; None when it was not stored.
    issuer: str | None
    #: The steps of each interaction to come, and the status in which the last one ends.
    hops: Hops
    status: str


class Continuations:
    """The tokens that have been handed out; each may be used again, since clients retry."""

    def __init__(self) -> None:
        self._owed: dict[str, Rest] = {}

    def claim(self, request: CreateRequest, key: str) -> Rest | None:
        """What the request's token stands for; None if it has none.

        Raises InvalidRequest for a token that is unknown, another key's, or used without the interaction that
        issued it.
        """
        if request.continuation_token is None:
            return None
        rest = self._owed.get(request.continuation_token)
        if rest is None or rest.key != key or rest.issuer not in (None, request.previous_interaction_id):
            raise InvalidRequest(INVALID_ARGUMENT)
        return rest

    def owe(self, record: Record, hops: Hops) -> None:
        """Let the record end in `requires_continuation`, with a token for `hops`."""
        record.extra["continuation_token"] = self._issue(record, hops)
        record.status = "requires_continuation"

    def offer_checkpoint(self, record: Record, after: int) -> None:
        """Put a token after so many events of the stream, which stands for the text still to come there."""
        deltas = (timed.event.get("delta") or {} for timed in timeline(record)[after:])
        rest = "".join(delta["text"] for delta in deltas if delta.get("type") == "text")
        record.checkpoint = (after, self._issue(record, (_said(rest),)))

    def _issue(self, record: Record, hops: Hops) -> str:
        token = continuation_token()
        self._owed[token] = Rest(record.key, record.id if record.stored else None, hops, record.status)
        return token


def divided(answer: model.Answer, prompt: Counts, plan: Plan) -> tuple[model.Answer, Hops]:
    """The part of the answer that comes now, and those that come in continuations."""
    wish = plan.get("continuation")
    last = answer.steps[-1]
    if wish is None or last["type"] != "model_output" or not last.get("content"):
        return answer, ()
    first, *rest = cut_text(last["content"][0].get("text", ""), wish.integer("hops"))
    steps = [*answer.steps[:-1], *_said(first)]
    usage = {**answer.usage, **_output_figures(steps, prompt, answer)}
    return replace(answer, steps=steps, usage=usage), tuple(_said(text) for text in rest)


def _said(text: str) -> list[Step]:
    return [{"type": "model_output", "content": [{"type": "text", "text": text}]}]


def _output_figures(steps: list[Step], prompt: Counts, answer: model.Answer) -> dict[str, object]:
    """The figures of `usage` that a shorter output changes."""
    shorter = model.continued(steps, prompt)
    less = answer.usage["total_output_tokens"] - shorter["total_output_tokens"]
    return {
        "total_output_tokens": shorter["total_output_tokens"],
        "output_tokens_by_modality": shorter["output_tokens_by_modality"],
        "total_tokens": answer.usage["total_tokens"] - less,
    }
