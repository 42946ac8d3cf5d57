"""The asynchronous client."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from service.sdk import requests
from service.sdk.calls import Answer, Call
from service.sdk.filters import InteractionPage, ListOptions
from service.sdk.interactions import AsyncInteraction
from service.sdk.lists import AsyncInteractionList
from service.sdk.opening import BaseClient
from service.sdk.params import CallOptions, CreateOptions
from service.sdk.replays import Replay, ReplayOptions, replayed
from service.sdk.streams import AsyncInteractionStream


class AsyncInteractionsClient(BaseClient):
    """As :class:`InteractionsClient`, for asynchronous code; for any number of event loops.

    Cancelling a call gives up waiting for it; a request that was sent is carried out and stored all the same.
    """

    @overload
    async def create_interaction(
        self, *, stream: Literal[False] = False, **options: Unpack[CreateOptions]
    ) -> AsyncInteraction: ...

    @overload
    async def create_interaction(
        self, *, stream: Literal[True], **options: Unpack[CreateOptions]
    ) -> AsyncInteractionStream: ...

    @overload
    async def create_interaction(
        self, *, stream: bool, **options: Unpack[CreateOptions]
    ) -> AsyncInteraction | AsyncInteractionStream: ...

    async def create_interaction(
        self, *, stream: bool = False, **options: Unpack[CreateOptions]
    ) -> AsyncInteraction | AsyncInteractionStream:
        """Create an interaction and return it when it has been answered and stored, or its events as they come.

        Raises :class:`StatusError` when it is refused; ``interaction_id`` then names the record of the failure, if one
        was made. With ``background=True`` it is returned at once and ``wait`` waits for its end.
        """
        call = requests.create(options, stream=stream)
        return await self._stream(call) if stream else self._told(await self._ask(call))

    @overload
    async def get_interaction(
        self,
        interaction_id: str,
        *,
        stream: Literal[False] = False,
        include_input: bool = False,
        **options: Unpack[CallOptions],
    ) -> AsyncInteraction: ...

    @overload
    async def get_interaction(
        self,
        interaction_id: str,
        *,
        stream: Literal[True],
        last_event_id: str | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncInteractionStream: ...

    async def get_interaction(
        self,
        interaction_id: str,
        *,
        stream: bool = False,
        include_input: bool = False,
        last_event_id: str | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncInteraction | AsyncInteractionStream:
        """The stored interaction, by the service's id or by upstream's; raises :class:`InteractionNotFound`.

        ``include_input`` adds what was asked. With ``stream=True`` its events are told, behind ``last_event_id``: those
        that have been and those that are still to come.
        """
        if stream:
            return await self._stream(requests.stream(interaction_id, options, last_event_id))
        return self._told(await self._ask(requests.get(interaction_id, options, include_input=include_input)))

    async def cancel_interaction(
        self, interaction_id: str, **options: Unpack[CallOptions]
    ) -> AsyncInteraction:
        """Cancel what is being streamed or runs in the background; raises :class:`BadRequest` for any other."""
        return self._told(await self._ask(requests.cancel(interaction_id, options)))

    async def delete_interaction(self, interaction_id: str, **options: Unpack[CallOptions]) -> None:
        """Delete an interaction, here for certain and upstream if upstream can."""
        (await self._ask(requests.delete(interaction_id, options))).json()

    def list_interactions(self, **options: Unpack[ListOptions]) -> AsyncInteractionList:
        """The stored interactions that match, newest first: ``async for`` for all, ``await`` for the first page."""
        call = requests.listing(options)
        return AsyncInteractionList(lambda cursor: self._page(requests.page_behind(call, cursor)))

    async def replay_interaction(
        self, interaction_id: str, **options: Unpack[ReplayOptions]
    ) -> Replay[AsyncInteraction]:
        """Send a stored request again, as it was or with changes, as a new interaction; compare what comes of it."""
        answer = await self._ask(requests.replay(interaction_id, options))
        told = replayed(answer)
        return Replay(self._interaction(told.interaction, answer), told.replay_of, told.comparison)

    async def close(self) -> None:
        """Give up the connections. An embedded service that no other client uses ends what is open, and closes."""
        engine = self._opening.release()
        if engine is not None:
            await engine.thread.call_async(engine.close())

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _ask(self, call: Call) -> Answer:
        engine = self._opening.engine()
        return await engine.thread.call_async(engine.ask(call))

    async def _stream(self, call: Call) -> AsyncInteractionStream:
        engine = self._opening.engine()

        async def opened() -> AsyncInteractionStream:
            # Made over there, so that one that nobody waits for any more closes its connection.
            return AsyncInteractionStream(await self._opening.open(engine, call), engine.thread)

        return await engine.thread.call_async(opened())

    def _told(self, answer: Answer) -> AsyncInteraction:
        return self._interaction(answer.json(), answer)

    def _interaction(self, body: dict[str, Any], answer: Answer) -> AsyncInteraction:
        interaction = AsyncInteraction.model_validate(body)
        interaction._client = self
        interaction._headers = answer.headers
        return interaction

    async def _page(self, call: Call) -> InteractionPage:
        return InteractionPage.model_validate((await self._ask(call)).json())
