"""What is left to find out about an interaction whose stream has broken: the stream again, or upstream's word.

Upstream cuts every stream after 600 seconds, and a resumed one may be cut again (contract 4.6). Where upstream has
given cursors its stream is taken up behind the last event; otherwise, and between two cuts that brought nothing, it is
asked how the interaction stands, with growing pauses, until that is final.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

from service.errors import DeadlineExceeded, ServiceError, ServiceUnavailable, UpstreamError
from service.interactions import outcomes
from service.interactions.inquiry import GONE, Gone, is_final_refusal, is_word
from service.upstream.client import GeminiClient, Reply
from service.upstream.deployments import Deployment
from service.upstream.response import Response

logger = logging.getLogger(__name__)

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
#: Seconds for which upstream is asked again while it cannot be asked at all.
_UNREACHABLE: Final = 60.0
#: Seconds after which an interaction that upstream still calls running is left to whoever asks for it.
_LONGEST: Final = 7_200.0


class Recovery:
    """The search for the rest of one interaction; :meth:`next` is called again when what it gave broke as well.

    ``settle`` is how many seconds upstream may say that it has no such interaction before that is believed, and
    ``unreachable`` for how many it may not answer at all.
    """

    def __init__(
        self,
        client: GeminiClient,
        deployment: Deployment,
        upstream_id: str,
        *,
        settle: float,
        unreachable: float = _UNREACHABLE,
    ) -> None:
        self._client = client
        self._deployment = deployment
        self._upstream_id = upstream_id
        self._settle = settle
        self._unreachable = unreachable
        self._loop = asyncio.get_running_loop()
        self._began = self._loop.time()
        self._pause = 0.0
        self._cursor: str | None = None
        self._refused = False
        #: Whether a stream was taken up and upstream has not been asked since.
        self._attached = False
        #: Since when upstream says that there is no such interaction, and since when it says nothing.
        self._missing: float | None = None
        self._silent: float | None = None

    async def next(self, cursor: str | None) -> Response | Reply:
        """The stream behind the event with this cursor, or the whole interaction when it has ended.

        Raises :class:`~service.interactions.inquiry.Gone` when upstream has no such interaction, and another
        :class:`ServiceError` when it cannot be asked, or is still at work after hours: then the end is open.
        """
        if cursor != self._cursor:
            # The last stream has brought something.
            self._pause, self._cursor, self._attached = 0.0, cursor, False
        while True:
            await asyncio.sleep(self._pause)
            self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
            if (
                cursor is not None
                and not self._refused
                and not self._attached
                and (stream := await self._attach(cursor)) is not None
            ):
                self._attached = True
                return stream
            self._attached = False
            reply = await self._ask()
            if reply is not None and outcomes.is_terminal(outcomes.status_of(reply.body)):
                return reply
            if self._loop.time() - self._began > _LONGEST:
                raise DeadlineExceeded("Upstream still calls the interaction running after hours.")

    async def _attach(self, cursor: str) -> Response | None:
        try:
            opened = await self._client.attach(self._deployment, self._upstream_id, cursor)
        except UpstreamError as error:
            # It has no stream to go on with, or not from there: what it says of the whole decides.
            self._refused = is_final_refusal(error)
            return None
        except ServiceError:
            return None
        return opened if isinstance(opened, Response) else None

    async def _ask(self) -> Reply | None:
        try:
            reply = await self._client.get(self._deployment, self._upstream_id)
        except ServiceError as error:
            self._judge(error)
            return None
        self._missing = self._silent = None
        return reply if is_word(reply, self._upstream_id) else None

    def _judge(self, error: ServiceError) -> None:
        moment = self._loop.time()
        if isinstance(error, UpstreamError) and error.status in GONE:
            self._missing = moment if self._missing is None else self._missing
            if moment - self._missing >= self._settle:
                raise Gone from error
            return
        self._silent = moment if self._silent is None else self._silent
        if moment - self._silent >= self._unreachable:
            raise ServiceUnavailable(
                f"Upstream cannot be asked how the interaction stands: {error}"
            ) from error
