"""The functions: each asks a client that is kept, one for each set of connection arguments and environment."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Unpack, overload

from service.sdk.client import InteractionsClient
from service.sdk.filters import ListCall
from service.sdk.interactions import Interaction
from service.sdk.lists import InteractionList
from service.sdk.options import Options, resolve
from service.sdk.params import CreateCall, PlainCall, split
from service.sdk.replays import Replay, ReplayCall
from service.sdk.streams import InteractionStream


@overload
def create_interaction(*, stream: Literal[False] = False, **options: Unpack[CreateCall]) -> Interaction: ...


@overload
def create_interaction(*, stream: Literal[True], **options: Unpack[CreateCall]) -> InteractionStream: ...


@overload
def create_interaction(*, stream: bool, **options: Unpack[CreateCall]) -> Interaction | InteractionStream: ...


def create_interaction(
    *, stream: bool = False, **options: Unpack[CreateCall]
) -> Interaction | InteractionStream:
    """Create an interaction, as :meth:`InteractionsClient.create_interaction` does."""
    client, rest = _client(options)
    return client.create_interaction(stream=stream, **rest)


@overload
def get_interaction(
    interaction_id: str,
    *,
    stream: Literal[False] = False,
    include_input: bool = False,
    **options: Unpack[PlainCall],
) -> Interaction: ...


@overload
def get_interaction(
    interaction_id: str,
    *,
    stream: Literal[True],
    last_event_id: str | None = None,
    **options: Unpack[PlainCall],
) -> InteractionStream: ...


def get_interaction(
    interaction_id: str,
    *,
    stream: bool = False,
    include_input: bool = False,
    last_event_id: str | None = None,
    **options: Unpack[PlainCall],
) -> Interaction | InteractionStream:
    """Read an interaction, or its events, as :meth:`InteractionsClient.get_interaction` does."""
    client, rest = _client(options)
    if stream:
        return client.get_interaction(interaction_id, stream=True, last_event_id=last_event_id, **rest)
    return client.get_interaction(interaction_id, include_input=include_input, **rest)


def cancel_interaction(interaction_id: str, **options: Unpack[PlainCall]) -> Interaction:
    """Cancel an interaction, as :meth:`InteractionsClient.cancel_interaction` does."""
    client, rest = _client(options)
    return client.cancel_interaction(interaction_id, **rest)


def delete_interaction(interaction_id: str, **options: Unpack[PlainCall]) -> None:
    """Delete an interaction, as :meth:`InteractionsClient.delete_interaction` does."""
    client, rest = _client(options)
    client.delete_interaction(interaction_id, **rest)


def list_interactions(**options: Unpack[ListCall]) -> InteractionList:
    """List interactions, as :meth:`InteractionsClient.list_interactions` does."""
    client, rest = _client(options)
    return client.list_interactions(**rest)


def replay_interaction(interaction_id: str, **options: Unpack[ReplayCall]) -> Replay[Interaction]:
    """Send a stored request again, as :meth:`InteractionsClient.replay_interaction` does."""
    client, rest = _client(options)
    return client.replay_interaction(interaction_id, **rest)


@cache
def _kept(options: Options) -> InteractionsClient:
    return InteractionsClient.of(options)


def _client(options: Mapping[str, Any]) -> tuple[InteractionsClient, dict[str, Any]]:
    connection, rest = split(options)
    return _kept(resolve(connection)), rest
