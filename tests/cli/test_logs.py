"""A record is one line, and no credential survives in it."""

from __future__ import annotations

import logging
import sys

import pytest

from service.cli.logs import LineFormatter, redact


def line(message: str, *args: object, **members: object) -> str:
    record = logging.LogRecord("service.x", logging.WARNING, __file__, 1, message, args, None)
    vars(record).update(members)
    return LineFormatter().format(record)


def test_a_record_is_pairs_on_one_line() -> None:
    text = line("two\nlines \u2028 %s", "here", interaction="int_1", error='say "no"')
    assert len(text.splitlines()) == 1
    assert text.startswith("time=")
    assert " level=warning logger=service.x " in text
    assert r'message="two\nlines \u2028 here"' in text
    assert " interaction=int_1 " in text
    assert text.endswith(r'error="say \"no\""')


def test_an_exception_stays_on_the_line() -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        record = logging.LogRecord("service", logging.ERROR, __file__, 1, "failed", (), sys.exc_info())
    text = LineFormatter().format(record)
    assert len(text.splitlines()) == 1
    assert "ValueError: broken" in text


@pytest.mark.parametrize(
    "text",
    [
        "GET /v1beta/interactions/x?key=hunter2&alt=sse",
        "GET /interactions?alt=sse&KEY=hunter2",
        "Authorization: Bearer hunter2",
        "{'x-goog-api-key': 'hunter2'}",
        "x-api-key: hunter2",
        "postgresql://user:hunter2@host/db",
        "refused AIzahunter2xxxxxxxxxxxxxxxxxxxxx",
        "key sk-hunter2",
    ],
)
def test_credentials_do_not_reach_the_log(text: str) -> None:
    assert "hunter2" not in line(text)
    assert "***" in line(text)


def test_ordinary_text_stays_as_it_is() -> None:
    for text in ("task-12345 done", "http://127.0.0.1:4000/v1", "key is missing", "monkey=banana"):
        assert redact(text) == text
