"""How tasks that work in the background are ended."""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final

logger = logging.getLogger(__name__)

#: Seconds after which a task that goes on is told again to end.
_AGAIN: Final = 5.0


async def stop(*tasks: asyncio.Task[Any]) -> None:
    """Cancel these and return when all have ended, whatever they ended with.

    Cancelling once is not enough for a loop that outlives the failures of a database: a driver that cleans up because
    of it may fail at that, and its error takes the cancellation's place.
    """
    pending = {task for task in tasks if not task.done()}
    while pending:
        for task in pending:
            task.cancel()
        _, pending = await asyncio.wait(pending, timeout=_AGAIN)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("%s ended with a failure", task.get_name(), exc_info=error)
