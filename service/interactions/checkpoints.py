"""What counts of an answer that was gone on with from a checkpoint in the middle of its stream (contract 4.7).

Upstream may give out a token inside a stream. Whoever goes on from it gets what follows as a new interaction, while the
first stream is still read to its end here: both have the rest, and a conversation has it once. So of the first answer
only what was told before the checkpoint belongs to the chain. The event log knows what that was, also that of an
interaction which is deleted and kept for its follow-ups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from service.errors import FailedPrecondition
from service.interactions import outcomes
from service.store.kept_events import Event, KeptEvents
from service.store.records import Link
from service.wire import codec, ids, sse
from service.wire.assembler import Assembler

_TOKEN: Final = b'"continuation_token"'
#: Seconds that a checkpoint of a running stream, which a client has seen already, may take to arrive in the log.
_ON_ITS_WAY: Final = 1.0
_LOOK_AGAIN: Final = 0.05


async def up_to_checkpoints(links: Sequence[Link], events: KeptEvents) -> list[Link]:
    """The links, those that were gone on with from a checkpoint with nothing behind it.

    Raises :class:`FailedPrecondition` for a link of which it is not known any more what was told before the checkpoint.
    """
    kept = list(links)
    for place in range(1, len(kept)):
        before, request = kept[place - 1], _body_with_token(kept[place].request)
        token = request.get("continuation_token")
        if token is None or token == _body_with_token(before.response).get("continuation_token"):
            continue
        steps = await _steps_before(token, before, events)
        if steps is not None:
            whole = {} if before.response is None else codec.loads(before.response)
            kept[place - 1] = replace(before, response=codec.dumps({**whole, "steps": steps}))
        elif not request.get("input") and before.response is not None:
            raise _forgotten(before, kept[place])
    return kept


def _body_with_token(body: bytes | None) -> dict[str, Any]:
    """A request or an answer; empty when it has no token."""
    if body is None or _TOKEN not in body:
        return {}
    parsed = codec.loads(body)
    return parsed if isinstance(parsed.get("continuation_token"), str) else {}


async def _steps_before(token: str, link: Link, events: KeptEvents) -> list[dict[str, Any]] | None:
    """What a link told before this token; None when it is not known to have told the token."""
    steps = _told_before(token, await events.all(link.id))
    if steps is None and not link.deleted and not outcomes.is_terminal(link.status):
        for _ in range(int(_ON_ITS_WAY / _LOOK_AGAIN)):
            await asyncio.sleep(_LOOK_AGAIN)
            if (steps := _told_before(token, await events.all(link.id))) is not None:
                break
    return steps


def _told_before(token: str, events: Iterable[Event]) -> list[dict[str, Any]] | None:
    told = Assembler()
    for event in events:
        body = codec.loads(sse.data_of(event.frame) or b"{}")
        if body.get("continuation_token") == token:
            return told.steps
        told.feed(body)
    return None


def _forgotten(link: Link, follow_up: Link) -> FailedPrecondition:
    return FailedPrecondition(
        f"The conversation cannot be rebuilt for upstream, which has lost it: its interaction "
        f"{ids.to_text(follow_up.id)} went on from the middle of the interaction {ids.to_text(link.id)}, and what that "
        "had told until then is not in the store any more. Start anew without 'previous_interaction_id'."
    )
