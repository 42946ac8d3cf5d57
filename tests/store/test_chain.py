from __future__ import annotations

import asyncio
from typing import Any
from uuid import UUID

import pytest

from service.errors import FailedPrecondition
from service.store.records import now
from service.store.store import Store
from service.store.tables import DEFAULT_PROJECT
from service.wire import ids
from tests.support.store import OpenStore, intent, outcome

OTHER_PROJECT = UUID("00000000-0000-7000-8000-000000000002").bytes


async def follow(
    store: Store, previous: bytes | None, name: str, *, project: bytes = DEFAULT_PROJECT
) -> bytes:
    """One more interaction, whose bodies carry its name."""
    begun = intent(previous_id=previous, project_id=project)
    await store.begin(begun, f"request {name}".encode())
    await store.finish(outcome(begun.id), f"response {name}".encode())
    return begun.id


def link(key: bytes, name: str) -> tuple[Any, ...]:
    return (key, "completed", None, False, f"request {name}".encode(), f"response {name}".encode())


async def chain(store: Store, key: bytes, *, project: bytes = DEFAULT_PROJECT) -> list[tuple[Any, ...]]:
    """A chain, without when and where its links were made."""
    return [
        (link.id, link.status, link.agent, link.deleted, link.request, link.response)
        for link in await store.chain(project, key)
    ]


async def test_a_single_interaction_is_a_chain_of_one(opened: OpenStore) -> None:
    key = await follow(opened.store, None, "a")
    assert await chain(opened.store, key) == [link(key, "a")]


async def test_a_thousand_links_come_oldest_first(opened: OpenStore) -> None:
    keys = [ids.mint() for _ in range(1000)]
    begun = [intent(key, previous_id=previous) for key, previous in zip(keys, [None, *keys], strict=False)]
    store = opened.store
    await asyncio.gather(*(store.begin(one, f"request {n}".encode()) for n, one in enumerate(begun)))
    await asyncio.gather(*(store.finish(outcome(k), f"response {n}".encode()) for n, k in enumerate(keys)))
    assert await chain(store, keys[-1]) == [link(k, str(n)) for n, k in enumerate(keys)]
    assert len(await chain(store, keys[499])) == 500


async def test_branches_share_their_trunk_and_nothing_else(opened: OpenStore) -> None:
    root = await follow(opened.store, None, "root")
    left = await follow(opened.store, root, "left")
    right = await follow(opened.store, root, "right")
    tip = await follow(opened.store, left, "tip")
    assert await chain(opened.store, tip) == [
        link(root, "root"),
        link(left, "left"),
        link(tip, "tip"),
    ]
    assert await chain(opened.store, right) == [link(root, "root"), link(right, "right")]


async def test_a_deleted_link_keeps_its_content_for_the_links_after_it(opened: OpenStore) -> None:
    root = await follow(opened.store, None, "root")
    middle = await follow(opened.store, root, "middle")
    tip = await follow(opened.store, middle, "tip")
    await opened.store.delete(middle, now(), None)
    assert await chain(opened.store, tip) == [
        link(root, "root"),
        (middle, "completed", None, True, b"request middle", b"response middle"),
        link(tip, "tip"),
    ]


async def test_a_link_that_still_runs_has_a_request_only(opened: OpenStore) -> None:
    begun = intent(agent="deep-research", model_requested=None)
    await opened.store.begin(begun, b"request")
    assert await chain(opened.store, begun.id) == [
        (begun.id, "in_progress", "deep-research", False, b"request", None)
    ]


async def test_a_link_whose_ancestor_is_missing_begins_the_chain(opened: OpenStore) -> None:
    tip = await follow(opened.store, intent().id, "tip")
    assert await chain(opened.store, tip) == [link(tip, "tip")]


async def test_a_chain_belongs_to_its_project(opened: OpenStore) -> None:
    root = await follow(opened.store, None, "root", project=OTHER_PROJECT)
    tip = await follow(opened.store, root, "tip", project=OTHER_PROJECT)
    assert await chain(opened.store, tip) == []
    assert len(await chain(opened.store, tip, project=OTHER_PROJECT)) == 2


async def test_a_chain_that_is_too_large_for_memory_is_refused_with_its_size(opened: OpenStore) -> None:
    root = await follow(opened.store, None, "root")
    tip = await follow(opened.store, root, "tip")
    size = sum(len(f"request {name}response {name}") for name in ("root", "tip"))
    assert len(await opened.store.chain(DEFAULT_PROJECT, tip, most_bytes=size)) == 2
    with pytest.raises(FailedPrecondition, match=f"{size} bytes"):
        await opened.store.chain(DEFAULT_PROJECT, tip, most_bytes=size - 1)


async def test_a_link_tells_when_and_where_it_was_made(opened: OpenStore) -> None:
    begun = intent()
    await opened.store.begin(begun, b"request")
    (only,) = await opened.store.chain(DEFAULT_PROJECT, begun.id)
    assert (only.created_at, only.deployment_id) == (begun.created_at, begun.deployment_id)
