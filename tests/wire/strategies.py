"""Steps, contents and outputs as upstream might send them, and as it never yet has."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from service.wire.steps import TOOL_TYPES

Dicts = st.SearchStrategy[dict[str, Any]]

scalars: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=6)
)
values: st.SearchStrategy[Any] = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
objects = st.dictionaries(st.text(max_size=4), values, max_size=3)
#: Members that no schema knows; their names collide with none that it does.
extras: Dicts = st.dictionaries(st.sampled_from(["x_a", "x_b", "x_c"]), values, max_size=2)


def record(required: dict[str, st.SearchStrategy[Any]], optional: dict[str, st.SearchStrategy[Any]]) -> Dicts:
    """A dict with these members and sometimes unknown ones."""
    return st.builds(
        lambda known, unknown: {**unknown, **known},
        st.fixed_dictionaries(required, optional=optional),
        extras,
    )


def of_type(name: str) -> dict[str, st.SearchStrategy[Any]]:
    return {"type": st.just(name)}


citations = st.lists(
    record(of_type("url_citation"), {"url": st.text(max_size=5), "end_index": st.integers(0, 9)}), max_size=2
)
texts = record(of_type("text") | {"text": st.text(max_size=8)}, {"annotations": citations | st.none()})
bare_texts = record(of_type("text"), {"text": st.none()})
media = st.sampled_from(["image", "audio", "video", "document"]).flatmap(
    lambda name: record(
        of_type(name), {"data": st.just("aGk="), "uri": st.text(max_size=5), "mime_type": st.text(max_size=5)}
    )
)
contents: Dicts = texts | media | bare_texts

thoughts = record(
    of_type("thought"),
    {
        "signature": st.text(max_size=6) | st.none(),
        "summary": st.lists(texts | media | objects, max_size=3) | st.none(),
    },
)
function_calls = record(
    of_type("function_call") | {"id": st.text(max_size=4), "name": st.text(max_size=4)},
    {"arguments": objects, "signature": st.text(max_size=4)},
)
tools = st.sampled_from(sorted(TOOL_TYPES)).flatmap(
    lambda name: record(
        of_type(name),
        {
            "id": st.text(max_size=4),
            "call_id": st.text(max_size=4),
            "name": st.text(max_size=4),
            "arguments": objects,
            "result": values,
            "is_error": st.booleans(),
            "signature": st.text(max_size=4) | st.none(),
        },
    )
)
unknown_steps = record(
    {
        "type": st.sampled_from(
            ["compaction", "elicitation_call", "playback_complete", "tool_call", "retrieval"]
        )
    },
    {"content": values, "signature": st.text(max_size=4), "text": values, "arguments": values},
)
#: Steps that are one output each in the legacy form.
single_steps: Dicts = thoughts | function_calls | tools | unknown_steps

#: What the legacy form can carry: a model_output that has content and nothing else.
plain_outputs: Dicts = st.fixed_dictionaries(
    of_type("model_output") | {"content": st.lists(contents, min_size=1, max_size=4)}
)
odd_outputs: Dicts = record(
    of_type("model_output"),
    {
        "content": st.lists(contents | record(of_type("table"), {}), max_size=4)
        | st.text(max_size=5)
        | st.none(),
        "error": objects,
    },
)
user_inputs: Dicts = st.fixed_dictionaries(
    of_type("user_input") | {"content": st.lists(contents, max_size=2) | st.text(max_size=5)}
)

model_steps: Dicts = plain_outputs | single_steps
legacy_step_lists = st.lists(model_steps, max_size=6)
step_lists = st.lists(model_steps | odd_outputs | user_inputs, max_size=6)
output_lists = st.lists(contents | single_steps, max_size=8)

statuses = st.sampled_from(
    ["completed", "requires_action", "incomplete", "failed", "cancelled", "budget_exceeded"]
)
interactions: Dicts = st.builds(
    lambda members, steps: {**members, "steps": steps},
    st.fixed_dictionaries(
        {"id": st.just("v1_abc"), "status": statuses},
        optional={
            "object": st.just("interaction"),
            "model": st.just("gemini-3.8-flash"),
            "created": st.just("2026-08-07T16:33:32Z"),
            "usage": st.fixed_dictionaries(
                {"total_tokens": st.integers(0, 9), "total_thought_tokens": st.integers(0, 9)}
            ),
            "x_future": values,
        },
    ),
    step_lists,
)
