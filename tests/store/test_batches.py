"""What callers hand in at once about one interaction is written, whichever of them comes first."""

from __future__ import annotations

import asyncio

from service.store.kept_events import EventBatch
from service.store.statements import BATCH_ORDER
from tests.support.store import OpenStore, intent, running

BLOCK = b'event: step.delta\ndata: {"event_type":"step.delta"}\n\n'


def test_each_kind_of_write_is_known_by_a_name_of_its_own() -> None:
    assert len({statement.name for statement in BATCH_ORDER}) == len(BATCH_ORDER)


async def test_events_of_many_streams_are_logged_beside_the_upstream_id_of_one(opened: OpenStore) -> None:
    streams = [intent(stream=True) for _ in range(3)]
    for begun in streams:
        await opened.store.begin(begun, b"{}")
    events = [EventBatch(1, 1, BLOCK, None).write(begun.id, begun.owner_id) for begun in streams]
    for begun in streams:
        await asyncio.gather(
            opened.store.finish(running(begun.id), None), opened.store.events.append(*events)
        )
    for begun in streams:
        assert [event.seq for event in await opened.store.events.all(begun.id)] == [1]


async def test_the_log_is_whole_while_streams_tell_their_upstream_ids(opened: OpenStore) -> None:
    streams = [intent(stream=True) for _ in range(20)]
    await asyncio.gather(*(opened.store.begin(begun, b"{}") for begun in streams))
    for seq in range(1, 4):
        events = [EventBatch(seq, seq, BLOCK, None).write(begun.id, begun.owner_id) for begun in streams]
        await asyncio.gather(
            *(opened.store.finish(running(begun.id), None) for begun in streams[: seq * 5]),
            opened.store.events.append(*events),
            *(opened.store.finish(running(begun.id), None) for begun in streams[seq * 5 :]),
        )
    for begun in streams:
        assert [event.seq for event in await opened.store.events.all(begun.id)] == [1, 2, 3]
