from __future__ import annotations

from dataclasses import fields
from typing import Any
from uuid import UUID

import pytest

from service.errors import StoreError
from service.store import deletion, statements
from service.store.backend import committed
from service.store.records import USAGE_NONE, Record, Usage
from service.store.statement import BatchStatement
from service.store.tables import DEFAULT_PROJECT, NOBODY
from service.wire import ids
from tests.support.store import USAGE, OpenStore, completed, intent, is_sqlite, outcome, query, running

OTHER_PROJECT = UUID("00000000-0000-7000-8000-000000000002").bytes
REQUEST = b'{"model":"gemini-flash","input":"hello"}'
RESPONSE = b'{"id":"v1_x","status":"completed","steps":[]}'


def on(url: str, key: bytes) -> Any:
    """A key as plain SQL takes it."""
    return key if is_sqlite(url) else UUID(bytes=key)


async def test_an_intent_is_found_while_it_runs(opened: OpenStore) -> None:
    begun = intent(stream=True, background=True, depth=3, previous_id=ids.mint(), root_id=ids.mint())
    await opened.store.begin(begun, REQUEST)
    record = await opened.store.find(DEFAULT_PROJECT, begun.id)
    assert record is not None
    assert not record.terminal
    assert (record.status, record.response, record.upstream_id) == ("in_progress", None, None)
    shared = {member.name for member in fields(Record)} & set(begun._fields)
    assert {name: getattr(record, name) for name in shared} == {name: getattr(begun, name) for name in shared}
    assert await opened.store.request_of(begun.id) == REQUEST


async def test_an_outcome_is_found_with_every_member(opened: OpenStore) -> None:
    begun = intent()
    await opened.store.begin(begun, REQUEST)
    ended = outcome(begun.id, error_code="aborted", error_message="no", attempts='[{"n":1}]')
    await opened.store.finish(ended, RESPONSE)
    record = await opened.store.find(DEFAULT_PROJECT, begun.id)
    assert record is not None
    assert record.terminal
    assert record.response == RESPONSE
    shared = {member.name for member in fields(Record)} & set(ended._fields)
    assert {name: getattr(record, name) for name in shared} == {name: getattr(ended, name) for name in shared}


async def test_usage_and_sizes_are_columns(opened: OpenStore, store_url: str) -> None:
    begun = intent(labels='{"team":"a"}')
    await opened.store.begin(begun, REQUEST)
    await opened.store.finish(outcome(begun.id), RESPONSE)
    (row,) = await query(
        store_url,
        "SELECT input_tokens, output_tokens, thought_tokens, cached_tokens, tool_use_tokens, total_tokens, "
        "usage_state, request_bytes, response_bytes, labels, service_tier FROM interactions WHERE id = :id",
        id=on(store_url, begun.id),
    )
    assert row == (11, 22, 3, 4, 5, 45, USAGE.state, len(REQUEST), len(RESPONSE), begun.labels, "standard")


async def test_an_unknown_key_is_not_found(opened: OpenStore) -> None:
    key = ids.mint()
    assert await opened.store.find(DEFAULT_PROJECT, key) is None
    assert await opened.store.request_of(key) is None
    assert await opened.store.chain(DEFAULT_PROJECT, key) == []


async def test_an_upstream_id_is_an_alias(opened: OpenStore) -> None:
    key = await completed(opened.store)
    await completed(opened.store)
    record = await opened.store.find_by_upstream_id(DEFAULT_PROJECT, f"v1_{key.hex()}")
    assert record == await opened.store.find(DEFAULT_PROJECT, key)
    assert await opened.store.find_by_upstream_id(DEFAULT_PROJECT, "v1_unknown") is None


async def test_an_upstream_id_given_twice_names_the_newest(opened: OpenStore) -> None:
    older, newer = intent(), intent()
    for begun in (newer, older):
        await opened.store.begin(begun, REQUEST)
        await opened.store.finish(outcome(begun.id, upstream_id="v1_same"), RESPONSE)
    record = await opened.store.find_by_upstream_id(DEFAULT_PROJECT, "v1_same")
    assert record is not None
    assert record.id == newer.id


