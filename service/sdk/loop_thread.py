"""One event loop on a thread of its own, on which all work of the client library is done.

The calling thread, or the event loop that the caller runs, only waits: so the synchronous forms work where a loop is
running already (notebooks), and connections outlive the loops that callers start and end.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, Final, TypeVar

from service.sdk.errors import ClientUnusable

T = TypeVar("T")

_NAME: Final = "interactions-sdk"
CLOSED: Final = "This client is closed; make another one."
_ENDED: Final = "The client was closed during the call; what was sent may have been carried out."


class LoopThread:
    """A running event loop; belongs to the process that made it."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        #: What is handed in before the end is there to be cancelled when it comes.
        self._handing_in = threading.Lock()
        self._stopping = False
        self._loop = asyncio.new_event_loop()
        self._callers: weakref.WeakSet[threading.Thread] = weakref.WeakSet()
        self._thread = threading.Thread(target=self._run, name=_NAME, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work and wait for it; an interrupt of the waiting thread cancels the work.

        Raises :class:`ClientUnusable`.
        """
        future = self._begin(work)
        try:
            return future.result()
        except CancelledError:
            raise ClientUnusable(_ENDED) from None
        except BaseException:
            future.cancel()
            raise

    async def call_async(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work and wait for it on the caller's own loop; cancelling the wait cancels the work.

        Raises :class:`ClientUnusable`.
        """
        future = self._begin(work)
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if self._stopping and not (task is not None and task.cancelling()):
                raise ClientUnusable(_ENDED) from None
            raise

    def callers(self) -> list[threading.Thread]:
        """The threads that have called and live."""
        return [thread for thread in self._callers if thread.is_alive()]

    def post(self, callback: Callable[[], object]) -> None:
        """Call something soon; not at all once the loop has ended, or in a process that was forked off."""
        if os.getpid() == self._pid:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(callback)

    def stop(self) -> None:
        """End the loop and its thread; what is still running is cancelled, and nothing is taken any more."""
        with self._handing_in:
            self._stopping = True
            self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _begin(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        self._callers.add(threading.current_thread())
        try:
            self._check()
            with self._handing_in:
                if self._stopping:
                    raise ClientUnusable(CLOSED)
                return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise

    def _check(self) -> None:
        if os.getpid() != self._pid:
            raise ClientUnusable(
                "A stream cannot be read in a process that was forked off after it was opened."
            )
        if threading.current_thread() is self._thread:
            raise ClientUnusable("A synchronous call would wait for itself here; use the asynchronous form.")

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._end()

    def _end(self) -> None:
        loop = self._loop
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        with suppress(RuntimeError):  # the interpreter may have shut its threads down already
            loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
