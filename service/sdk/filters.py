"""What lists of interactions are filtered by, and what they consist of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypedDict

from pydantic import Field

from service.sdk.models import Model
from service.sdk.params import CallOptions, Connection, check_names

_RENAMED: Final = {"from_": "from"}
#: One value, or several that are alternatives; ``any`` asks for those that have the member at all.
Texts = str | Sequence[str]


class ListFilters(TypedDict, total=False):
    """What :meth:`list_interactions` takes; all filters must hold."""

    #: Words in input and output.
    q: str
    #: Bounds of the time of creation, ISO 8601; ``from_`` is included, ``to`` is not.
    from_: str
    to: str
    status: Texts
    model: Texts
    model_requested: Texts
    agent: Texts
    deployment: Texts
    project: Texts
    key_id: Texts
    labels: Mapping[str, str]
    error_code: Texts
    service_tier: Texts
    stream: bool
    background: bool
    store: bool
    previous_interaction_id: Texts
    #: Any interaction of a conversation.
    chain: Texts
    replay_of: Texts
    deleted: Literal["false", "true", "any"]
    #: Each number is asked for as it is, or bounded from below and above, both included.
    input_tokens: int
    min_input_tokens: int
    max_input_tokens: int
    output_tokens: int
    min_output_tokens: int
    max_output_tokens: int
    thought_tokens: int
    min_thought_tokens: int
    max_thought_tokens: int
    cached_tokens: int
    min_cached_tokens: int
    max_cached_tokens: int
    tool_use_tokens: int
    min_tool_use_tokens: int
    max_tool_use_tokens: int
    total_tokens: int
    min_total_tokens: int
    max_total_tokens: int
    http_status: int
    min_http_status: int
    max_http_status: int
    request_bytes: int
    min_request_bytes: int
    max_request_bytes: int
    response_bytes: int
    min_response_bytes: int
    max_response_bytes: int
    #: Interactions before it in its conversation.
    depth: int
    min_depth: int
    max_depth: int
    #: Dollars.
    cost: float
    min_cost: float
    max_cost: float
    #: Seconds from the request to the outcome.
    duration: float
    min_duration: float
    max_duration: float
    #: Seconds from the request to the first event or byte of the answer.
    first_event: float
    min_first_event: float
    max_first_event: float
    #: Newest first (``desc``) unless said otherwise; ``rank`` has the best matches of ``q`` first.
    order: Literal["desc", "asc", "rank"]
    #: Interactions a page, up to 1000.
    limit: int
    #: Where a page before this one has ended.
    cursor: str
    #: Parameters that this version does not know.
    extra_query: Mapping[str, str]


class ListOptions(ListFilters, CallOptions, total=False):
    """What :meth:`list_interactions` takes, with how the call is made."""


class ListCall(ListOptions, Connection, total=False):
    """What the function :func:`list_interactions` takes."""


class InteractionSummary(Model):
    """An interaction in a list: everything but its content. :meth:`get_interaction` has that."""

    id: str = ""
    status: str = ""
    created: str | None = None
    updated: str | None = None
    completed: str | None = None
    model: str | None = None
    model_requested: str | None = None
    agent: str | None = None
    deployment: str | None = None
    project: str | None = None
    key_id: str | None = None
    key_name: str | None = None
    labels: dict[str, str] | None = None
    previous_interaction_id: str | None = None
    #: The first interaction of its conversation, and how many came before it there.
    root: str | None = None
    depth: int | None = None
    replay_of: str | None = None
    stream: bool | None = None
    background: bool | None = None
    store: bool | None = None
    service_tier: str | None = None
    http_status: int | None = None
    error_code: str | None = None
    error_message: str | None = None
    #: Seconds.
    duration: float | None = None
    first_event: float | None = None
    usage: dict[str, Any] | None = None
    #: Dollars; None where the price is not known.
    cost: float | None = None
    request_bytes: int | None = None
    response_bytes: int | None = None
    attempts: int | None = None
    upstream_interaction_id: str | None = None
    deleted: str | None = None
    #: Where the words of ``q`` were found.
    snippets: list[dict[str, Any]] | None = None


class InteractionPage(Model):
    """A page of a list."""

    interactions: list[InteractionSummary] = Field(default_factory=list)
    #: What to pass as ``cursor`` for the next page; None on the last one.
    next_cursor: str | None = None


_FILTERS: Final = frozenset(ListFilters.__annotations__)
_KNOWN: Final = _FILTERS | frozenset(CallOptions.__annotations__)


def query_of(options: Mapping[str, Any]) -> dict[str, str]:
    """The query of a list; raises :class:`TypeError` for an unknown argument."""
    check_names("list_interactions", options, _KNOWN)
    query = dict(options.get("extra_query") or {})
    for name, value in (options.get("labels") or {}).items():
        query[f"label:{name}"] = value
    for name in sorted((_FILTERS - {"labels", "extra_query"}) & options.keys()):
        if options[name] is not None:
            query[_RENAMED.get(name, name)] = _text(options[name])
    return query


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | int | float):
        return str(value)
    return ",".join(map(str, value))
