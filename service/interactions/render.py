"""From a stored or fresh interaction to what its caller sees: our ids, the caller's generation of the schema."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from service.interactions.outcomes import steps_of
from service.interactions.timeline import end_of_input
from service.store.records import Record
from service.wire import codec, ids, legacy, steps
from service.wire.revision import Revision


def with_our_ids(interaction: dict[str, Any], key: bytes, previous: bytes | None) -> dict[str, Any]:
    """The interaction under our ids; upstream's never leave in a body."""
    told = {**interaction, "id": ids.to_text(key)}
    if previous is not None:
        told["previous_interaction_id"] = ids.to_text(previous)
    return told


def identified(
    interaction: dict[str, Any], created_at: int, model: str | None, agent: str | None
) -> dict[str, Any]:
    """The interaction with what every one has, where upstream has not told it yet (contract 3.3)."""
    known: dict[str, Any] = {"object": "interaction", "created": timestamp(created_at)}
    if agent is not None or model is not None:
        known |= {"model": model} if agent is None else {"agent": agent}
    return known | interaction


def with_webhooks(interaction: dict[str, Any], webhooks: dict[str, Any] | None) -> dict[str, Any]:
    """The interaction with ``webhook_config``, which upstream was not given, as upstream shows it (contract 3.3)."""
    return interaction if webhooks is None else {**interaction, "webhook_config": webhooks}


def event_with_our_ids(
    event: dict[str, Any],
    key: bytes,
    previous: bytes | None,
    webhooks: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The event under our ids, its interaction with ``webhooks``; the event itself where it carries none."""
    if "interaction_id" in event:
        event = {**event, "interaction_id": ids.to_text(key)}
    interaction = event.get("interaction")
    if isinstance(interaction, dict):
        told = with_webhooks(with_our_ids(interaction, key, previous), webhooks)
        event = {**event, "interaction": told}
    return event


def in_revision(interaction: dict[str, Any], revision: Revision) -> dict[str, Any]:
    """The interaction as this generation of clients reads it (contract 1.4, 5.6)."""
    match revision:
        case Revision.STEPS:
            return interaction
        case Revision.LEGACY:
            return legacy.interaction_to_legacy(with_steps(interaction))
        case Revision.EITHER:
            return legacy.interaction_with_both(with_steps(interaction))


def terminal_event_with_both(event: dict[str, Any], steps: list[dict[str, Any]]) -> dict[str, Any]:
    """The event that ends a stream, with the outputs that callers of the older generation look for there."""
    interaction = event.get("interaction")
    if not isinstance(interaction, dict):
        return event
    both = legacy.interaction_with_both({**interaction, "steps": steps})
    if "steps" not in interaction:
        del both["steps"]
    return {**event, "interaction": both}


def with_input(interaction: dict[str, Any], request: dict[str, Any], revision: Revision) -> dict[str, Any]:
    """The interaction with what was asked: ``input`` as it was sent, and as the first steps of the timeline."""
    told = {**interaction, "input": request.get("input")}
    if revision is not Revision.LEGACY:
        asked = steps.normalise_input(legacy.request_to_steps(request).get("input") or [])
        given = steps_of(interaction)
        told["steps"] = asked + given[end_of_input(given, asked) :]
    return told


def body(interaction: dict[str, Any], revision: Revision) -> bytes:
    """The bytes of an answer."""
    return codec.dumps(in_revision(interaction, revision))


def of_record(record: Record) -> dict[str, Any]:
    """A stored interaction in steps form: upstream's own body where there is one, else what the record tells."""
    if record.response is not None and (record.http_status or 0) < 300:
        parsed = codec.loads(record.response)
        if isinstance(parsed, dict):
            told = with_our_ids(parsed, record.id, record.previous_id)
            if record.stream and not record.terminal:
                model = record.model or record.model_requested
                told = identified(told, record.created_at, model, record.agent)
            if told.get("status", record.status) != record.status:
                told["status"] = record.status
            return told
    told = {
        "id": ids.to_text(record.id),
        "object": "interaction",
        "status": record.status,
        "created": timestamp(record.created_at),
        "updated": timestamp(record.updated_at),
        "agent" if record.agent else "model": record.agent or record.model or record.model_requested,
        "steps": [],
    }
    if record.previous_id is not None:
        told["previous_interaction_id"] = ids.to_text(record.previous_id)
    if record.error_code is not None:
        told["errors"] = [{"code": record.error_code, "message": record.error_message or ""}]
    return told


def timestamp(microseconds: int) -> str:
    """Google's form of a time: ISO 8601, whole seconds, Z."""
    return datetime.fromtimestamp(microseconds // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def with_steps(interaction: dict[str, Any]) -> dict[str, Any]:
    """The interaction with nothing but objects for steps, and with steps where it has flat outputs (contract 1.4)."""
    if "steps" not in interaction and "outputs" not in interaction:
        return interaction
    return {**interaction, "steps": steps_of(interaction)}
