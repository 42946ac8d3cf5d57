"""What a replay may change, and what it gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypedDict, TypeVar

from service.sdk.calls import Answer
from service.sdk.errors import InvalidAnswer
from service.sdk.interactions import AsyncInteraction, Interaction
from service.sdk.params import CallOptions, Connection, Input, Item, check_names, plain

Told = TypeVar("Told", Interaction, AsyncInteraction, dict[str, Any])


class ReplayChanges(TypedDict, total=False):
    """Changes to the request that is sent again; None takes a field out, objects are merged member by member."""

    model: str | None
    agent: str | None
    input: Input
    system_instruction: str | None
    tools: Sequence[Item] | None
    generation_config: Mapping[str, Any] | None
    #: Members of ``generation_config`` by themselves.
    temperature: float | None
    top_p: float | None
    seed: int | None
    max_output_tokens: int | None
    thinking_level: str | None
    agent_config: Mapping[str, Any] | None
    response_format: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None
    labels: Mapping[str, str | None] | None
    store: bool
    background: bool
    stream: bool
    #: Seconds that the service waits for the end of the replay.
    wait: float
    #: Whether to compare it with the original; it is if nothing is said.
    compare: bool
    #: Fields that this version does not know.
    extra_body: Mapping[str, Any]


class ReplayOptions(ReplayChanges, CallOptions, total=False):
    """What :meth:`replay_interaction` takes besides the id."""


class ReplayCall(ReplayOptions, Connection, total=False):
    """What the function :func:`replay_interaction` takes besides the id."""


@dataclass(frozen=True, slots=True)
class Replay(Generic[Told]):
    """A request that was sent again."""

    #: The new interaction.
    interaction: Told
    #: The id of the one whose request was sent again.
    replay_of: str
    #: Status, text, tool calls, usage, cost and latency of both; None where it was not wished for.
    comparison: dict[str, Any] | None


_CHANGES: Final = frozenset(ReplayChanges.__annotations__)
_KNOWN: Final = _CHANGES | frozenset(CallOptions.__annotations__)


def replay_body(options: Mapping[str, Any]) -> dict[str, Any]:
    """The body of a replay; raises :class:`TypeError` for an unknown argument."""
    check_names("replay_interaction", options, _KNOWN)
    body = {name: plain(options[name]) for name in (_CHANGES - {"extra_body"}) & options.keys()}
    return body | dict(plain(options.get("extra_body") or {}))


def replayed(answer: Answer) -> Replay[dict[str, Any]]:
    """What an answer tells of a replay; raises a :class:`StatusError`, or :class:`InvalidAnswer`."""
    body = answer.json()
    interaction, replay_of = body.get("interaction"), body.get("replay_of")
    if not isinstance(interaction, dict) or not isinstance(replay_of, str):
        raise InvalidAnswer("The answer to a replay tells no interaction.", status=answer.status)
    return Replay(interaction, replay_of, body.get("comparison"))
