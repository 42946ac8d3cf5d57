"""What counts of an answer that was gone on with from a checkpoint in the middle of its stream (contract 4.7).

Upstream may give out a token inside a stream. Whoever goes on from it gets what follows as a new interaction, while the
first stream is still read to its end here: both have the rest, and a conversation has it once. So of the first answer
only what was told before the checkpoint belongs to the chain. The event log knows what that was, also that of an
interaction which is deleted and kept for its follow-ups.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
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

    Asks for the logs of all of them at once. Raises :class:`FailedPrecondition` for a link of which it is not known any
    more what was told before the checkpoint.
    """
    kept = list(links)
    tokens = _tokens(kept)
    told = await _steps_before(tokens, kept, events) if tokens else {}
    for place in tokens:
        before, follow_up = kept[place], kept[place + 1]
        if place in told:
            whole = {} if before.response is None else codec.loads(before.response)
            kept[place] = replace(before, response=codec.dumps({**whole, "steps": told[place]}))
        elif not _body_with_token(follow_up.request).get("input") and before.response is not None:
            raise _forgotten(before, follow_up)
    return kept


def _tokens(links: Sequence[Link]) -> dict[int, str]:
    """The tokens that links were gone on with in the middle, by their places."""
    tokens: dict[int, str] = {}
    for place, (before, follow_up) in enumerate(pairwise(links)):
        token = _body_with_token(follow_up.request).get("continuation_token")
        if token is not None and token != _body_with_token(before.response).get("continuation_token"):
            tokens[place] = token
    return tokens


def _body_with_token(body: bytes | None) -> dict[str, Any]:
    """A request or an answer; empty when it has no token."""
    if body is None or _TOKEN not in body:
        return {}
    parsed = codec.loads(body)
    return parsed if isinstance(parsed.get("continuation_token"), str) else {}


async def _steps_before(
    tokens: Mapping[int, str], links: Sequence[Link], events: KeptEvents
) -> dict[int, list[dict[str, Any]]]:
    """What links told before these tokens; without those that are not known to have told them."""
    told: dict[int, list[dict[str, Any]]] = {}
    wanted = list(tokens)
    for again in range(int(_ON_ITS_WAY / _LOOK_AGAIN) + 1):
        if again:
            await asyncio.sleep(_LOOK_AGAIN)
        logs = await events.logs([links[place].id for place in wanted])
        for place in wanted:
            steps = _told_before(tokens[place], logs.get(links[place].id, ()))
            if steps is not None:
                told[place] = steps
        wanted = [place for place in wanted if place not in told and _still_tells(links[place])]
        if not wanted:
            break
    return told


def _still_tells(link: Link) -> bool:
    return not link.deleted and not outcomes.is_terminal(link.status)


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