async def test_a_foreign_interaction_is_as_good_as_missing(opened: OpenStore) -> None:
    key = await completed(opened.store)
    assert await opened.store.find(OTHER_PROJECT, key) is None
    assert await opened.store.find_by_upstream_id(OTHER_PROJECT, f"v1_{key.hex()}") is None
    assert await opened.store.chain(OTHER_PROJECT, key) == []


async def test_an_alias_finds_the_own_interaction_beside_a_foreign_one(opened: OpenStore) -> None:
    own, foreign = intent(), intent(project_id=OTHER_PROJECT)
    for begun in (own, foreign):
        await opened.store.begin(begun, REQUEST)
        await opened.store.finish(outcome(begun.id, upstream_id="v1_same"), RESPONSE)
    record = await opened.store.find_by_upstream_id(DEFAULT_PROJECT, "v1_same")
    assert record is not None
    assert record.id == own.id


async def test_what_was_not_to_be_stored_is_recorded_but_not_served(
    opened: OpenStore, store_url: str
) -> None:
    key = await completed(opened.store, store=False)
    assert await opened.store.find(DEFAULT_PROJECT, key) is None
    assert await opened.store.find_by_upstream_id(DEFAULT_PROJECT, f"v1_{key.hex()}") is None
    rows = await query(store_url, "SELECT status FROM interactions WHERE id = :id", id=on(store_url, key))
    assert rows == [("completed",)]
    assert await opened.store.request_of(key) is not None


async def test_an_outcome_may_come_in_parts_until_it_is_terminal(opened: OpenStore) -> None:
    begun = intent()
    await opened.store.begin(begun, REQUEST)
    await opened.store.finish(running(begun.id), None)
    record = await opened.store.find(DEFAULT_PROJECT, begun.id)
    assert record is not None
    assert (record.status, record.upstream_id) == ("in_progress", f"v1_{begun.id.hex()}")
    await opened.store.finish(running(begun.id), b'{"status":"in_progress"}')
    await opened.store.finish(outcome(begun.id), RESPONSE)
    record = await opened.store.find(DEFAULT_PROJECT, begun.id)
    assert record is not None
    assert (record.status, record.response) == ("completed", RESPONSE)


@pytest.mark.parametrize("late", ["terminal", "running"])
async def test_a_terminal_outcome_is_never_overwritten(opened: OpenStore, late: str) -> None:
    key = await completed(opened.store, response=RESPONSE)
    before = await opened.store.find(DEFAULT_PROJECT, key)
    second = outcome(key, status="failed", upstream_id="v1_other") if late == "terminal" else running(key)
    await opened.store.finish(second, b'{"status":"failed"}')
    assert await opened.store.find(DEFAULT_PROJECT, key) == before


async def test_an_outcome_without_an_intent_leaves_nothing(opened: OpenStore, store_url: str) -> None:
    with pytest.raises(StoreError):
        await opened.store.finish(outcome(ids.mint()), RESPONSE)
    assert await query(store_url, "SELECT count(*) FROM interactions") == [(0,)]
    assert await query(store_url, "SELECT count(*) FROM payloads") == [(0,)]


async def test_an_outcome_without_a_body_has_none(opened: OpenStore) -> None:
    begun = intent()
    await opened.store.begin(begun, REQUEST)
    await opened.store.finish(outcome(begun.id, status="failed", usage=Usage(), upstream_id=None), None)
    record = await opened.store.find(DEFAULT_PROJECT, begun.id)
    assert record is not None
    assert (record.terminal, record.status, record.response) == (True, "failed", None)


