"""The synchronous client."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Literal, Self, Unpack, overload

from service.sdk import requests
from service.sdk.calls import Answer, Call
from service.sdk.filters import InteractionPage, ListOptions
from service.sdk.interactions import Interaction
from service.sdk.lists import InteractionList
from service.sdk.opening import BaseClient
from service.sdk.params import CallOptions, CreateOptions
from service.sdk.replays import Replay, ReplayOptions, replayed
from service.sdk.streams import InteractionStream


class InteractionsClient(BaseClient):
    """Creates, reads, lists and replays interactions; for any number of threads.

    With ``base_url`` it asks a running service. Without, the service runs inside this process and stores in
    ``sqlite:///interactions.db`` of the working directory; all clients with equal arguments share it. Connections are
    kept and used again until :meth:`close`, or the end of a ``with`` block. Raises :class:`SdkConfigurationError` when
    nothing says whom to ask.
    """

    @overload
    def create_interaction(
        self, *, stream: Literal[False] = False, **options: Unpack[CreateOptions]
    ) -> Interaction: ...

    @overload
    def create_interaction(
        self, *, stream: Literal[True], **options: Unpack[CreateOptions]
    ) -> InteractionStream: ...

    @overload
    def create_interaction(
        self, *, stream: bool, **options: Unpack[CreateOptions]
    ) -> Interaction | InteractionStream: ...

    def create_interaction(
        self, *, stream: bool = False, **options: Unpack[CreateOptions]
    ) -> Interaction | InteractionStream:
        """Create an interaction and return it when it has been answered and stored, or its events as they come.

        Raises :class:`StatusError` when it is refused; ``interaction_id`` then names the record of the failure, if one
        was made. With ``background=True`` it is returned at once and ``wait`` waits for its end.
        """
        call = requests.create(options, stream=stream)
        return self._stream(call) if stream else self._told(self._ask(call))

    @overload
    def get_interaction(
        self,
        interaction_id: str,
        *,
        stream: Literal[False] = False,
        include_input: bool = False,
        **options: Unpack[CallOptions],
    ) -> Interaction: ...

    @overload
    def get_interaction(
        self,
        interaction_id: str,
        *,
        stream: Literal[True],
        last_event_id: str | None = None,
        **options: Unpack[CallOptions],
    ) -> InteractionStream: ...

    def get_interaction(
        self,
        interaction_id: str,
        *,
        stream: bool = False,
        include_input: bool = False,
        last_event_id: str | None = None,
        **options: Unpack[CallOptions],
    ) -> Interaction | InteractionStream:
        """The stored interaction, by the service's id or by upstream's; raises :class:`InteractionNotFound`.

        ``include_input`` adds what was asked. With ``stream=True`` its events are told, behind ``last_event_id``: those
        that have been and those that are still to come.
        """
        if stream:
            return self._stream(requests.stream(interaction_id, options, last_event_id))
        return self._told(self._ask(requests.get(interaction_id, options, include_input=include_input)))

    def cancel_interaction(self, interaction_id: str, **options: Unpack[CallOptions]) -> Interaction:
        """Cancel what is being streamed or runs in the background; raises :class:`BadRequest` for any other."""
        return self._told(self._ask(requests.cancel(interaction_id, options)))

    def delete_interaction(self, interaction_id: str, **options: Unpack[CallOptions]) -> None:
        """Delete an interaction, here for certain and upstream if upstream can."""
        self._ask(requests.delete(interaction_id, options)).json()

    def list_interactions(self, **options: Unpack[ListOptions]) -> InteractionList:
        """The stored interactions that match, newest first: iterate to have them all, page by page."""
        call = requests.listing(options)
        return InteractionList(lambda cursor: self._page(requests.page_behind(call, cursor)))

    def replay_interaction(
        self, interaction_id: str, **options: Unpack[ReplayOptions]
    ) -> Replay[Interaction]:
        """Send a stored request again, as it was or with changes, as a new interaction; compare what comes of it."""
        answer = self._ask(requests.replay(interaction_id, options))
        told = replayed(answer)
        return Replay(self._interaction(told.interaction, answer), told.replay_of, told.comparison)

    def close(self) -> None:
        """Give up the connections. An embedded service that no other client uses ends what is open, and closes."""
        engine = self._opening.release()
        if engine is not None:
            engine.thread.call(engine.close())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ask(self, call: Call) -> Answer:
        engine = self._opening.engine()
        return engine.thread.call(engine.ask(call))

    def _stream(self, call: Call) -> InteractionStream:
        engine = self._opening.engine()

        async def opened() -> InteractionStream:
            # Made over there, so that one that nobody waits for any more closes its connection.
            return InteractionStream(await self._opening.open(engine, call), engine.thread)

        return engine.thread.call(opened())

    def _told(self, answer: Answer) -> Interaction:
        return self._interaction(answer.json(), answer)

    def _interaction(self, body: dict[str, Any], answer: Answer) -> Interaction:
        interaction = Interaction.model_validate(body)
        interaction._client = self
        interaction._headers = answer.headers
        return interaction

    def _page(self, call: Call) -> InteractionPage:
        return InteractionPage.model_validate(self._ask(call).json())
