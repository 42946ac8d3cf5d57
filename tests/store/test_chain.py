from __future__ import annotations

import asyncio
from uuid import UUID

from service.store.records import Link, now
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


def link(key: bytes, name: str) -> Link:
    return Link(key, "completed", None, False, f"request {name}".encode(), f"response {name}".encode())


async def test_a_single_interaction_is_a_chain_of_one(opened: OpenStore) -> None:
    key = await follow(opened.store, None, "a")
    assert await opened.store.chain(DEFAULT_PROJECT, key) == [link(key, "a")]


async def test_a_thousand_links_come_oldest_first(opened: OpenStore) -> None:
    keys = [ids.mint() for _ in range(1000)]
    begun = [intent(key, previous_id=previous) for key, previous in zip(keys, [None, *keys], strict=False)]
    store = opened.store
    await asyncio.gather(*(store.begin(one, f"request {n}".encode()) for n, one in enumerate(begun)))
    await asyncio.gather(*(store.finish(outcome(k), f"response {n}".encode()) for n, k in enumerate(keys)))
    assert await store.chain(DEFAULT_PROJECT, keys[-1]) == [link(k, str(n)) for n, k in enumerate(keys)]
    assert len(await store.chain(DEFAULT_PROJECT, keys[499])) == 500


async def test_branches_share_their_trunk_and_nothing_else(opened: OpenStore) -> None:
    root = await follow(opened.store, None, "root")
    left = await follow(opened.store, root, "left")
    right = await follow(opened.store, root, "right")
    tip = await follow(opened.store, left, "tip")
    assert await opened.store.chain(DEFAULT_PROJECT, tip) == [
        link(root, "root"),
        link(left, "left"),
        link(tip, "tip"),
    ]
    assert await opened.store.chain(DEFAULT_PROJECT, right) == [link(root, "root"), link(right, "right")]


async def test_a_deleted_link_stays_in_the_chain_without_content(opened: OpenStore) -> None:
    root = await follow(opened.store, None, "root")
    middle = await follow(opened.store, root, "middle")
    tip = await follow(opened.store, middle, "tip")
    await opened.store.delete(middle, now(), None)
    assert await opened.store.chain(DEFAULT_PROJECT, tip) == [
        link(root, "root"),
        Link(middle, "completed", None, True, None, None),
        link(tip, "tip"),
    ]


async def test_a_link_that_still_runs_has_a_request_only(opened: OpenStore) -> None:
    begun = intent(agent="deep-research", model_requested=None)
    await opened.store.begin(begun, b"request")
    assert await opened.store.chain(DEFAULT_PROJECT, begun.id) == [
        Link(begun.id, "in_progress", "deep-research", False, b"request", None)
    ]


async def test_a_link_whose_ancestor_is_missing_begins_the_chain(opened: OpenStore) -> None:
    tip = await follow(opened.store, intent().id, "tip")
    assert await opened.store.chain(DEFAULT_PROJECT, tip) == [link(tip, "tip")]


async def test_a_chain_belongs_to_its_project(opened: OpenStore) -> None:
    root = await follow(opened.store, None, "root", project=OTHER_PROJECT)
    tip = await follow(opened.store, root, "tip", project=OTHER_PROJECT)
    assert await opened.store.chain(DEFAULT_PROJECT, tip) == []
    assert len(await opened.store.chain(OTHER_PROJECT, tip)) == 2
