"""What a stream brings: pieces of bytes become events, and those are told, held back, or known already.

One for each interaction that is read, through as many streams as that takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from service.errors import InvalidRequest
from service.interactions.arriving import Arrived, MalformedStream, arrived_as, plain_delta
from service.interactions.calls import Job
from service.interactions.closing import Closing
from service.interactions.conclusion import Conclusion, Last
from service.interactions.feed import Feed
from service.interactions.log import MOST_WAITING, StreamLog
from service.interactions.publisher import Publisher, Told
from service.interactions.recent import Recent
from service.interactions.resent import Resent
from service.interactions.withheld import Withheld
from service.store.records import now
from service.upstream.connection import Flow
from service.wire import codec, sse
from service.wire.assembler import TERMINAL_EVENTS

#: A stream that is larger is nobody's answer.
_LARGEST_STREAM: Final = 512 * 1024 * 1024
#: Events of one piece that are told together: the first of them waits until the last has been looked at.
_TOGETHER: Final = 16
_JSON: Final = (b"{", b"[")
_OF_A_STEP: Final = frozenset({"step.start", "step.delta", "step.stop"})


class Intake:
    """Takes what the streams of one interaction bring, and tells it."""

    __slots__ = (
        "_again",
        "_closing",
        "_conclusion",
        "_continues",
        "_feed",
        "_job",
        "_log",
        "_plainly",
        "_publisher",
        "_received",
        "_resent",
        "_seen",
        "_splitter",
        "_status",
        "_unnamed",
        "last",
        "resumed",
        "withheld",
    )

    def __init__(
        self,
        job: Job,
        feed: Feed,
        log: StreamLog,
        publisher: Publisher,
        closing: Closing,
        conclusion: Conclusion,
        told: Told,
        *,
        continues: bool,
    ) -> None:
        self._job = job
        self._feed = feed
        self._log = log
        self._publisher = publisher
        self._closing = closing
        self._conclusion = conclusion
        #: Whether it goes on where another process has stopped.
        self._continues = continues
        self._status: str | None = None
        self._seen = Recent.of(told.cursor)
        self._resent = Resent(told.newest)
        #: Errors that are no end unless the stream ends with them.
        self.withheld = Withheld()
        #: Whether the stream was taken up again and has brought nothing yet.
        self.resumed = False
        #: Whether plain deltas are told as they come.
        self._plainly = False
        self._splitter = sse.Splitter()
        self._received = 0
        self._again = False
        #: The last block that is no part of a stream of events, but may be JSON.
        self._unnamed = b""
        #: What the interaction ends with, once that has come; it is not told.
        self.last: Last | None = None

    def begin(self, *, again: bool) -> None:
        """A stream begins, ``again`` if there was one before it."""
        self._splitter = sse.Splitter()
        self._received = 0
        self._unnamed = b""
        self._again = again
        if self._resent.again():
            self._seen = Recent.of(self._publisher.cursor)
        self._plainly = self._tells_plainly

    def consume(self, chunk: bytes) -> Flow:
        """Tell the events that a piece completes; whether there may be more."""
        self._received += len(chunk)
        if self._received > _LARGEST_STREAM:
            raise MalformedStream(f"Upstream sent more than {_LARGEST_STREAM} bytes.")
        if self._plainly and self._splitter.is_between and (body := plain_delta(chunk)) is not None:
            # Nearly every event comes alone, and is this.
            self._publisher.publish_delta(chunk, body)
        elif self._ends_with(chunk):
            return Flow.ENOUGH
        return Flow.MORE if self._log.waiting <= MOST_WAITING else Flow.HOLD

    def end(self) -> None:
        """The stream has ended: an end of the interaction that no blank line follows is one all the same."""
        try:
            arrived = arrived_as(self._splitter.rest)
        except MalformedStream:
            return
        if arrived is not None and arrived.body.get("event_type") in TERMINAL_EVENTS:
            self._ends_with(sse.END)

    def rest(self) -> Any:
        """What a stream has ended with that is no event, if that is JSON; None for anything else."""
        try:
            return codec.loads_foreign(self._splitter.rest.strip() or self._unnamed)
        except InvalidRequest:
            return None

    def _ends_with(self, chunk: bytes) -> bool:
        """Tell the events that a chunk completes; whether the interaction ends with one of them."""
        blocks = self._splitter.feed(chunk)
        if len(blocks) < 2:
            return self._end_among(blocks)
        for begin in range(0, len(blocks), _TOGETHER):
            with self._feed.together():
                if self._end_among(blocks[begin : begin + _TOGETHER]):
                    return True
        return False

    def _end_among(self, blocks: Sequence[bytes]) -> bool:
        for block in blocks:
            if self._plainly and (body := plain_delta(event := block + sse.END)) is not None:
                self._publisher.publish_delta(event, body)
                continue
            arrived = self._arrived(block)
            for held in self._resent.new(arrived) if arrived is not None else ():
                new = self._numbered(held)
                if self._take(new):
                    self.last = self._closing.by_event(new)
                    return True
            self._plainly = self._tells_plainly
        return False

    @property
    def _tells_plainly(self) -> bool:
        """Whether a plain delta is told as it comes: nothing that came before it may yet be told otherwise."""
        return not (self.withheld or self.resumed or self._resent.holds or self._job.first_byte_at is None)

    def _arrived(self, block: bytes) -> Arrived | None:
        arrived = arrived_as(block)
        if arrived is None:
            if block.startswith(_JSON):
                self._unnamed = block
            return None
        if arrived.cursor is not None and not self._seen.is_new(arrived.cursor) and self._again:
            self._resent.known()
            return None
        told = self._publisher.assembler
        if (
            arrived.body.get("event_type") == "interaction.created"
            and told.begun
            and (self._again or told.indices)
        ):
            self._publisher.cursor = None
            raise MalformedStream("Upstream began the stream anew instead of going on with it.")
        return arrived

    def _numbered(self, arrived: Arrived) -> Arrived:
        """The event of a step with its index as a number, so that everybody takes it for the same step."""
        if arrived.body.get("event_type") not in _OF_A_STEP or type(arrived.body.get("index")) is int:
            return arrived
        index = self._publisher.assembler.index_of(arrived.body)
        return Arrived({**arrived.body, "index": index}, None, arrived.cursor)

    def _take(self, arrived: Arrived) -> bool:
        """Tell an event, unless it is to be held back; whether the interaction ends with it."""
        if self._job.first_byte_at is None:
            self._job.first_byte_at = now()
        for error in self.withheld.before(arrived, self._publisher.cursor, resumed=self.resumed):
            self._publisher.publish(error)
        self.resumed = False
        told, body = self._publisher.assembler, arrived.body
        if body.get("event_type") == "step.start" and told.has_started(body["index"]):
            # What was told of it could not be taken back, and to go on behind this event would be to leave it out.
            self._publisher.cursor = None
            raise MalformedStream(f"Upstream began the step {body['index']} twice.")
        told.feed(body)
        if told.terminal:
            self._feed.upstream_id = told.upstream_id or self._feed.upstream_id
            return True
        if arrived.body.get("event_type") == "error":
            self.withheld.withhold(arrived)
            return False
        known = self._feed.upstream_id
        self._publisher.publish(arrived)
        self._feed.upstream_id = self._publisher.assembler.upstream_id or known
        if self._feed.upstream_id != known:
            self._conclusion.begin_soon()
        elif known is None:
            self._feed.release()
        status, self._status = self._status, self._publisher.assembler.status
        if self._continues and self._status is not None and self._status != status:
            self._conclusion.note_status(self._status)
        return False
