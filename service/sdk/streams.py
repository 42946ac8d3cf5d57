"""The streams that callers iterate over."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from service.sdk.events import StreamEvent
from service.sdk.loop_thread import LoopThread
from service.sdk.resuming import Resuming


class _Stream:
    """What both kinds share. One that is dropped closes its connection; the interaction goes on."""

    def __init__(self, source: Resuming, thread: LoopThread) -> None:
        self._source = source
        self._thread = thread
        self._finalizer = weakref.finalize(self, thread.post, source.close)
        self._finalizer.atexit = False

    @property
    def interaction_id(self) -> str | None:
        """The id of the interaction, as soon as the service has told it."""
        return self._source.interaction_id

    @property
    def last_event_id(self) -> str | None:
        """The cursor behind which :meth:`get_interaction` with ``stream=True`` goes on."""
        return self._source.last_event_id

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the first answer."""
        return self._source.headers


class InteractionStream(_Stream):
    """The events of an interaction, each once; iterate over it, once, by one thread at a time.

    A connection that is lost is replaced without notice. Iterating raises
    :class:`StreamLost` when that fails for ``resume_timeout`` seconds, and a :class:`StatusError` when the service
    refuses to go on (the interaction was deleted). What upstream has lost ends in an :class:`ErrorEvent`, any other
    failure in an :class:`InteractionCompleted` whose status is ``failed``.
    """

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> StreamEvent:
        ready = self._source.ready
        if not ready and not self._thread.call(self._source.more()):
            raise StopIteration
        return ready.popleft()

    def close(self) -> None:
        """Read no further; the interaction itself goes on and is stored."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncInteractionStream(_Stream):
    """As :class:`InteractionStream`, for ``async for``, on any event loop; a wait that is cancelled loses nothing."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> StreamEvent:
        ready = self._source.ready
        if not ready and not await self._thread.call_async(self._source.more()):
            raise StopAsyncIteration
        return ready.popleft()

    async def close(self) -> None:
        """Read no further; the interaction itself goes on and is stored."""
        self._finalizer()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
