"""What each method sends; the same for both kinds of client."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from service.sdk.calls import PATH, Call, options_of, path_of
from service.sdk.filters import query_of
from service.sdk.params import check_options, create_body
from service.sdk.replays import replay_body

_STORED: Final = "/api/interactions"


def create(options: Mapping[str, Any], *, stream: bool) -> Call:
    """``POST /v1beta/interactions`` (contract 2)."""
    return Call("POST", PATH, create_body(options, stream=stream), **options_of(options))


def get(interaction_id: str, options: Mapping[str, Any], *, include_input: bool) -> Call:
    """``GET /v1beta/interactions/{id}``."""
    check_options("get_interaction", options)
    query = {"include_input": "true"} if include_input else {}
    return Call("GET", path_of(interaction_id), query=query, **options_of(options))


def stream(interaction_id: str, options: Mapping[str, Any], last_event_id: str | None) -> Call:
    """``GET /v1beta/interactions/{id}?stream=true`` (contract 4.6)."""
    check_options("get_interaction", options)
    query = {"stream": "true"}
    if last_event_id is not None:
        query["last_event_id"] = last_event_id
    return Call("GET", path_of(interaction_id), query=query, **options_of(options))


def cancel(interaction_id: str, options: Mapping[str, Any]) -> Call:
    """``POST /v1beta/interactions/{id}/cancel``."""
    check_options("cancel_interaction", options)
    return Call("POST", path_of(interaction_id, "/cancel"), **options_of(options))


def delete(interaction_id: str, options: Mapping[str, Any]) -> Call:
    """``DELETE /v1beta/interactions/{id}``."""
    check_options("delete_interaction", options)
    return Call("DELETE", path_of(interaction_id), **options_of(options))


def listing(options: Mapping[str, Any]) -> Call:
    """``GET /api/interactions``."""
    return Call("GET", _STORED, query=query_of(options), **options_of(options))


def page_behind(call: Call, cursor: str | None) -> Call:
    """The same list, from where a page has ended."""
    return call if cursor is None else replace(call, query={**call.query, "cursor": cursor})


def replay(interaction_id: str, options: Mapping[str, Any]) -> Call:
    """``POST /api/interactions/{id}/replay``."""
    path = path_of(interaction_id, "/replay", collection=_STORED)
    return Call("POST", path, replay_body(options), **options_of(options))
