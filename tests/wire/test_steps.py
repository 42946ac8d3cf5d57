from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given

from service.errors import InvalidRequest
from service.wire.steps import normalise_input, output_text
from tests.wire.strategies import contents, step_lists

HELLO = {"type": "text", "text": "Hello"}
IMAGE = {"type": "image", "mime_type": "image/png", "data": "aGk="}
RESULT = {
    "type": "function_result",
    "call_id": "gth23981",
    "name": "get_weather",
    "result": {"weather": "sunny"},
}


def user(*content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "user_input", "content": list(content)}


def model(*content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "model_output", "content": list(content)}


def text(value: str) -> dict[str, Any]:
    return {"type": "text", "text": value}


@pytest.mark.parametrize(
    ("value", "steps"),
    [
        ("Hello", [user(HELLO)]),
        (HELLO, [user(HELLO)]),
        ([HELLO, IMAGE], [user(HELLO, IMAGE)]),
        ([user(HELLO), model(text("Hi")), user(IMAGE)], [user(HELLO), model(text("Hi")), user(IMAGE)]),
        ([RESULT], [RESULT]),
        (RESULT, [RESULT]),
        (
            {"type": "user_input", "content": "Turn the lights down..."},
            [user(text("Turn the lights down..."))],
        ),
        ([{"type": "model_output", "content": "Done."}], [model(text("Done."))]),
        ([{"type": "user_input", "content": HELLO}], [user(HELLO)]),
        ([RESULT, HELLO, IMAGE, RESULT, HELLO], [RESULT, user(HELLO, IMAGE), RESULT, user(HELLO)]),
        ([HELLO, user(IMAGE), HELLO], [user(HELLO), user(IMAGE), user(HELLO)]),
        ([{"type": "compaction", "content": "opaque"}], [{"type": "compaction", "content": "opaque"}]),
        ([{"role": "user", "content": "a"}], [{"role": "user", "content": "a"}]),
        ([{"type": ["odd"], "x": None}], [{"type": ["odd"], "x": None}]),
        (
            [{"type": "user_input", "content": None, "x": None}],
            [{"type": "user_input", "content": None, "x": None}],
        ),
        ([], []),
    ],
)
def test_every_shape_of_input_becomes_steps(value: Any, steps: list[dict[str, Any]]) -> None:
    before = deepcopy(value)
    assert normalise_input(value) == steps
    assert value == before


@pytest.mark.parametrize("value", [None, 5, True, [5], [None], [[HELLO]]])
def test_what_is_not_built_of_strings_and_objects_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="The value is invalid for 'input"):
        normalise_input(value)


@given(step_lists)
def test_normalised_steps_stay_as_they_are(steps: list[dict[str, Any]]) -> None:
    normalised = normalise_input(steps)
    assert normalise_input(normalised) == normalised
    assert len(normalised) == len(steps)


@given(contents)
def test_one_content_is_one_user_input(content: dict[str, Any]) -> None:
    assert normalise_input(content) == normalise_input([content]) == [user(content)]


CALL = {"type": "function_call", "id": "1", "name": "f", "arguments": {}}
THOUGHT = {"type": "thought", "signature": "s"}


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([], ""),
        ([model(text("a"), text("b"))], "ab"),
        ([model(text("a")), THOUGHT, model(text("b"))], "ab"),
        ([model(text("a")), CALL, model(text("b"))], "b"),
        ([model(text("a")), CALL], "a"),
        ([model(text("a")), user(HELLO), model(text("b"))], "b"),
        ([model(text("a")), user(HELLO)], ""),
        ([model(text("a"), IMAGE, text("b"))], "b"),
        ([model(text("a")), model(IMAGE, text("b"))], "b"),
        ([model(text("a"), IMAGE)], "a"),
        ([model(text("a")), model(IMAGE)], "a"),
        ([model({"type": "text"}), model(text("b"))], "b"),
        ([{"type": "model_output", "content": "bare"}], "bare"),
        ([{"type": "model_output"}, {"type": "model_output", "content": None}], ""),
    ],
)
def test_output_text_is_the_last_run_of_model_text(steps: list[dict[str, Any]], expected: str) -> None:
    assert output_text(steps) == expected
