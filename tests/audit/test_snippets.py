"""Snippets, of texts that are ASCII and of others alike."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from service.audit import words
from service.audit.snippets import Snippets

_KNOWN = [
    "zebra",
    "Zebra's",
    "the",
    "committee",
    "com-mittee",
    "commit",
    "of",
    "a_b",
    "zebra1",
    "12",
    "3.14",
    "y" * 300,
]
_SEARCHES = [
    "zebra",
    "commit*",
    '"the committee"',
    "zebra OR commit",
    '"of the comm"*',
    "zebra -of",
    '"a b"',
    "yyy*",
]
_FAR = " elsewhere" * 60


@st.composite
def _texts(draw: st.DrawFn) -> str:
    some = draw(st.lists(st.sampled_from(_KNOWN) | st.text("abcxyz_", min_size=1), max_size=60))
    return draw(st.sampled_from([" ", ". ", ", ", "\n", "-" * 250])).join(some)


@given(_texts(), st.sampled_from(_SEARCHES))
@example("azebra zebra1 zebra_ zebra", "zebra")
@example(f"word {'-' * 420} a b c d e f g h zebra and more", "zebra")
@example(f"{'x ' * 510}the committee of all", '"the committee of" OR committee')
@example(f"{'x ' * 509}zebra the", '"zebra the"')
def test_what_is_ascii_has_the_snippets_of_any_text(text: str, search: str) -> None:
    snippets = Snippets(words.parse(search))
    one, other = text + _FAR, text + _FAR + " \u00e9"
    assert snippets.of_document(one, "") == snippets.of_document(other, "")


def test_a_snippet_begins_a_few_words_before_and_tells_all_that_was_found() -> None:
    text = "one two three four five six seven eight nine ten zebra, then a Zebra." + _FAR
    ((snippet),) = Snippets(words.parse("zebra")).of_document("nothing", text)
    assert snippet["in"] == "output"
    assert snippet["text"].startswith("\u2026three four")
    found = [snippet["text"][start:end] for start, end in snippet["highlights"]]
    assert found == ["zebra", "Zebra"]
