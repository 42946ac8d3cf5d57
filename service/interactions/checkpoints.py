"""What counts of an answer that was gone on with from a checkpoint in the middle of its stream (contract 4.7).

Upstream may give out a token inside a stream. Whoever goes on from it gets what follows as a new interaction, while the
first stream is still read to its end here: both have the rest, and a conversation has it once. So of the first answer
only what was told before the checkpoint belongs to the chain. The event log knows what that was.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from service.store.kept_events import Event, KeptEvents
from service.store.records import Link
from service.wire import codec, sse
from service.wire.assembler import Assembler

_TOKEN: Final = b'"continuation_token"'


async def up_to_checkpoints(links: Sequence[Link], events: KeptEvents) -> list[Link]:
    """The links, those that were gone on with from a checkpoint with nothing behind it."""
    kept = list(links)
    for place in range(1, len(kept)):
        token = _token_of(kept[place].request)
        before = kept[place - 1]
        if token is None or token == _token_of(before.response):
            continue
        steps = _steps_before(token, await events.all(before.id))
        if steps is not None:
            whole = {} if before.response is None else codec.loads(before.response)
            kept[place - 1] = replace(before, response=codec.dumps({**whole, "steps": steps}))
    return kept


def _token_of(body: bytes | None) -> str | None:
    if body is None or _TOKEN not in body:
        return None
    token = codec.loads(body).get("continuation_token")
    return token if isinstance(token, str) else None


def _steps_before(token: str, events: Iterable[Event]) -> list[dict[str, Any]] | None:
    told = Assembler()
    for event in events:
        body = codec.loads(sse.data_of(event.frame) or b"{}")
        if body.get("continuation_token") == token:
            return told.steps
        told.feed(body)
    return None
