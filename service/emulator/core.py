"""The emulator itself, without HTTP: create, find, cancel, delete."""

from __future__ import annotations

from functools import partial

import orjson

from service.emulator import model
from service.emulator.clock import Clock
from service.emulator.config import EmulatorConfig
from service.emulator.continuation import Continuations, divided
from service.emulator.conversation import INVALID_ARGUMENT, Conversation
from service.emulator.directives import Plan
from service.emulator.faults import FaultQueue
from service.emulator.files import Files
from service.emulator.records import ACTIVE, ANCHORS, NEVER, Record, Records
from service.emulator.seen import SeenRequests
from service.emulator.signatures import interaction_id
from service.emulator.timeline import timeline
from service.emulator.validate import CreateRequest, parse
from service.errors import FailedPrecondition, InvalidRequest, NotFound, UpstreamError

_FLAT_MODELS = frozenset({"lyria-3-pro-preview", "lyria-3-clip-preview"})


class Emulator:
    """Upstream, as one object: its clock, what it keeps, what it has seen and what it is to get wrong."""

    def __init__(self, config: EmulatorConfig) -> None:
        self.config = config
        self.clock = Clock()
        self.records = Records(config.retention_seconds)
        self.files = Files()
        self.faults = FaultQueue()
        self.seen = SeenRequests(keep=config.record_requests)
        #: Set when the process is about to stop; streams that wait give up then.
        self.closing = False
        self._continuations = Continuations()

    def close(self) -> None:
        """End every stream that waits for the clock."""
        self.closing = True
        self.clock.wake()

    def create(self, raw: bytes, key: str, plan: Plan, address: str) -> tuple[CreateRequest, Record]:
        """Carry a create out that came to this address, which is where its files are.

        Raises InvalidRequest and its kind, ModelNotFound, NotFound or UpstreamError for what upstream refuses
        (contract 2, 5, 6, 7).
        """
        request = parse(raw, self.config.models)
        if blocked := plan.get("blocked"):
            code = blocked.text("code")
            raise UpstreamError(400, code, f"Request blocked due to {code}.")
        rest = self._continuations.claim(request, key)
        now = self.clock.now()
        self.files.check(request.steps, key, now, address)
        conversation = self._conversation(request, key, plan, continues=rest is not None)
        history = dict(conversation.counts)
        conversation.hear(request.steps)
        if rest is not None:
            answer = model.Answer(
                rest.hops[0], rest.status, model.continued(rest.hops[0], conversation.counts)
            )
            owed = rest.hops[1:]
        else:
            deliver = partial(self.files.deliver, key=key, now=now, address=address)
            answer = model.answer(request, conversation, history, plan, deliver)
            answer, owed = divided(answer, conversation.counts, plan)
        record = self._record(request, raw, key, plan, answer, conversation)
        if owed:
            self._continuations.owe(record, owed)
        if checkpoint := plan.get("checkpoint"):
            self._continuations.offer_checkpoint(record, checkpoint.integer("after"))
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
            steps=_compact(answer.steps),
            usage=_compact(answer.usage),
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


def _compact(value: object) -> bytes:
    """JSON in exactly the memory it needs: orjson's own result has room to grow, and this is kept."""
    return memoryview(orjson.dumps(value)).tobytes()


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
