"""Text in fragments: it is what was added, whenever it is looked at, and takes little more than its characters."""

from __future__ import annotations

import sys

from hypothesis import given
from hypothesis import strategies as st

from service.wire.fragments import Fragments


@given(st.lists(st.tuples(st.text(max_size=4), st.booleans()), max_size=100))
def test_text_is_what_was_added_whenever_it_is_looked_at(added: list[tuple[str, bool]]) -> None:
    fragments, told = Fragments(), ""
    for fragment, looked_at in added:
        fragments.add(fragment)
        told += fragment
        assert not looked_at or fragments.text() == told
    assert fragments.text() == told


def test_a_copy_goes_its_own_way() -> None:
    fragments = Fragments("a")
    copy = fragments.copy()
    copy.add("b")
    fragments.add("c")
    assert (fragments.text(), copy.text()) == ("ac", "ab")


def test_an_empty_fragment_is_one() -> None:
    assert not Fragments()
    assert not Fragments().copy()
    assert Fragments("").copy()


def test_many_fragments_take_little_more_than_their_characters() -> None:
    fragments = Fragments()
    for _ in range(10_000):
        fragments.add("four")
    held = sum(sys.getsizeof(piece) for piece in fragments._parts)
    assert held < 3 * len(fragments.text())
