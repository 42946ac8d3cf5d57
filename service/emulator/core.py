"""The emulator itself, without HTTP: create, find, cancel, delete."""

from __future__ import annotations

from dataclasses import dataclass, replace

import orjson

from service.emulator import model
from service.emulator.clock import Clock
from service.emulator.config import EmulatorConfig
from service.emulator.conversation import INVALID_ARGUMENT, Conversation
from service.emulator.directives import Plan
from service.emulator.events import cut_text
from service.emulator.faults import FaultQueue
from service.emulator.inputs import Step
from service.emulator.records import ACTIVE, ANCHORS, NEVER, Record, Records
from service.emulator.seen import SeenRequests
from service.emulator.signatures import continuation_token, interaction_id
from service.emulator.timeline import timeline
from service.emulator.tokens import Counts
from service.emulator.validate import CreateRequest, parse
from service.errors import FailedPrecondition, InvalidRequest, NotFound, UpstreamError

_FLAT_MODELS = frozenset({"lyria-3-pro-preview", "lyria-3-clip-preview"})


@dataclass(frozen=True, slots=True)
class _Rest:
    """What a continuation token still owes: the answer of each hop to come."""

    key: str
    #: The interaction that issued the token; None when it was not stored.
    issuer: str | None
    hops: tuple[list[Step], ...]
    status: str


class Emulator:
    """Upstream, as one object: its clock, what it keeps, what it has seen and what it is to get wrong."""

    def __init__(self, config: EmulatorConfig) -> None:
        self.config = config
        self.clock = Clock()
        self.records = Records(config.retention_seconds)
        self.faults = FaultQueue()
        self.seen = SeenRequests(keep=config.record_requests)
        #: Set when the process is about to stop; streams that wait give up then.
        self.closing = False
        self._owed: dict[str, _Rest] = {}

    def close(self) -> None:
        """End every stream that waits for the clock."""
        self.closing = True
        self.clock.wake()

    def create(self, raw: bytes, key: str, plan: Plan) -> tuple[CreateRequest, Record]:
        """Carry a create out.

        Raises InvalidRequest and its kind, ModelNotFound or NotFound for what upstream refuses (contract 2,
        5, 6, 7).
        """
        request = parse(raw, self.config.models)
        if blocked := plan.get("blocked"):
            code = blocked.text("code")
            raise UpstreamError(400, code, f"Request blocked due to {code}.")
        rest = self._claim(request, key)
        conversation = self._conversation(request, key, plan, continues=rest is not None)
        history = dict(conversation.counts)
        conversation.hear(request.steps)
        if rest is not None:
            answer = model.Answer(
                rest.hops[0], rest.status, model.continued(rest.hops[0], conversation.counts)
            )
            owed = rest.hops[1:]
        else:
            answer = model.answer(request, conversation, history, plan)
            answer, owed = _divided(answer, conversation.counts, plan)
        record = self._record(request, raw, key, plan, answer, conversation)
        self._owe(record, key, owed, answer.status)
        self._offer_checkpoint(record, plan, answer)
        if record.stored and "forget" not in plan:
            self.records.add(record)
        return request, record

    def find(self, name: str, key: str, plan: Plan) -> Record:
        """The record of that id.

        Raises NotFound, or what a `stale` directive asks for.
        """
        if stale := plan.get("stale"):
            raise _stale(name, stale.text("code"))
        return self.records.find(name, key, self.clock.now())

    def cancel(self, name: str, key: str, plan: Plan) -> Record:
        """Cancel a background interaction that is still running.

        Raises NotFound, and FailedPrecondition for every other interaction (contract 6).
        """
        record = self.find(name, key, plan)
        now = self.clock.now()
        if not record.background or record.status_at(now) not in ACTIVE:
            raise FailedPrecondition(f"Interaction '{name}' is not running in the background.")
        record.cancelled_at = now
        self.clock.wake()
        return record

    def delete(self, name: str, key: str, plan: Plan) -> None:
        """Delete an interaction.

        Raises NotFound, and UpstreamError with 501 where deletion is switched off (contract 6).
        """
        if not self.config.delete_supported:
            message = "Operation is not implemented, or supported, or enabled."
            raise UpstreamError(501, "not_implemented", message)
        self.records.forget(self.find(name, key, plan).id)

    def _conversation(self, request: CreateRequest, key: str, plan: Plan, *, continues: bool) -> Conversation:
        """The conversation that the request goes on with (contract 5.4)."""
        name = request.previous_interaction_id
        if name is None:
            return Conversation()
        stale = plan.get("stale")
        code = stale.text("code") if stale else self.config.stale_reference
        try:
            record = self.find(name, key, plan)
        except NotFound:
            raise _stale(name, code) from None
        if record.status_at(self.clock.now()) not in ANCHORS and not continues:
            raise InvalidRequest(INVALID_ARGUMENT)
        return record.conversation.fork()

    def _claim(self, request: CreateRequest, key: str) -> _Rest | None:
        """What the request's continuation token stands for.

        Raises InvalidRequest for a token that is unknown, another key's, or used without the interaction it
        belongs to.
        """
        if request.continuation_token is None:
            return None
        rest = self._owed.get(request.continuation_token)
        if rest is None or rest.key != key or rest.issuer not in (None, request.previous_interaction_id):
            raise InvalidRequest(INVALID_ARGUMENT)
        return rest

    def _owe(self, record: Record, key: str, hops: tuple[list[Step], ...], status: str) -> None:
        if not hops:
            return
        token = continuation_token()
        self._owed[token] = _Rest(key, record.id if record.stored else None, hops, status)
        record.status = "requires_continuation"
        record.extra["continuation_token"] = token

    def _offer_checkpoint(self, record: Record, plan: Plan, answer: model.Answer) -> None:
        """Put a token into the stream that stands for the text still to come there (contract 4.7)."""
        wish = plan.get("checkpoint")
        if wish is None:
            return
        after = wish.integer("after")
        deltas = (timed.event.get("delta") or {} for timed in timeline(record)[after:])
        rest = "".join(delta["text"] for delta in deltas if delta.get("type") == "text")
        token = continuation_token()
        hop = [_said(rest)]
        self._owed[token] = _Rest(record.key, record.id if record.stored else None, (hop,), answer.status)
        record.checkpoint = (after, token)

    def _record(
        self,
        request: CreateRequest,
        raw: bytes,
        key: str,
        plan: Plan,
        answer: model.Answer,
        conversation: Conversation,
    ) -> Record:
        now = self.clock.now()
        conversation.say(answer.steps)
        record = Record(
            id=interaction_id(),
            key=key,
            stored=request.store,
            background=request.background,
            actor=("model", request.model) if request.model is not None else ("agent", request.agent or ""),
            previous=request.previous_interaction_id,
            body=raw,
            steps=orjson.dumps(answer.steps),
            usage=orjson.dumps(answer.usage),
            status=answer.status,
            conversation=conversation,
            created=now,
            started_at=now,
            done_at=now,
            errors=answer.errors,
            extra=_extra(request, conversation),
            flat=request.model in _FLAT_MODELS or "flat_outputs" in plan,
            usage_live=not request.research,
        )
        if plan:
            _wish(record, plan, now)
        self._schedule(record, request, plan)
        return record

    def _schedule(self, record: Record, request: CreateRequest, plan: Plan) -> None:
        """Decide when the record's work starts and ends."""
        if record.background:
            wish = plan.get("background")
            queued = wish.number("queued") if wish else self.config.queued_seconds
            running = wish.number("running") if wish else self.config.background_seconds
            record.started_at = record.created + queued
            record.done_at = NEVER if "zombie" in plan else record.started_at + running
        elif request.stream and self.config.token_delay:
            record.done_at = record.created + self.config.token_delay * (len(timeline(record)) - 2)


