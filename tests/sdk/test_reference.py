"""The reference page says what the docstrings say."""

from __future__ import annotations

from docs.reference import PATH, reference


def test_the_reference_is_up_to_date() -> None:
    assert PATH.read_text("utf-8") == reference(), "run make docs"
