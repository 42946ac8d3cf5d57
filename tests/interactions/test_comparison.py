"""How texts are told to differ."""

from __future__ import annotations

import pytest

from service.interactions.comparison import unified_diff

_UNENDED = "\\ No newline at end of text"


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("a", "b", ["-a", "+b"]),
        ("a\n", "b\n", ["-a", "+b"]),
        ("a\n", "a", ["-a", "+a", _UNENDED]),
        ("a", "a\n", ["-a", _UNENDED, "+a"]),
        ("a", "a\n\n", ["-a", _UNENDED, "+a", "+"]),
        ("a\r\nb", "a\nb", ["-a\r", "+a", " b"]),
        ("a\u2028b", "a\nb", ["-a\u2028b", "+a", "+b"]),
        ("a\x0cb", "a\x85b", ["-a\x0cb", "+a\x85b"]),
        ("", "a", ["+a"]),
        ("", "a\n", ["+a"]),
        ("\n", "", ["-"]),
    ],
)
def test_texts_that_differ_have_a_diff(before: str, after: str, told: list[str]) -> None:
    head, new_head, place, *lines = unified_diff(before, after, "int_1", "int_2").split("\n")
    assert (head, new_head) == ("--- int_1", "+++ int_2")
    assert place.startswith("@@ ")
    assert lines == told


@pytest.mark.parametrize("text", ["", "\n", "a", "a\n", "a\r\nb"])
def test_texts_that_are_the_same_have_none(text: str) -> None:
    assert unified_diff(text, text, "int_1", "int_2") == ""
