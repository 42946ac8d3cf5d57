from __future__ import annotations

from typing import Any

import pytest

from service.errors import InvalidRequest
from service.wire.webhooks import event_id, event_type, parse

GOOD = "https://example.com/hook?a=b"


def test_absent_and_null_are_none() -> None:
    assert parse(None, background=False) is None
    assert parse(None, background=True) is None


def test_it_is_shown_as_it_was_given() -> None:
    given = {"uris": [GOOD, "http://10.0.0.1:8080/x"], "user_metadata": {"job": 42, "big": 2**70}}
    config = parse(given, background=True)
    assert config is not None
    assert config.shown() == given


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ("https://example.com", "'webhook_config'"),
        ({}, "'webhook_config.uris'"),
        ({"uris": []}, "'webhook_config.uris'"),
        ({"uris": GOOD}, "'webhook_config.uris'"),
        ({"uris": [GOOD] * 9}, "at most 8"),
        ({"uris": [GOOD, 7]}, "'webhook_config.uris[1]'"),
        ({"uris": ["/hook"]}, "'webhook_config.uris[0]'"),
        ({"uris": ["ftp://example.com/"]}, "'webhook_config.uris[0]'"),
        ({"uris": ["https://"]}, "'webhook_config.uris[0]'"),
        ({"uris": ["https://example.com:0/"]}, "'webhook_config.uris[0]'"),
        ({"uris": ["https://example.com:99999/"]}, "'webhook_config.uris[0]'"),
        ({"uris": ["https://[::1/"]}, "'webhook_config.uris[0]'"),
        ({"uris": ["https://user:word@example.com/"]}, "user name"),
        ({"uris": ["https://example.com/#part"]}, "fragment"),
        ({"uris": ["https://example.com/a b"]}, "Percent-encode"),
        ({"uris": ["https://exämple.com/"]}, "Percent-encode"),
        ({"uris": ["https://example.com/\r\nx: y"]}, "Percent-encode"),
        ({"uris": ["https://example.com/" + "a" * 2048]}, "2048 characters"),
        ({"uris": [GOOD], "user_metadata": []}, "'webhook_config.user_metadata'"),
        ({"uris": [GOOD], "user_metadata": {"a": "b" * 17_000}}, "16384 bytes"),
        ({"uris": [GOOD], "uri": GOOD}, "Unknown parameter 'uri'"),
    ],
)
def test_what_cannot_be_served_is_refused_by_name(value: Any, named: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse(value, background=True)
    assert named in refused.value.message
    assert "webhook_config" in refused.value.message


def test_only_background_runs_tell_anybody() -> None:
    with pytest.raises(InvalidRequest, match="background=true is required for 'webhook_config'"):
        parse({"uris": [GOOD]}, background=False)


def test_a_receiver_is_told_once_however_often_it_is_named() -> None:
    config = parse({"uris": [GOOD, GOOD]}, background=True)
    assert config is not None
    assert config.uris == (GOOD,)


def test_the_id_of_an_event_is_that_of_its_interaction() -> None:
    assert event_id("int_abc") == "msg_abc"


def test_a_status_that_nobody_knows_is_told_as_a_failure() -> None:
    assert event_type("new_status") == "interaction.failed"
