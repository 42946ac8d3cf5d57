"""How an interaction that is read ends: by its stream, by upstream's word in place of that, or by a verdict.

What is made here in place of upstream's events, or told of what its last one alone carries, is told together with the
end, when all of that is committed: so an id of such an event has never been given out for anything that the log does
not have.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

from service.errors import BadGateway
from service.interactions import outcomes
from service.interactions.arriving import Arrived
from service.interactions.calls import Job
from service.interactions.cancelling import cancelled_upstream
from service.interactions.conclusion import Last
from service.interactions.feed import Feed
from service.interactions.publisher import Publisher
from service.interactions.received import rest_of
from service.interactions.render import identified, timestamp
from service.interactions.timeline import made_beside
from service.interactions.verdicts import GIVEN_UP, failed
from service.store.records import now
from service.upstream.client import GeminiClient, as_service_error
from service.upstream.connection import TransportError
from service.wire import ids, regenerate
from service.wire.assembler import TERMINAL_EVENTS
from service.wire.diagnostics import with_errors_retold
from service.wire.remainder import remainder, untold_of

logger = logging.getLogger(__name__)

_COMPLETED: Final = "interaction.completed"


class Closing:
    """Finds the end of one interaction; nothing of it is told or committed here."""

    __slots__ = ("_client", "_feed", "_job", "_publisher")

    def __init__(self, job: Job, client: GeminiClient, feed: Feed, publisher: Publisher) -> None:
        self._job = job
        self._client = client
        self._feed = feed
        self._publisher = publisher

    def by_event(self, arrived: Arrived) -> Last:
        """The end by a terminal event of upstream, which has been assembled.

        What that alone carries is told as steps before it, so that whoever reads events finds it in them.
        """
        told = self._publisher.assembler
        before = untold_of(told, told.given_steps) if told.indices and told.given_steps else []
        for event in before:
            told.feed(event)
        first = told.indices[-1] + 1 if told.indices else 0
        for index, step in enumerate(told.untold, first):
            new = list(regenerate.step_events(index, step))
            before += new
            for event in new:
                told.feed(event)
        whole = self._as_told(arrived)
        return Last(_completed(arrived, whole), whole, before=tuple(Arrived(event) for event in before))

    def by_word(self, body: dict[str, Any]) -> Last:
        """The end by what upstream says of the whole, with what was not told yet of it."""
        word = with_errors_retold({**body, "steps": self._made_of(body)}, self._job.told)
        whole, missing = rest_of(self._publisher.assembler, word)
        if missing is None:
            message = "The stream cannot be continued: upstream tells its beginning in another way. GET has the whole."
            event = {"event_type": "error", "error": {"code": BadGateway.code, "message": message}}
            return Last(Arrived(event), whole, broken=True, made_here=True)
        for event in missing:
            self._publisher.assembler.feed(event)
        # Where nothing is missing the end has been assembled, and is still to be told.
        *before, last = [Arrived(event) for event in missing or [regenerate.last_event(whole)]]
        if self._publisher.assembler.terminal:
            whole = self._as_told(last)
        return Last(last, whole, before=tuple(before), made_here=True)

    def lost(self, error: Exception, held: Sequence[Arrived]) -> Last:
        """The end of what upstream has lost; ``held`` are the error events with which it said so itself."""
        code, message = self._reason(error, declared=bool(held))
        event = (
            held[-1]
            if held
            else Arrived({"event_type": "error", "error": {"code": code, "message": message}})
        )
        logger.warning("the stream of %s is lost: %s", ids.to_text(self._job.intent.id), message)
        whole = failed(self._so_far(), (code, message))
        # What upstream itself declared is an end like any other; a loss must not look like one.
        return Last(event, whole, broken=not held, cut=True, before=tuple(held[:-1]), made_here=True)

    async def cancelled(self, told: dict[str, Any] | None) -> Last:
        """End upstream's work, unless it has ``told`` how it stands, and the interaction with what came of it."""
        if told is None:
            told = await cancelled_upstream(self._client, self._job, self._feed.upstream_id)
        if told is not None:
            whole = {**told, "steps": self._made_of(told)}
            if remainder(self._publisher.assembler, whole) is not None:
                return self.by_word(told)
        so_far = {**self._so_far(), "updated": timestamp(now()), "status": "cancelled"}
        if told is not None and (usage := told.get("usage")):
            # Upstream may show less of the steps than it has told, and knows best what they cost.
            so_far["usage"] = usage
        return self.by_word(so_far)

    async def given_up(self) -> Last:
        """End an interaction that has run for too long, with what came of it (contract 3.4)."""
        told = await cancelled_upstream(self._client, self._job, self._feed.upstream_id)
        so_far = self._so_far()
        if told is not None and (usage := told.get("usage")):
            so_far["usage"] = usage
        whole = failed(so_far, GIVEN_UP)
        event = {"event_type": "error", "error": whole["errors"][0]}
        return Last(Arrived(event), whole, broken=True, cut=True, made_here=True)

    def _so_far(self) -> dict[str, Any]:
        """What came, with what is known of the interaction though upstream has not told it."""
        intent, told = self._job.intent, self._publisher.assembler.result()
        return identified(told, intent.created_at, self._job.route.model, intent.agent)

    def _made_of(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        return made_beside(body, self._job.call.envelope.body, self._publisher.assembler.steps)

    def _as_told(self, last: Arrived) -> dict[str, Any]:
        status = self._publisher.assembler.status or "completed"
        if not outcomes.is_terminal(status):
            status = TERMINAL_EVENTS.get(str(last.body.get("event_type")), "completed")
        told = {**self._publisher.assembler.result(), "status": status}
        error = last.body.get("error")
        if status == "failed" and "errors" not in told and isinstance(error, dict) and error:
            told["errors"] = [error]
        return with_errors_retold(told, self._job.told)

    def _reason(self, error: Exception, *, declared: bool) -> tuple[str, str]:
        failure = as_service_error(error) if isinstance(error, TransportError) else error
        code, message = getattr(failure, "code", BadGateway.code), str(failure)
        if declared and (told := self._publisher.assembler.error) is not None:
            code, message = str(told.get("code", "api_error")), str(told.get("message", message))
        return code, self._job.told(message)


def _completed(last: Arrived, told: dict[str, Any]) -> Arrived:
    """The end as ``interaction.completed`` with a status: clients know no other form of one (contract 4.2)."""
    given = last.body.get("interaction")
    if (
        last.body.get("event_type") == _COMPLETED
        and isinstance(given, dict)
        and given.get("status") == told["status"]
    ):
        return last
    interaction = {name: value for name, value in told.items() if name not in ("steps", "usage")}
    if isinstance(given, dict) and given.get("usage"):
        interaction["usage"] = given["usage"]
    return Arrived({**last.body, "event_type": _COMPLETED, "interaction": interaction}, None, last.cursor)
