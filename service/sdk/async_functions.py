"""The asynchronous functions: as those of :mod:`service.sdk.functions`, to be awaited on any event loop."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, Literal, Unpack, overload

from service.sdk.async_client import AsyncInteractionsClient
from service.sdk.filters import ListCall
from service.sdk.interactions import AsyncInteraction
from service.sdk.lists import AsyncInteractionList
from service.sdk.options import Options, resolve
from service.sdk.params import CreateCall, PlainCall, split
from service.sdk.replays import Replay, ReplayCall
from service.sdk.streams import AsyncInteractionStream


@overload
async def acreate_interaction(
    *, stream: Literal[False] = False, **options: Unpack[CreateCall]
) -> AsyncInteraction: ...


@overload
async def acreate_interaction(
    *, stream: Literal[True], **options: Unpack[CreateCall]
) -> AsyncInteractionStream: ...


@overload
async def acreate_interaction(
    *, stream: bool, **options: Unpack[CreateCall]
) -> AsyncInteraction | AsyncInteractionStream: ...


async def acreate_interaction(
    *, stream: bool = False, **options: Unpack[CreateCall]
) -> AsyncInteraction | AsyncInteractionStream:
    """Create an interaction, as :meth:`AsyncInteractionsClient.create_interaction` does."""
    client, rest = _client(options)
    return await client.create_interaction(stream=stream, **rest)


@overload
async def aget_interaction(
    interaction_id: str,
    *,
    stream: Literal[False] = False,
    include_input: bool = False,
    **options: Unpack[PlainCall],
) -> AsyncInteraction: ...


@overload
async def aget_interaction(
    interaction_id: str,
    *,
    stream: Literal[True],
    last_event_id: str | None = None,
    **options: Unpack[PlainCall],
) -> AsyncInteractionStream: ...


async def aget_interaction(
    interaction_id: str,
    *,
    stream: bool = False,
    include_input: bool = False,
    last_event_id: str | None = None,
    **options: Unpack[PlainCall],
) -> AsyncInteraction | AsyncInteractionStream:
    """Read an interaction, or its events, as :meth:`AsyncInteractionsClient.get_interaction` does."""
    client, rest = _client(options)
    if stream:
        return await client.get_interaction(interaction_id, stream=True, last_event_id=last_event_id, **rest)
    return await client.get_interaction(interaction_id, include_input=include_input, **rest)


async def acancel_interaction(interaction_id: str, **options: Unpack[PlainCall]) -> AsyncInteraction:
    """Cancel an interaction, as :meth:`AsyncInteractionsClient.cancel_interaction` does."""
    client, rest = _client(options)
    return await client.cancel_interaction(interaction_id, **rest)


async def adelete_interaction(interaction_id: str, **options: Unpack[PlainCall]) -> None:
    """Delete an interaction, as :meth:`AsyncInteractionsClient.delete_interaction` does."""
    client, rest = _client(options)
    await client.delete_interaction(interaction_id, **rest)


def alist_interactions(**options: Unpack[ListCall]) -> AsyncInteractionList:
    """List interactions, as :meth:`AsyncInteractionsClient.list_interactions` does."""
    client, rest = _client(options)
    return client.list_interactions(**rest)


async def areplay_interaction(interaction_id: str, **options: Unpack[ReplayCall]) -> Replay[AsyncInteraction]:
    """Send a stored request again, as :meth:`AsyncInteractionsClient.replay_interaction` does."""
    client, rest = _client(options)
    return await client.replay_interaction(interaction_id, **rest)


@cache
def _kept(options: Options) -> AsyncInteractionsClient:
    return AsyncInteractionsClient.of(options)


def _client(options: Mapping[str, Any]) -> tuple[AsyncInteractionsClient, dict[str, Any]]:
    connection, rest = split(options)
    return _kept(resolve(connection)), rest