@pytest.mark.parametrize("size", [0, 1, 300, 70_000, 8_000_000])
async def test_bodies_of_any_size_come_back_byte_for_byte(opened: OpenStore, size: int) -> None:
    body = bytes(number * 7 % 251 for number in range(min(size, 70_000))) * max(1, size // 70_000)
    begun = intent()
    await opened.store.begin(begun, body)
    await opened.store.finish(outcome(begun.id), body)
    record = await opened.store.find(DEFAULT_PROJECT, begun.id)
    assert record is not None
    assert record.response == body
    assert await opened.store.request_of(begun.id) == body


async def test_upstream_is_gone_from_the_first_time_it_is_seen_gone(opened: OpenStore) -> None:
    key = await completed(opened.store)
    await opened.store.mark_upstream_gone(key, 1_000)
    await opened.store.mark_upstream_gone(key, 2_000)
    record = await opened.store.find(DEFAULT_PROJECT, key)
    assert record is not None
    assert (record.upstream_gone_at, record.status) == (1_000, "completed")


async def test_a_batch_may_be_repeated_without_harm(opened: OpenStore, store_url: str) -> None:
    kept, deleted = intent(), intent()
    batches: list[list[tuple[BatchStatement, list[tuple[Any, ...]]]]] = [
        [
            (statements.INSERT_INTENT, [kept.row(5), deleted.row(5)]),
            (statements.INSERT_REQUEST, [(kept.id, REQUEST), (deleted.id, REQUEST)]),
        ],
        [
            (statements.UPSERT_RESPONSE, [(kept.id, RESPONSE, NOBODY), (deleted.id, RESPONSE, NOBODY)]),
            (statements.FINISH, [outcome(kept.id).row(9), outcome(deleted.id).row(9)]),
        ],
        [
            (statements.MARK_UPSTREAM_GONE, [(kept.id, 77)]),
            (deletion.TOMBSTONE, [(deleted.id, 88, '{"total_tokens":45}', 0)]),
            (deletion.DELETE_EVENTS, [(deleted.id,)]),
        ],
        [
            (deletion.ERASE, [(deleted.id, 99)]),
            *((statement, [(deleted.id,)]) for statement in deletion.CONTENT),
        ],
    ]
    dumps = [f"SELECT * FROM {table} ORDER BY 1, 2" for table in ("interactions", "payloads")]
    for batch in batches:
        await committed(opened.backend, batch)
        before = [await query(store_url, dump) for dump in dumps]
        await committed(opened.backend, batch)
        assert [await query(store_url, dump) for dump in dumps] == before
    assert [len(await query(store_url, dump)) for dump in dumps] == [2, 2]


async def test_a_write_is_read_at_once(opened: OpenStore) -> None:
    for _ in range(50):
        begun = intent()
        await opened.store.begin(begun, REQUEST)
        assert await opened.store.find(DEFAULT_PROJECT, begun.id) is not None


async def test_text_with_nul_is_stored_with_a_replacement(opened: OpenStore) -> None:
    begun = intent(model_requested="mo\0del", agent="a\0")
    await opened.store.begin(begun, b'{"input":"\\u0000"}')
    ended = outcome(
        begun.id,
        upstream_id="v1\0x",
        status="comp\0leted",
        model="\0",
        service_tier="t\0",
        error_code="e\0",
        error_message="m\0",
    )
    await opened.store.finish(ended, b"\0body\0")
    record = await opened.store.find(DEFAULT_PROJECT, begun.id)
    assert record is not None
    assert (record.model_requested, record.agent) == ("mo\ufffddel", "a\ufffd")
    assert (record.status, record.model, record.error_message) == ("comp\ufffdleted", "\ufffd", "m\ufffd")
    assert record.response == b"\0body\0"
    assert await opened.store.find_by_upstream_id(DEFAULT_PROJECT, "v1\0x") is None


async def test_an_upstream_id_beyond_reason_is_no_alias(opened: OpenStore) -> None:
    begun, long = intent(), "v1_" + "x" * 10_000
    await opened.store.begin(begun, REQUEST)
    await opened.store.finish(outcome(begun.id, upstream_id=long), RESPONSE)
    record = await opened.store.find(DEFAULT_PROJECT, begun.id)
    assert record is not None
    assert record.upstream_id is None
    assert await opened.store.find_by_upstream_id(DEFAULT_PROJECT, long) is None


async def test_an_intent_has_no_usage(opened: OpenStore, store_url: str) -> None:
    await opened.store.begin(intent(), REQUEST)
    assert await query(store_url, "SELECT usage_state, total_tokens FROM interactions") == [
        (USAGE_NONE, None)
    ]


async def test_the_probe_answers(opened: OpenStore) -> None:
    await opened.store.probe()
