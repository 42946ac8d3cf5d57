"""Something that must be answered soon: it is said again while the first word hangs.

A connection through a network that has fallen silent does not know that it is dead, and who waits for it still waits
when the network is there again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

_Result = TypeVar("_Result")


class Insisting(Generic[_Result]):
    """Says something every ``pause`` seconds until it is answered, at most ``most`` times at once.

    ``say`` is told whether something that was said before still hangs.
    """

    def __init__(
        self, say: Callable[[bool], Coroutine[Any, Any, _Result]], *, pause: float, most: int
    ) -> None:
        self._say = say
        self._pause = pause
        self._most = most
        self._loop = asyncio.get_running_loop()
        #: What was said, and is not answered yet or not needed any more.
        self._said: set[asyncio.Task[_Result]] = set()

    async def answer(self) -> tuple[_Result, float]:
        """The first answer, and when that was asked for, by the loop's clock; raises the error of what fails last."""
        hanging: dict[asyncio.Task[_Result], float] = {}
        try:
            while True:
                moment = self._loop.time()
                if len(hanging) < self._most:
                    hanging[self._begun(bool(hanging))] = moment
                answered = await self._answered(hanging, moment + self._pause)
                if answered is not None:
                    return answered
        finally:
            for task in hanging:
                task.cancel()

    async def close(self) -> None:
        """Wait until nothing that was said hangs any more; to be called when nobody waits for an answer."""
        await asyncio.gather(*self._said, return_exceptions=True)

    def _begun(self, others_hang: bool) -> asyncio.Task[_Result]:
        task = self._loop.create_task(self._say(others_hang), name="insisting")
        self._said.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _answered(
        self, hanging: dict[asyncio.Task[_Result], float], until: float
    ) -> tuple[_Result, float] | None:
        """What is answered by then; raises when nothing hangs any more."""
        while (left := until - self._loop.time()) > 0:
            done, _ = await asyncio.wait(hanging, timeout=left, return_when=asyncio.FIRST_COMPLETED)
            began = {task: hanging.pop(task) for task in done}
            for task, moment in began.items():
                if task.exception() is None:
                    return task.result(), moment
            if done and not hanging:
                # All have failed.
                done.pop().result()
        return None

    def _ended(self, task: asyncio.Task[_Result]) -> None:
        self._said.discard(task)
        if not task.cancelled():
            # Whoever waits gets it as well.
            task.exception()
