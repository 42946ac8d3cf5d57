"""From upstream's copy of an interaction to the rows of this store (contract 3.3).

Upstream's bytes are the response. The request was never seen: what is known of it is the model or the agent, and the
input where upstream shows it, as ``input`` or as the first steps of the timeline (both are possible and neither is
guaranteed). A request without an ``input`` says that it is not known, which is something else than an empty one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import takewhile
from typing import Any, Final

import orjson

from service.errors import InvalidRequest
from service.interactions import outcomes
from service.interactions.calls import Principal
from service.interactions.search import Copy
from service.store.adoption import Adopted, Holder
from service.store.records import now
from service.wire import codec, ids, legacy, steps

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
#: Microseconds that the clock of another machine may be ahead.
_AHEAD: Final = 86_400_000_000
#: An error text longer than this is cut in the row; the response has it whole.
_MESSAGE_KEPT: Final = 2_000


def adopted(copy: Copy, parent: Holder | None, principal: Principal) -> Adopted:
    """The rows of a copy; the same copy has the same key, whoever makes them."""
    body = copy.reply.body
    moment = now()
    created = _microseconds(body.get("created"))
    status = outcomes.status_of(body)
    terminal = outcomes.is_terminal(status)
    updated = _microseconds(body.get("updated")) or moment
    error = outcomes.error_of(body)
    return Adopted(
        id=ids.derived((created or 0) // 1000, copy.upstream_id),
        project_id=principal.project_id,
        key_id=principal.key_id,
        previous_id=None if parent is None else parent.id,
        root_id=None if parent is None else parent.root_id or parent.id,
        depth=0 if parent is None else parent.depth + 1,
        created_at=moment if created is None else created,
        # What still runs may be cancelled, if upstream lets it.
        background=not terminal,
        model=_text(body.get("model")),
        agent=_text(body.get("agent")),
        deployment_id=copy.deployment.id,
        upstream_id=copy.upstream_id,
        status=status,
        service_tier=_text(body.get("service_tier")),
        http_status=copy.reply.status,
        error_code=error[0] if error else None,
        error_message=error[1][:_MESSAGE_KEPT] if error else None,
        attempts=_attempts(copy, parent, moment),
        updated_at=updated,
        completed_at=updated if terminal else None,
        request=codec.dumps(_request(copy, parent)),
        response=copy.reply.raw,
    )


def is_adopted(attempts: str | None) -> bool:
    """Whether the attempts of a record say that it was made elsewhere, so that its usage is not ours to count."""
    made = orjson.loads(attempts) if attempts else ()
    return any("adopted" in attempt for attempt in made)


def _attempts(copy: Copy, parent: Holder | None, moment: int) -> str:
    attempt: dict[str, Any] = {"adopted": moment, "deployment": copy.deployment.id}
    if parent is None and copy.previous_upstream_id is not None:
        attempt["lost_previous"] = copy.previous_upstream_id
    return orjson.dumps([attempt]).decode()


def _request(copy: Copy, parent: Holder | None) -> dict[str, Any]:
    body = copy.reply.body
    request = {name: value for name in ("model", "agent") if (value := _text(body.get(name))) is not None}
    if parent is None and copy.previous_upstream_id is not None:
        # Without its parent the conversation is not whole, and must never be sent as if it were.
        request["previous_interaction_id"] = copy.previous_upstream_id
    given = _input(body)
    if given is None and parent is not None and parent.status == "requires_continuation":
        # What goes on with a token has no input (contract 4.7).
        given = []
    return request if given is None else {**request, "input": given}


def _input(body: dict[str, Any]) -> Any:
    """What was asked, such that the timeline repeats it word for word or not at all; None when upstream does not tell.

    Whoever rebuilds the conversation takes the repetition off, and says each step once.
    """
    timeline = outcomes.steps_of(body)
    told = body.get("input")
    asked = _normalised(told) if told else None
    if asked is None:
        return list(takewhile(lambda step: steps.type_of(step) in steps.CLIENT_TYPES, timeline)) or None
    shown = timeline[: len(asked)]
    repeated = [step.get("type") for step in shown] == [step.get("type") for step in asked]
    return shown if repeated else told


def _normalised(value: Any) -> list[dict[str, Any]] | None:
    try:
        return steps.normalise_input(legacy.request_to_steps({"input": value})["input"])
    except InvalidRequest:
        return None


def _microseconds(value: Any) -> int | None:
    """Microseconds since the epoch of a time as Google writes it; None for anything else, or a time to come."""
    try:
        moment = datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    elapsed = (moment - _EPOCH) // timedelta(microseconds=1)
    return elapsed if 0 <= elapsed <= now() + _AHEAD else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
