"""Taking up the stream of an interaction that nobody reads: from its log and upstream's cursor to a reader."""

from __future__ import annotations

from typing import Any

import orjson

from service.errors import ServiceError, UpstreamError
from service.interactions.calls import Call, Job, Principal
from service.interactions.ending import assembled
from service.interactions.imported import is_adopted
from service.interactions.inquiry import is_final_refusal
from service.interactions.log import EventLog
from service.interactions.media import MediaKeeper
from service.interactions.publisher import Told
from service.interactions.reader import Reader
from service.store.records import Intent, Record
from service.store.store import Store
from service.upstream.client import GeminiClient, Reply
from service.upstream.deployments import Deployment, Route
from service.upstream.response import Response
from service.upstream.routing.router import Router
from service.wire import envelope
from service.wire.revision import Revision


class NoStream(Exception):
    """Upstream has no stream of this interaction, or none that goes on where the log ends."""


class Attaching:
    """Makes readers that go on where a log ends."""

    def __init__(
        self,
        store: Store,
        client: GeminiClient,
        events: EventLog,
        upstream_settle: float,
        media: MediaKeeper | None,
        router: Router,
    ) -> None:
        self._store = store
        self._client = client
        self._events = events
        self._upstream_settle = upstream_settle
        self._media = media
        self._router = router

    async def reader(self, record: Record, deployment: Deployment, patience: float) -> Reader | Reply | None:
        """A reader that goes on with the stream, or upstream's word instead of one.

        None when upstream cannot be asked now. Raises :class:`NoStream` when asking again is of no use. After
        ``patience`` seconds the reader gives the interaction up.
        """
        if is_adopted(record.attempts):
            # Upstream's own words are its record, and its usage is not ours to count.
            raise NoStream
        logged = await assembled(self._store.events, record)
        last = logged.last
        await self._store.events.trim(record.id, last, record.owner_id)
        end, cursor = await self._store.events.end(record.id)
        if end != last or (last and cursor is None) or not (last or record.background):
            raise NoStream
        raw = await self._store.request_of(record.id)
        if raw is None:
            # It was deleted, and what is left to do needs no stream.
            raise NoStream
        job = _job(record, raw, deployment)
        opened = await self._open(deployment, record.upstream_id or "", cursor)
        if not isinstance(opened, Response):
            return opened
        job.stay = self._router.stay(deployment.id)
        reader = Reader(
            job,
            self._store,
            self._client,
            self._events,
            self._upstream_settle,
            self._media,
            told=Told(logged.told, last, cursor, record.upstream_id, logged.newest),
        )
        return reader.take(opened, patience)

    async def _open(
        self, deployment: Deployment, upstream_id: str, cursor: str | None
    ) -> Response | Reply | None:
        try:
            return await self._client.attach(deployment, upstream_id, cursor)
        except UpstreamError as error:
            if is_final_refusal(error):
                raise NoStream from error
            return None
        except ServiceError:
            return None


def _job(record: Record, raw: bytes, deployment: Deployment) -> Job:
    """The job of a stored interaction, as far as its reader needs it."""
    call = Call(Principal(record.project_id), raw, envelope.parse(raw), Revision.EITHER)
    intent = Intent(
        id=record.id,
        project_id=record.project_id,
        key_id=None,
        previous_id=record.previous_id,
        root_id=record.root_id,
        depth=record.depth,
        created_at=record.created_at,
        revision=0,
        stream=record.stream,
        background=record.background,
        store=record.store,
        model_requested=record.model_requested,
        agent=record.agent,
        labels=None,
        deployment_id=record.deployment_id,
        upstream_stored=record.upstream_stored,
        owner_id=record.owner_id,
    )
    attempts: list[dict[str, Any]] = orjson.loads(record.attempts) if record.attempts else []
    return Job(
        call,
        intent,
        Route(deployment, None),
        None,
        {},
        b"",
        refers_upstream=False,
        attempts=attempts,
        first_byte_at=record.first_byte_at,
    )
