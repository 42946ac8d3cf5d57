"""What processes on one database tell one another of their deployments."""

from __future__ import annotations

import pytest

from service.store.deployment_states import SharedState
from service.store.store import Store
from service.wire import ids
from tests.support.store import OpenStore


@pytest.fixture
def store(opened: OpenStore) -> Store:
    return opened.store


AT = 1_800_000_000_000_000


def word(replica: bytes, deployment_id: str, at: int = AT, requests: int = 1) -> SharedState:
    return SharedState(replica, deployment_id, 30_000_000, requests, 20, AT + 5, True, at)


async def test_each_hears_the_others_and_not_itself(store: Store) -> None:
    one, other = ids.mint(), ids.mint()
    await store.share_states([word(one, "a"), word(one, "b")])
    await store.share_states([word(other, "a")])
    assert sorted(await store.shared_states(other, 0)) == [word(one, "a"), word(one, "b")]
    assert await store.shared_states(one, 0) == [word(other, "a")]


async def test_the_last_word_counts(store: Store) -> None:
    one = ids.mint()
    await store.share_states([word(one, "a")])
    newer = SharedState(one, "a", 30_000_001, 7, 8, None, False, AT + 9, 2_500, 130_000)
    await store.share_states([newer])
    assert await store.shared_states(ids.mint(), 0) == [newer]


async def test_what_was_told_long_ago_is_not_heard_and_is_dropped(store: Store) -> None:
    one, reader = ids.mint(), ids.mint()
    await store.share_states([word(one, "a", AT), word(one, "b", AT + 10)])
    assert await store.shared_states(reader, AT + 1) == [word(one, "b", AT + 10)]
    await store.forget_states(reader, AT + 1)
    assert await store.shared_states(reader, 0) == [word(one, "b", AT + 10)]


async def test_nothing_to_tell_is_nothing_to_write(store: Store) -> None:
    await store.share_states([])
    assert await store.shared_states(ids.mint(), 0) == []