def _stale(name: str, code: str) -> UpstreamError | NotFound:
    """How a reference to something that is gone is refused (contract 6)."""
    if code == "400":
        return UpstreamError(400, "invalid_request", INVALID_ARGUMENT)
    if code == "410":
        return UpstreamError(410, "gone", f"Interaction '{name}' is gone.")
    return NotFound(f"Interaction '{name}' was not found.")


def _said(text: str) -> Step:
    return {"type": "model_output", "content": [{"type": "text", "text": text}]}


def _divided(answer: model.Answer, prompt: Counts, plan: Plan) -> tuple[model.Answer, tuple[list[Step], ...]]:
    """The part of the answer that comes now, and those that come in continuations."""
    wish = plan.get("continuation")
    last = answer.steps[-1]
    if wish is None or last["type"] != "model_output" or not last["content"]:
        return answer, ()
    first, *rest = cut_text(last["content"][0].get("text", ""), wish.integer("hops"))
    steps = [*answer.steps[:-1], _said(first)]
    usage = {**answer.usage, **_output_part(steps, prompt, answer)}
    return replace(answer, steps=steps, usage=usage), tuple([_said(text)] for text in rest)


def _output_part(steps: list[Step], prompt: Counts, answer: model.Answer) -> dict[str, object]:
    """The figures of `usage` that a shorter output changes."""
    shorter = model.continued(steps, prompt)
    less = answer.usage["total_output_tokens"] - shorter["total_output_tokens"]
    return {
        "total_output_tokens": shorter["total_output_tokens"],
        "output_tokens_by_modality": shorter["output_tokens_by_modality"],
        "total_tokens": answer.usage["total_tokens"] - less,
    }


def _extra(request: CreateRequest, conversation: Conversation) -> dict[str, object]:
    extra: dict[str, object] = {"service_tier": request.body.get("service_tier") or "standard"}
    if (webhooks := request.body.get("webhook_config")) is not None:
        extra["webhook_config"] = webhooks
    environment = request.body.get("environment")
    if environment is not None:
        known = environment.get("environment_id") if isinstance(environment, dict) else environment
        fresh = known is None or known == "remote"
        extra["environment_id"] = f"env_{conversation.digest.hex()[:16]}" if fresh else known
    return extra


def _wish(record: Record, plan: Plan, now: float) -> None:
    """Let the wishes that concern later looks at the record take effect."""
    record.plan = plan
    if late := plan.get("missing_usage"):
        record.usage_live = False
        record.usage_at, record.usage_gets = now + late.number("seconds"), late.integer("gets")
    if hidden := plan.get("not_found_after_create"):
        seconds, gets = hidden.number("seconds"), hidden.integer("gets")
        record.hidden_until = now + seconds
        record.hidden_gets = gets or (0 if seconds else 1)
