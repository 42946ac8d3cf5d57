from __future__ import annotations

import base64
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.wire import ids

times = st.integers(min_value=0, max_value=2**48 - 1)
keys = st.binary(min_size=16, max_size=16)


def test_minted_keys_are_strictly_increasing_version_7_uuids() -> None:
    minted = [ids.mint() for _ in range(10_000)]
    assert all(earlier < later for earlier, later in pairwise(minted))
    assert {len(key) for key in minted} == {16}
    assert {key[6] >> 4 for key in minted} == {7}


def test_creation_time_is_read_from_the_key() -> None:
    assert ids.created_at(bytes.fromhex("01a204e584d870d3bed011f3ee55ab50")) == 0x01A204E584D8


def test_keys_minted_in_order_have_times_in_order() -> None:
    times = [ids.created_at(ids.mint()) for _ in range(1000)]
    assert times == sorted(times)


@given(times, st.text())
def test_derived_keys_are_version_7_uuids_of_their_time(milliseconds: int, name: str) -> None:
    key = ids.derived(milliseconds, name)
    assert key == ids.derived(milliseconds, name)
    assert ids.created_at(key) == milliseconds
    assert (key[6] >> 4, key[8] >> 6) == (7, 2)


def test_derived_keys_of_different_names_differ() -> None:
    assert len({ids.derived(0, f"v1_{number}") for number in range(10_000)}) == 10_000


@given(keys)
def test_text_is_the_standard_base32_of_the_key(key: bytes) -> None:
    assert ids.to_text(key) == "int_" + base64.b32encode(key).decode().rstrip("=").lower()


@given(keys)
def test_text_reads_back_as_the_key(key: bytes) -> None:
    assert ids.from_text(ids.to_text(key)) == key


@given(st.text(alphabet="abcdefghijklmnopqrstuvwxyz234567", min_size=26, max_size=26))
def test_a_key_has_one_text_only(characters: str) -> None:
    text = "int_" + characters
    key = ids.from_text(text)
    assert key is None or ids.to_text(key) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "int_",
        "int_123",
        "v1_ChdPU0F4YWFtNkFwS2kxZThQZ05lbXdROBIXT1NBeGFhbTZBcEtpMWU4UGdOZW13UTg",
        "int_AGRAJ4M4HZ2LPNNIPK6XSIXX2E",
        "INT_agraj4m4hz2lpnnipk6xsixx2e",
        "int_agraj4m4hz2lpnnipk6xsixx2f",
        "int_agraj4m4hz2lpnnipk6xsixx2",
        "int_agraj4m4hz2lpnnipk6xsixx2ea",
        "int_agraj4m4hz2lpnnipk6xsixx2e\n",
        " int_agraj4m4hz2lpnnipk6xsixx2e",
        "int_agraj4m4hz2lpnnipk6xsix_2e",
        "int_agraj4m4hz2lpnnipk6xsix12e",
        "int_\u0661graj4m4hz2lpnnipk6xsixx2e",
    ],
)
def test_anything_but_the_canonical_text_is_not_an_id(text: str) -> None:
    assert ids.from_text(text) is None
