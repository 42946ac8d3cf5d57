from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import InvalidRequest
from service.wire.envelope import Envelope, parse


def parsed(**members: Any) -> Envelope:
    return parse(orjson.dumps(members))


def test_the_least_a_request_can_be() -> None:
    body = {"model": "gemini-3.8-flash", "input": "Hello"}
    assert parse(orjson.dumps(body)) == Envelope(
        body=body,
        model="gemini-3.8-flash",
        agent=None,
        stream=False,
        store=True,
        background=False,
        previous_interaction_id=None,
        continuation_token=None,
        has_input=True,
    )


def test_every_member_is_read_and_unknown_ones_are_kept() -> None:
    body = {
        "agent": "deep-research-preview-04-2026",
        "input": [{"type": "user_input", "content": "Research."}],
        "stream": True,
        "store": True,
        "background": True,
        "previous_interaction_id": "v1_abc",
        "x_future": {"anything": [1, None]},
    }
    envelope = parse(orjson.dumps(body))
    assert (envelope.agent, envelope.model) == ("deep-research-preview-04-2026", None)
    assert (envelope.stream, envelope.store, envelope.background) == (True, True, True)
    assert envelope.previous_interaction_id == "v1_abc"
    assert envelope.body == body


def test_null_members_count_as_absent() -> None:
    envelope = parsed(
        model="m",
        agent=None,
        input="a",
        stream=None,
        store=None,
        background=None,
        previous_interaction_id=None,
    )
    assert (envelope.model, envelope.agent) == ("m", None)
    assert (envelope.stream, envelope.store, envelope.background) == (False, True, False)
    assert envelope.previous_interaction_id is None


def test_a_continuation_needs_no_input() -> None:
    envelope = parsed(model="cont", continuation_token="tok-1", previous_interaction_id="v1_hop1")
    assert envelope.continuation_token == "tok-1"
    assert not envelope.has_input


def test_integers_beyond_64_bits_are_kept_exactly() -> None:
    envelope = parse(b'{"model":"m","input":[{"type":"text","text":"a","n":123456789012345678901234567890}]}')
    assert envelope.body["input"][0]["n"] == 123456789012345678901234567890


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"input": "a"}, "Missing 'model' or 'agent'. Set exactly one of them."),
        ({"model": None, "input": "a"}, "Missing 'model' or 'agent'. Set exactly one of them."),
        (
            {"model": "m", "agent": "a", "input": "a"},
            "Both 'model' and 'agent' are set. Set exactly one of them.",
        ),
        ({"model": 5, "input": "a"}, "The value is invalid for 'model'. Expected a string, got number."),
        ({"model": "", "input": "a"}, "The value is invalid for 'model'. Expected a non-empty string."),
        ({"model": "a\0b", "input": "a"}, "The value is invalid for 'model'. Remove the NUL character."),
        ({"agent": ["x"], "input": "a"}, "The value is invalid for 'agent'. Expected a string, got array."),
        (
            {"model": "m", "input": "a", "stream": "true"},
            "The value is invalid for 'stream'. Expected a boolean, got string.",
        ),
        (
            {"model": "m", "input": "a", "store": 0},
            "The value is invalid for 'store'. Expected a boolean, got number.",
        ),
        (
            {"model": "m", "input": "a", "background": {}},
            "The value is invalid for 'background'. Expected a boolean, got object.",
        ),
        (
            {"model": "m", "input": "a", "previous_interaction_id": 7},
            "The value is invalid for 'previous_interaction_id'. Expected a string, got number.",
        ),
        (
            {"model": "m", "continuation_token": True},
            "The value is invalid for 'continuation_token'. Expected a string, got boolean.",
        ),
        ({"model": "m"}, "Missing input."),
        ({"model": "m", "input": None}, "Missing input."),
        ({"model": "m", "input": ""}, "Request has empty input."),
        ({"model": "m", "input": []}, "Request has empty input."),
        ({"model": "m", "input": {}}, "Request has empty input."),
        (
            {"model": "m", "input": 5},
            "The value is invalid for 'input'. Expected a string, an object, or an array, got number.",
        ),
        (
            {"model": "m", "input": [{"type": "text", "text": "a"}, None]},
            "The value is invalid for 'input[1]'. Expected an object, got null.",
        ),
        (
            {"model": "m", "input": "a", "store": False, "background": True},
            "store=true is required for background interactions",
        ),
    ],
)
def test_a_request_at_fault_is_told_which_member_and_what_to_do(
    members: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(orjson.dumps(members))
    assert caught.value.message == message
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "raw", [b"", b"{", b'{"model":"\\ud800","input":"a"}', b'{"model":"\xff","input":"a"}']
)
def test_a_body_that_is_not_json_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="Invalid JSON payload"):
        parse(raw)


@pytest.mark.parametrize(
    ("raw", "kind"), [(b"[1,2]", "array"), (b'"a"', "string"), (b"null", "null"), (b"3", "number")]
)
def test_a_body_that_is_no_object_is_refused(raw: bytes, kind: str) -> None:
    with pytest.raises(InvalidRequest, match=f"expected an object, got {kind}"):
        parse(raw)


def test_what_is_googles_to_refuse_is_let_through() -> None:
    assert parsed(agent="a", input="x", generation_config={"seed": 1}).agent == "a"
    assert parsed(model="m", input="x", labels=5, tools="nonsense").model == "m"


@given(st.binary(max_size=60))
def test_any_bytes_are_parsed_or_refused(raw: bytes) -> None:
    try:
        parse(raw)
    except InvalidRequest as error:
        refused = error.message
    else:
        refused = "not refused"
    assert refused
