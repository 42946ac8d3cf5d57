"""Lists and replays, in every form, with a service inside the process and with one that runs elsewhere."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pytest

from service import BadRequest, InteractionCreated, InteractionNotFound, ServiceFailed
from service.audit.fields import FIELDS, names
from service.audit.wanted import Order
from service.sdk.filters import ListFilters, Texts
from tests.support.sdk import Sdk


def test_what_is_stored_can_be_listed(sdk: Sdk) -> None:
    word = f"w{uuid.uuid4().hex}"
    made = [sdk.create(f"{word} {number}") for number in range(3)]
    streamed = sdk.stream(f"{word} too")
    with pytest.raises(ServiceFailed) as failed:
        sdk.create(word, extra_headers={"x-emulator-fault": "status;code=500"})
    found = _eventually(lambda: sdk.found(q=word), 5)
    assert [summary.id for summary in found[2:]] == [one.id for one in reversed(made)]
    assert {summary.status for summary in found} == {"completed", "failed"}
    assert [summary.id for summary in sdk.found(q=word, status="failed")] == [failed.value.interaction_id]
    assert len(sdk.found(q=word, status=["failed", "completed"], order="asc", limit=2)) == 5
    (summary,) = sdk.found(q=word, stream=True, min_output_tokens=1)
    assert isinstance(streamed[0], InteractionCreated)
    assert summary.id == streamed[0].interaction.id
    assert summary.model == "gemini-2.5-flash"
    assert summary.usage
    assert summary.duration is not None
    assert summary.snippets
    assert not summary.model_extra, "what a list tells that a summary does not know"
    assert sdk.found(q=word, order="rank", max_depth=0, min_first_event=0)


def test_whatever_the_api_filters_by_can_be_asked_for() -> None:
    known = get_type_hints(ListFilters)
    own = {"labels", "extra_query"}
    assert {name.removesuffix("_") for name in known.keys() - own} == {*names(), "order", "limit", "cursor"}
    assert set(get_args(known["order"])) == set(get_args(Order))
    for name, field in FIELDS.items():
        kinds = {"flag": bool, "number": int if field.scale == 1 else float}
        spelled = [name, f"min_{name}", f"max_{name}"] if field.kind == "number" else [name]
        assert [known[one] for one in spelled] == [kinds.get(field.kind, Texts)] * len(spelled)


def test_pages_can_be_turned_by_hand(sdk: Sdk) -> None:
    word = f"w{uuid.uuid4().hex}"
    made = [sdk.create(f"{word} {number}").id for number in range(3)]
    _eventually(lambda: sdk.found(q=word), 3)
    first = sdk.page(q=word, limit=2)
    second = sdk.page(q=word, limit=2, cursor=first.next_cursor)
    assert second.next_cursor is None
    assert [one.id for one in (*first.interactions, *second.interactions)] == made[::-1]
    with pytest.raises(TypeError, match="did you mean 'status'"):
        sdk.found(statuss="failed")
    with pytest.raises(BadRequest):
        sdk.found(limit=-1)


def test_a_request_can_be_sent_again_with_changes(sdk: Sdk) -> None:
    first = sdk.create("Call me Ada.")
    made = sdk.create("Who am I?", previous_interaction_id=first.id, system_instruction="Be brief.")
    again = sdk.replay(made.id)
    assert again.replay_of == made.id
    assert again.interaction.id != made.id
    assert again.interaction.output_text == made.output_text
    assert again.comparison is not None
    assert again.comparison["text"]["same"]
    changed = sdk.replay(
        made.id, input="And who are you?", system_instruction=None, temperature=0.5, compare=False
    )
    assert changed.comparison is None
    assert "And who are you?" in changed.interaction.output_text
    assert sdk.get(changed.interaction.id, include_input=True).input == "And who are you?"
    with pytest.raises(InteractionNotFound):
        sdk.replay("int_unknown")


def _eventually(look: Callable[[], list[Any]], count: int) -> list[Any]:
    """What a search finds once its index has come after the writes."""
    deadline = time.monotonic() + 30
    while len(found := look()) != count and time.monotonic() < deadline:
        time.sleep(0.05)
    return found
