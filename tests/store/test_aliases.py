"""Where upstream ids stand in the index that finds interactions by them."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.emulator.signatures import interaction_id
from service.store.aliases import by_hash, by_time
from service.store.tables import DEFAULT_PROJECT
from tests.support.store import intent, open_store, outcome, query

#: Ids that Google has given out, and when.
GOOGLE = {
    "v1_ChdXMjVaYU1hZEFfN0NxdHNQMThPdzJRWRIXVzI1WmFNYWRBXzdDcXRzUDE4T3cyUVk": datetime(
        2025, 6, 23, 15, 10, 19, 52_934, UTC
    ),
    "v1_ChdPU0F4YWFtNkFwS2kxZThQZ05lbXdROBIXT1NBeGFhbTZBcEtpMWU4UGdOZW13UTg": datetime(
        2025, 12, 4, 5, 46, 33, 40_233, UTC
    ),
    "v1_ChdXS0l4YWZXTk9xbk0xZThQczhEcmlROBIXV0tJeGFmV05PcW5NMWU4UHM4RHJpUTg": datetime(
        2025, 12, 4, 15, 1, 44, 952_053, UTC
    ),
    "v1_ChdTMjQ0YWJ5TUF1TzcxZThQdjRpcnFRcxIXUzI0NGFieU1BdU83MWU4UHY0aXJxUXM": datetime(
        2025, 12, 9, 18, 45, 31, 34_364, UTC
    ),
}


def test_ids_of_googles_stand_in_the_order_of_time() -> None:
    places = [by_time(upstream_id) for upstream_id in GOOGLE]
    assert places == sorted(places)
    for place, moment in zip(places, GOOGLE.values(), strict=True):
        told = place >> 12
        assert (told >> 20, told & 0xFFFFF) == (int(moment.timestamp()), moment.microsecond)


def test_ids_of_one_moment_are_told_apart() -> None:
    message = base64.urlsafe_b64decode(next(iter(GOOGLE))[3:] + "=")
    several = {"v1_" + base64.urlsafe_b64encode(message[:-1] + bytes((end,))).decode() for end in range(64)}
    assert len({by_time(upstream_id) for upstream_id in several}) > 60


@given(st.one_of(st.text(), st.text().map("v1_".__add__), st.builds(interaction_id)))
def test_any_text_has_a_place(upstream_id: str) -> None:
    try:
        upstream_id.encode()
    except UnicodeEncodeError:
        return
    place = by_time(upstream_id)
    assert place == by_time(upstream_id)
    assert -(2**63) <= place < 2**63


@pytest.mark.parametrize("upstream_id", [next(iter(GOOGLE)), "int_987654"])
async def test_an_interaction_is_found_by_its_upstream_id_in_either_place(
    store_url: str, upstream_id: str
) -> None:
    begun = intent()
    async with open_store(store_url) as opened:
        await opened.store.begin(begun, b"{}")
        await opened.store.finish(outcome(begun.id, upstream_id=upstream_id), b'{"status":"completed"}')
        for place in (by_time(upstream_id), by_hash(upstream_id)):
            change = f"UPDATE interactions SET upstream_id_hash = {place} WHERE upstream_id = '{upstream_id}'"
            await query(store_url, change)
            found = await opened.store.find_by_upstream_id(DEFAULT_PROJECT, upstream_id)
            assert found is not None
            assert found.id == begun.id
            assert [holder.id for holder in await opened.store.holders(upstream_id)] == [begun.id]
