"""From upstream's events to an interaction's own: under our ids, numbered, assembled, published and logged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from service.interactions.arriving import DELTA_END, Arrived
from service.interactions.calls import Job
from service.interactions.feed import Feed
from service.interactions.log import StreamLog
from service.interactions.render import event_with_our_ids
from service.store.kept_events import Event
from service.wire import codec, event_ids, losses
from service.wire.assembler import Assembler
from service.wire.diagnostics import retold, with_errors_retold

#: Deltas that are assembled at a time: one after another they cost a fraction of what each costs alone, and until then
#: each takes half a kilobyte.
_AT_A_TIME: Final = 8
#: Where our event id goes in a plain delta.
_BEHIND: Final = -len(DELTA_END)


@dataclass(slots=True)
class Told:
    """What of an interaction was told before: all that is known of it, and where it ends."""

    assembler: Assembler = field(default_factory=Assembler)
    seq: int = 0
    #: Upstream's cursor behind the last event, and its id.
    cursor: str | None = None
    upstream_id: str | None = None
    #: The last events, as upstream told them.
    newest: Sequence[dict[str, Any]] = ()


class Publisher:
    """Publishes the events of one interaction in order, and knows what has been told so far."""

    __slots__ = ("_assembler", "_deltas", "_feed", "_job", "_log", "cursor")

    def __init__(self, job: Job, feed: Feed, log: StreamLog, told: Told) -> None:
        self._assembler = told.assembler
        self._deltas: list[dict[str, Any]] = []
        #: Upstream's cursor behind what was published; None while it gives none.
        self.cursor = told.cursor
        self._job = job
        self._feed = feed
        self._log = log
        log.on_written = feed.logged

    @property
    def assembler(self) -> Assembler:
        """The interaction as it has been told."""
        if self._deltas:
            self._assemble()
        return self._assembler

    def publish_delta(self, block: bytes, body: dict[str, Any]) -> None:
        """Tell a ``step.delta`` without an id of upstream, as the block it came in, up to its end."""
        seq = self._feed.seq + 1
        frame = b'%b,"event_id":"evt_%d"}\n\n' % (block[:_BEHIND], seq)
        self._feed.publish(seq, frame)
        self._log.append(seq, frame, None)
        self.cursor = None
        self._deltas.append(body)
        if len(self._deltas) >= _AT_A_TIME:
            self._assemble()

    def _assemble(self) -> None:
        self._assembler.feed_deltas(self._deltas)
        self._deltas.clear()

    def publish(self, arrived: Arrived) -> None:
        """Tell listeners an event, and log it soon."""
        event = self._event(self._feed.seq + 1, arrived)
        self._feed.publish(*event)
        self._log.append(*event, arrived.cursor)
        self.cursor = arrived.cursor

    def numbered(self, arrived: Sequence[Arrived], distance: int = 1, *, lost: bool = False) -> list[Event]:
        """Events as the next ones of this interaction, so far behind the last one; published by nobody yet.

        With ``lost`` the last of them says that upstream has lost the interaction.
        """
        events = [self._event(seq, one) for seq, one in enumerate(arrived, self._feed.seq + distance)]
        if lost:
            events[-1] = events[-1]._replace(frame=losses.marked(events[-1].frame))
        return events

    def _event(self, seq: int, arrived: Arrived) -> Event:
        body = self._translated(arrived.body)
        data = arrived.data if body is arrived.body else None
        if data is None:
            data = codec.dumps(body)
        return Event(seq, event_ids.with_event_id(data, body, event_ids.text(seq)))

    def _translated(self, body: dict[str, Any]) -> dict[str, Any]:
        """The event under our ids, and without the deployment's key, which upstream's errors may quote."""
        if "error" in body:
            body = {**body, "error": retold(body["error"], self._job.told)}
        if isinstance(interaction := body.get("interaction"), dict) and "errors" in interaction:
            body = {**body, "interaction": with_errors_retold(interaction, self._job.told)}
        intent = self._job.intent
        return event_with_our_ids(body, intent.id, intent.previous_id, self._job.webhooks)
