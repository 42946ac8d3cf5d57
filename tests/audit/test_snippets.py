"""Snippets, of texts that are ASCII and of others alike."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.audit import words
from service.audit.folding import words_of
from service.audit.snippets import Snippets
from service.audit.texts import separated

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
_MARKED = [
    *map(chr, (0x301, 0x323, 0x20DD, 0x5B8, 0x64E, 0x93F, 0x94D, 0xE31, 0xE49, 0x3099, 0xFF9E, 0xFE0F)),
    *"eaשلनกがｶ漢한・ ",
    "école",
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


@st.composite
def _marked_texts(draw: st.DrawFn) -> tuple[str, list[str]]:
    text = "".join(draw(st.lists(st.sampled_from(_MARKED), max_size=12)))
    known = st.sampled_from([*words_of(separated(text)).split(), "e", "nothing"])
    return text, draw(st.lists(known, min_size=1, max_size=2))


@given(_marked_texts())
@example(("e\u0301cole normale", ["ecole"]))
def test_a_text_with_marks_has_a_snippet_where_its_words_are_those_of_a_phrase(
    given: tuple[str, list[str]],
) -> None:
    text, asked = given
    there = words_of(separated(text)).split()
    found = any(there[at : at + len(asked)] == asked for at in range(len(there)))
    snippets = Snippets(words.parse(f'"{" ".join(asked)}"')).of_document(separated(text), "")
    assert bool(snippets) == found
    for snippet in snippets:
        assert snippet["highlights"]
        for start, end in snippet["highlights"]:
            lit = words_of(separated(snippet["text"][start:end])).split()
            assert set(asked) <= set(lit)
            assert not unicodedata.combining(snippet["text"][end : end + 1] or " ")


@pytest.mark.parametrize(
    ("text", "search", "lit"),
    [
        ("zur e\u0301cole normale", "école", "e\u0301cole"),
        (unicodedata.normalize("NFD", "Tiếng Việt rất hay"), "viet", unicodedata.normalize("NFD", "Việt")),
        ("اُكْتُبْ لِي قَصِيدَةً عَنِ البَحْرِ", "قصيدة", "قَصِيدَةً"),
        ("שָׁלוֹם עֲלֵיכֶם", "שלום", "שָׁלוֹם"),
        ("मुझे हिन्दी में", "हिन्दी", "हिन्दी"),
        ("ฉันอยากกินข้าวผัดกุ้ง", "กุ้ง", "กุ้ง"),
        ("ア・イ", '"アイ"', "ア・イ"),
        ("ｶﾞｷﾞ", "カキ", "ｶﾞｷﾞ"),
        ("about ½ of it", "½", "½"),
    ],
)
def test_what_is_found_is_lit_with_its_marks(text: str, search: str, lit: str) -> None:
    (snippet,) = Snippets(words.parse(search)).of_document(separated(text), "")
    ((start, end),) = snippet["highlights"]
    assert snippet["text"][start:end] == lit


@pytest.mark.parametrize(
    ("text", "search", "lit"),
    [
        # What is one word as it is written is two when it is folded.
        ("half ½ of it", "2 half", ["half", "½"]),
        ("alpha beta gamma delta", '"alpha beta" OR "beta gamma" delta', ["alpha beta gamma", "delta"]),
        ("alpha beta gamma", '"alpha beta gamma" OR beta', ["alpha beta gamma"]),
        ("東京都", '"東京" OR 都', ["東京", "都"]),
        ("東京都", '"東京" OR "京都"', ["東京都"]),
    ],
)
@pytest.mark.parametrize("behind", ["", _FAR])
def test_nothing_is_lit_twice(text: str, search: str, lit: list[str], behind: str) -> None:
    (snippet,) = Snippets(words.parse(search)).of_document(separated(text + behind), "")
    assert [snippet["text"][start:end] for start, end in snippet["highlights"]] == lit


def test_any_number_of_marks_is_looked_through_at_once() -> None:
    marks = "\u0301" * 50_000
    text = f"e{marks} {marks}\u093f zebra"
    (snippet,) = Snippets(words.parse("zebra")).of_document(text, "")
    ((start, end),) = snippet["highlights"]
    assert snippet["text"][start:end] == "zebra"
