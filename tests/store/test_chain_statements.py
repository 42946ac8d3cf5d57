"""A conversation is read in as many statements at every depth, whatever its links are made of."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from itertools import pairwise

import orjson
import pytest

from service.interactions.checkpoints import up_to_checkpoints
from service.store.kept_events import batches_of
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT, NOBODY
from service.wire import ids
from tests.support.replies import Json
from tests.support.stateless import Client
from tests.support.store import OpenStore, intent, outcome, statements_read

DEPTHS = (1, 10, 100)
#: Turns after which the request of a client without state is long enough to be shared.
_BEFORE = 9

#: A chain of this depth, and how to tell that its links came as they were sent.
Kind = Callable[[Store, int], Awaitable[list[tuple[bytes, bytes]]]]


async def plain(store: Store, depth: int) -> list[tuple[bytes, bytes]]:
    keys = [ids.mint() for _ in range(depth)]
    begun = [intent(key, previous_id=before) for before, key in pairwise([None, *keys])]
    requests = [b'{"input":"%d"}' % number for number in range(depth)]
    await asyncio.gather(*map(store.begin, begun, requests))
    await asyncio.gather(*(store.finish(outcome(key), b"{}") for key in keys))
    return list(zip(keys, requests, strict=True))


async def resent(store: Store, depth: int) -> list[tuple[bytes, bytes]]:
    """Every link names the one before and sends all again, as well as turns that are no links."""
    client = Client()
    links: list[tuple[bytes, bytes]] = []
    for number in range(_BEFORE + depth):
        key, request = ids.mint(), client.ask()
        previous = links[-1][0] if links else None
        await store.begin(intent(key, previous_id=previous), request, listed=True)
        await store.finish(outcome(key), client.answer())
        if number >= _BEFORE:
            links.append((key, request))
    return links


async def checkpointed(store: Store, depth: int) -> list[tuple[bytes, bytes]]:
    """Every link but the last was gone on with from the middle of its stream."""
    keys = [ids.mint() for _ in range(depth)]
    begun = [intent(key, previous_id=before, stream=True) for before, key in pairwise([None, *keys])]
    tokens: list[Json] = [{}, *({"continuation_token": f"token-{number}"} for number in range(1, depth))]
    requests = [orjson.dumps({"model": "gemini-2.5-flash", **token}) for token in tokens]
    await asyncio.gather(*map(store.begin, begun, requests))
    await asyncio.gather(*(_told(store, key, number) for number, key in enumerate(keys)))
    return list(zip(keys, requests, strict=True))


async def _told(store: Store, key: bytes, number: int) -> None:
    events: list[Json] = [
        {"event_type": "step.start", "index": 0, "step": {"type": "model_output"}},
        {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": f"before {number}"}},
        {"event_type": "interaction.status_update", "continuation_token": f"token-{number + 1}"},
        {"event_type": "step.delta", "index": 0, "delta": {"type": "text", "text": ", and behind it"}},
    ]
    frames = [b"data: %b\n\n" % orjson.dumps(event) for event in events]
    log = [batch.write_last(key, NOBODY) for batch in batches_of(1, frames, None)]
    answer = {"steps": [_output(f"before {number}, and behind it")]}
    await store.finish(outcome(key), orjson.dumps(answer), log=log)


def _output(text: str) -> Json:
    return {"type": "model_output", "content": [{"type": "text", "text": text}]}


@pytest.mark.parametrize("kind", [plain, resent, checkpointed])
@pytest.mark.parametrize("depth", DEPTHS)
async def test_a_walk_is_one_statement(opened: OpenStore, kind: Kind, depth: int) -> None:
    links = await kind(opened.store, depth)
    read = await statements_read(opened.backend)
    walked = await opened.store.chain(DEFAULT_PROJECT, links[-1][0])
    assert len(read) == 1
    assert [(link.id, link.request) for link in walked] == links


@pytest.mark.parametrize("depth", DEPTHS[1:])
async def test_what_was_told_up_to_all_checkpoints_is_one_more(opened: OpenStore, depth: int) -> None:
    links = await checkpointed(opened.store, depth)
    read = await statements_read(opened.backend)
    walked = await opened.store.chain(DEFAULT_PROJECT, links[-1][0])
    kept = await up_to_checkpoints(walked, opened.store.events)
    assert len(read) == 2
    outputs = [f"before {number}" for number in range(depth - 1)] + [f"before {depth - 1}, and behind it"]
    assert [orjson.loads(link.response or b"") for link in kept] == [
        {"steps": [_output(text)]} for text in outputs
    ]


async def test_a_long_chain_without_checkpoints_asks_for_no_log(opened: OpenStore) -> None:
    links = await plain(opened.store, 10)
    walked = await opened.store.chain(DEFAULT_PROJECT, links[-1][0])
    read = await statements_read(opened.backend)
    assert await up_to_checkpoints(walked, opened.store.events) == walked
    assert read == []
