"""The times of a batch of events come back as they were, in as few bytes as they need."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from service.store.timings import pack, unpack

pauses = st.integers(0, 200) | st.integers(0, 2**40)


@given(st.lists(pauses, max_size=20))
def test_pauses_come_back(before: list[int]) -> None:
    assert unpack(pack(before)) == before


@given(st.lists(st.integers(0, 127), max_size=20))
def test_short_pauses_take_a_byte_each(before: list[int]) -> None:
    assert len(pack(before)) == len(before)
