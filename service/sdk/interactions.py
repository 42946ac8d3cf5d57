"""Interactions as the clients return them: the data, and the wait for the end of one that runs in the background."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Self, TypeVar

from pydantic import PrivateAttr

from service.sdk.errors import InteractionsError
from service.sdk.models import InteractionData
from service.sdk.waiting import PATIENCE, Pace

if TYPE_CHECKING:
    from service.sdk.async_client import AsyncInteractionsClient
    from service.sdk.client import InteractionsClient

Client = TypeVar("Client")


class _Told(InteractionData):
    """An interaction and the answer that told it."""

    _headers: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the answer: ``x-upstream-interaction-id``, ``x-interactions-history``, ..."""
        return self._headers

    def __eq__(self, other: object) -> bool:
        """Whether the same is told of the same interaction, whoever told it."""
        return isinstance(other, _Told) and self._told() == other._told()

    def _become(self, newer: InteractionData) -> None:
        self.__dict__.clear()
        self.__dict__.update(newer.__dict__)
        self.__pydantic_extra__ = newer.__pydantic_extra__
        self.__pydantic_fields_set__ = newer.__pydantic_fields_set__


class Interaction(_Told):
    """An :class:`InteractionData` that an :class:`InteractionsClient` or a synchronous function has told."""

    _client: InteractionsClient | None = PrivateAttr(default=None)

    def wait(
        self, timeout: float | None = PATIENCE, on_progress: Callable[[Interaction], object] | None = None
    ) -> Self:
        """Wait until it has ended, looking at it now and then, and become what it is then.

        ``on_progress`` is called after every look, with this interaction as it was seen. Raises :class:`WaitTimeout`
        after ``timeout`` seconds, None of which is without end. A look that fails is repeated; what does not pass is
        raised.
        """
        pace = Pace(self.id, timeout)
        while not self.ended:
            try:
                newer = _required(self._client).get_interaction(self.id, timeout=pace.look())
            except InteractionsError as error:
                time.sleep(pace.failed(error))
                continue
            self._become(newer)
            if on_progress is not None:
                on_progress(self)
            if not self.ended:
                time.sleep(pace.seen(self.status))
        return self


class AsyncInteraction(_Told):
    """An :class:`InteractionData` that an :class:`AsyncInteractionsClient` or an asynchronous function has told."""

    _client: AsyncInteractionsClient | None = PrivateAttr(default=None)

    async def wait(
        self,
        timeout: float | None = PATIENCE,
        on_progress: Callable[[AsyncInteraction], Awaitable[object] | object] | None = None,
    ) -> Self:
        """As :meth:`Interaction.wait`; ``on_progress`` may be a coroutine function."""
        pace = Pace(self.id, timeout)
        while not self.ended:
            try:
                newer = await _required(self._client).get_interaction(self.id, timeout=pace.look())
            except InteractionsError as error:
                await asyncio.sleep(pace.failed(error))
                continue
            self._become(newer)
            if on_progress is not None and inspect.isawaitable(told := on_progress(self)):
                await told
            if not self.ended:
                await asyncio.sleep(pace.seen(self.status))
        return self


def _required(client: Client | None) -> Client:
    if client is None:
        raise TypeError("This interaction was not told by a client; get it from one to wait for it.")
    return client
