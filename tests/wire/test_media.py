from __future__ import annotations

import copy

import pytest

from service.wire import media
from tests.support.replies import Json

PICTURE = {"type": "image", "uri": "https://upstream/v1/files/a", "resolution": "low"}
STEPS: list[Json] = [
    {"type": "user_input", "content": [{"type": "text", "text": "Look"}, PICTURE]},
    {"type": "thought", "signature": "s", "summary": [{**PICTURE, "uri": "b"}]},
    {"type": "function_result", "result": [{"type": "audio", "uri": "c"}, "text", None]},
    {"type": "model_output", "content": [{"type": "video", "uri": "d"}, {"type": "document", "uri": "e"}]},
]
NONE_OF_THESE: list[Json] = [
    {"type": "user_input", "content": "uri"},
    {"type": "user_input", "content": [{"type": "image", "uri": "x", "data": "AAAA"}]},
    {"type": "user_input", "content": [{"type": "image", "uri": None}, {"type": "image", "uri": 5}]},
    {"type": "user_input", "content": [{"type": "text", "text": "x", "uri": "x"}]},
    {"type": "function_result", "result": {"type": "image", "uri": "x"}},
    {"type": "function_call", "arguments": {"content": [PICTURE]}},
    {"type": "future", "payload": [PICTURE]},
    {"type": "model_output"},
    {},
]


def test_media_are_found_wherever_content_may_stand() -> None:
    assert [content["uri"] for content in media.references(STEPS)] == [PICTURE["uri"], "b", "c", "d", "e"]


@pytest.mark.parametrize("step", NONE_OF_THESE)
def test_nothing_else_is_taken_for_media(step: Json) -> None:
    assert list(media.references([step])) == []
    (told,) = media.changed([step], lambda content: {})
    assert told is step


def test_steps_are_changed_without_touching_those_given() -> None:
    before = copy.deepcopy(STEPS)
    changed = media.changed(STEPS, lambda content: {"type": "text", "text": content["uri"]})
    assert before == STEPS
    assert changed[0]["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "text", "text": PICTURE["uri"]},
    ]
    assert changed[2]["result"][1:] == ["text", None]
    assert list(media.references(changed)) == []


def test_bytes_take_the_place_of_the_uri_alone() -> None:
    assert media.with_bytes(PICTURE, b"\x00\xff", "image/png") == {
        "type": "image",
        "resolution": "low",
        "data": "AP8=",
        "mime_type": "image/png",
    }
    own = media.with_bytes({**PICTURE, "mime_type": "image/webp"}, b"", "image/png")
    assert own["mime_type"] == "image/webp"


def test_a_text_without_the_member_cannot_refer() -> None:
    assert not media.may_refer(b'{"input":"a uri"}', None)
    assert media.may_refer(None, b'{"input":[{"type":"image","uri" : "x"}]}')
