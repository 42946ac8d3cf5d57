"""Scripts: what clients ask for and what upstream forgets meanwhile, as data that hypothesis makes and shrinks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

from hypothesis import strategies as st

from service.emulator.signatures import SKIP
from tests.interactions.conversations import CHECKPOINT, WEATHER, said
from tests.support.replies import Json

Caller: TypeAlias = Literal["steps", "legacy", "unknown"]
Way: TypeAlias = Literal["unary", "stream", "background"]
#: What is asked of the service: nothing, that nothing stays upstream, or `store:false`.
Keeping: TypeAlias = Literal["upstream", "local", "unstored"]

TIME = {"type": "function", "name": "get_time", "parameters": {"type": "object", "properties": {}}}
SEARCH = {"type": "google_search"}
TOOLS: dict[str, list[Json]] = {
    "": [],
    "one": [WEATHER],
    "parallel": [WEATHER, TIME],
    "search": [SEARCH],
    "both": [SEARCH, WEATHER],
}
_PIXEL = {
    "type": "image",
    "mime_type": "image/png",
    "data": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==",
}


class Ask(NamedTuple):
    """One create; `anchor` counts the interactions that can be continued from the newest, None begins a tree."""

    anchor: int | None = None
    words: str = ""
    shape: str = "text"
    caller: Caller = "steps"
    way: Way = "unary"
    place: int = 0
    tools: str = ""
    wish: str = ""
    keeping: Keeping = "upstream"
    #: Give the anchor's function calls their results, where it has any.
    answers: bool = True
    #: Name the anchor by upstream's id, where it has one.
    alias: bool = False
    #: Let an agent run, where none has before.
    agent: bool = False
    #: Show a picture as well, by the URI of a file.
    picture: bool = False


class Together(NamedTuple):
    """Creates that run at the same time."""

    asks: tuple[Ask, ...]


class Wipe(NamedTuple):
    """One upstream forgets everything."""

    upstream: int


class Lose(NamedTuple):
    """Upstream has deleted one interaction, counted from the newest."""

    node: int


class Later(NamedTuple):
    """Time passes for all upstreams."""

    days: int


class Delete(NamedTuple):
    """The client deletes one interaction, counted from the newest."""

    node: int


Action: TypeAlias = Ask | Together | Wipe | Lose | Later | Delete
Script: TypeAlias = list[Action]


class Said(NamedTuple):
    """An input as it is sent, and the steps that it means."""

    sent: Any
    means: list[Json]


def _text(words: str) -> Json:
    return {"type": "text", "text": words}


def _user(*content: Json) -> Json:
    return {"type": "user_input", "content": list(content)}


def _model(words: str) -> Json:
    return {"type": "model_output", "content": [_text(words)]}


def _same(*steps: Json) -> Said:
    return Said(list(steps), list(steps))


_CALL = {"id": "call-of-another", "name": "look", "arguments": {"at": ["this", 1, None]}}
_RESULT = {"call_id": "call-of-another", "name": "look", "result": {"seen": [1.5, None, "\u2028"]}}
#: With a null member, as clients send what they have dumped from an SDK's model (contract 2.2).
_THOUGHT = {"type": "thought", "signature": SKIP, "summary": None}


def _history(words: str) -> Said:
    """A whole stateless history with steps that no schema knows."""
    compaction = {"type": "compaction", "payload": {"of": words, "none": None}, "label": words}
    steps = [said(f"Before {words}"), _THOUGHT, _model(f"So {words}"), compaction]
    return Said(
        [*steps, {"type": "user_input", "content": words}],
        [*steps, said(words)],
    )


def _called(words: str) -> Said:
    call = {"type": "function_call", **_CALL}
    result = {"type": "function_result", **_RESULT}
    return _same(said(f"Look {words}"), _THOUGHT, call, result, _model(f"Saw {words}"), said(words))


def _turns(words: str) -> Said:
    """Legacy turns with a call among them (contract 5.6)."""
    call = {"type": "function_call", **_CALL}
    result = {"type": "function_result", **_RESULT}
    turns = [
        {"role": "user", "content": f"Look {words}"},
        {"role": "model", "content": [_THOUGHT, call]},
        {"role": "user", "content": [result]},
        {"role": "model", "content": f"Saw {words}"},
        {"role": "user", "content": [_text(words), _PIXEL]},
    ]
    means = [
        said(f"Look {words}"),
        _THOUGHT,
        call,
        result,
        _model(f"Saw {words}"),
        _user(_text(words), _PIXEL),
    ]
    return Said(turns, means)


_EVERYBODYS = {
    "text": lambda words: Said(words, [said(words)]),
    "object": lambda words: Said(_text(words), [said(words)]),
    "contents": lambda words: Said([_text(words), _PIXEL], [_user(_text(words), _PIXEL)]),
    "nulls": lambda words: Said(
        [{**_text(words), "annotations": None}], [_user({**_text(words), "annotations": None})]
    ),
}
_STEPS = {
    "step": lambda words: _same(said(words)),
    "users": lambda words: _same(said(f"Well, {words}"), _user(_text(words), _PIXEL)),
    "history": _history,
    "called": _called,
}
_LEGACY = {
    "turn": lambda words: Said([{"role": "user", "content": words}], [said(words)]),
    "turns": _turns,
}
_SHAPES: dict[str, Callable[[str], Said]] = {**_EVERYBODYS, **_STEPS, **_LEGACY}
_CALLERS: dict[Caller, tuple[str, ...]] = {
    "steps": (*_EVERYBODYS, *_STEPS),
    "legacy": (*_EVERYBODYS, *_LEGACY, *_LEGACY),
    # Shows its generation by the shape of its input at most.
    "unknown": tuple(_SHAPES),
}


def input_of(ask: Ask, words: str) -> Said:
    """The input in the shape that is asked for."""
    return _SHAPES[ask.shape](words)


def results_of(ask: Ask, calls: list[Json], words: str) -> Said:
    """The results of function calls, and words after them where a legacy caller sends both in one list."""
    as_text = ask.shape in ("text", "object", "turn")
    result: Any = words if as_text else [_text(words), _PIXEL]
    steps = [
        {"type": "function_result", "call_id": call["id"], "name": call["name"], "result": result}
        for call in calls
    ]
    if ask.shape == "turns":
        return Said([{"role": "user", "content": steps}], steps)
    if ask.caller == "legacy" and ask.shape == "contents":
        return Said([*steps, _text(words)], [*steps, said(words)])
    return Said(steps, steps)


_WISHES = (
    "story",
    "fragments;count=3",
    "incomplete",
    "call",
    "continuation;hops=3",
    "u2028",
    "flat_outputs",
)

asks = st.builds(
    lambda caller, **members: Ask(caller=caller[0], shape=caller[1], **members),
    caller=st.sampled_from([(caller, shape) for caller, shapes in _CALLERS.items() for shape in shapes]),
    anchor=st.sampled_from([0, 0, 0, None, 1, 2, 3, 5, 8]),
    words=st.text(max_size=5),
    way=st.sampled_from(["unary", "stream", "unary", "stream", "background"]),
    place=st.sampled_from([0, 0, 0, 1, 1, 2]),
    tools=st.sampled_from(["", "", *TOOLS]),
    wish=st.sampled_from(["", "", "", *_WISHES]),
    keeping=st.sampled_from(["upstream", "upstream", "upstream", "local", "unstored"]),
    answers=st.sampled_from([True, True, False]),
    alias=st.booleans(),
)
#: Answers that are gone on with from their middle.
_checkpoints = st.builds(
    lambda anchor, words, place: Ask(anchor, words, way="stream", place=place, wish=CHECKPOINT),
    anchor=st.sampled_from([0, None, 1, 3]),
    words=st.text(max_size=5),
    place=st.sampled_from([0, 1, 2]),
)
_agents = st.builds(
    lambda anchor, words, way, picture: Ask(anchor, words, way=way, agent=True, picture=picture),
    anchor=st.sampled_from([None, None, 0, 1]),
    words=st.text(max_size=5),
    way=st.sampled_from(["unary", "stream"]),
    picture=st.booleans(),
)
_pictures = st.builds(
    lambda anchor, words, way, place, keeping: Ask(
        anchor, words, way=way, place=place, keeping=keeping, picture=True
    ),
    anchor=st.sampled_from([0, None, 1, 3]),
    words=st.text(max_size=5),
    way=st.sampled_from(["unary", "stream", "background"]),
    place=st.sampled_from([0, 1, 2]),
    keeping=st.sampled_from(["upstream", "upstream", "local", "unstored"]),
)
_nodes = st.integers(0, 8)
actions: st.SearchStrategy[Action] = st.one_of(
    asks,
    asks,
    asks,
    _checkpoints,
    _agents,
    _pictures,
    st.builds(Together, st.lists(asks, min_size=2, max_size=3).map(tuple)),
    st.builds(Wipe, st.integers(0, 1)),
    st.builds(Lose, _nodes),
    st.builds(Later, st.integers(1, 60)),
    st.builds(Delete, _nodes),
)
#: Every script begins with something to talk about.
scripts: st.SearchStrategy[Script] = st.builds(
    lambda first, rest: [first, *rest], asks, st.lists(actions, min_size=3, max_size=11)
)
